"""A multiple-choice question, free of its data set's quirks, and what a benchmark must offer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

LETTERS = ("A", "B", "C", "D")


@dataclass(frozen=True, slots=True)
class Question:
    """One item with four options.

    Attributes:
        benchmark: name of the benchmark it belongs to.
        subject: the finest subset the data set knows.
        index: row in the data set's own test file (of the subject where there is one file each), counted from 0; it
            does not move when fewer subjects or rows are asked for.
        stem: the question as the prompt shows it.
        options: the four answers, in the stored order.
        answer: position of the right option, 0 to 3.
    """

    benchmark: str
    subject: str
    index: int
    stem: str
    options: tuple[str, str, str, str]
    answer: int


@dataclass(frozen=True, slots=True)
class Subset:
    """A named number of a benchmark: which subjects it covers and how they are averaged.

    `micro` counts every question once; `macro` counts every subject once.
    """

    name: str
    subjects: tuple[str, ...]
    average: Literal["micro", "macro"] = "micro"


class Benchmark(Protocol):
    """A list of questions and the text that asks them. It does not score.

    Attributes:
        name: first part of every result's name. A benchmark asked with another number of shots than usual says so in
            its name, so that zero- and few-shot results never share a curve.
        version: raised whenever the prompt text changes; results of different versions are not comparable.
        num_fewshot: solved examples shown before each question.
        subsets: the numbers to report. Each question counts in every subset that lists its subject.
    """

    name: str
    version: int
    num_fewshot: int
    subsets: Sequence[Subset]

    def questions(self) -> Sequence[Question]:
        """Return the questions in a fixed order."""
        ...

    def prompt(self, question: Question, num_fewshot: int | None = None) -> str:
        """Return the prompt up to and without the answer: it ends in `Answer:`, and ` A` to ` D` continue it.

        Args:
            question: one of `questions()`.
            num_fewshot: how many of the examples to show, the first ones; None for the benchmark's own number.
        """
        ...


def shots_name(name: str, num_fewshot: int, usual: int) -> str:
    """Return `name`, or `name_Nshot` when N is not the benchmark's usual number of shots."""
    return name if num_fewshot == usual else f"{name}_{num_fewshot}shot"


def select_rows(questions: Sequence[Question], subjects: Sequence[str] | None, limit: int | None) -> list[Question]:
    """Keep the first `limit` questions of each of `subjects` (None: of all subjects, without limit), in order."""
    seen: dict[str, int] = {}
    kept = []
    for question in questions:
        position = seen.get(question.subject, 0)
        seen[question.subject] = position + 1
        if (subjects is None or question.subject in subjects) and (limit is None or position < limit):
            kept.append(question)
    return kept
