"""A multiple-choice question, free of its data set's quirks, and what a benchmark must offer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Protocol

from musician.runtime.errors import UserError

LETTERS = ("A", "B", "C", "D")
OPENCOMPASS: Final = "opencompass"

Order = tuple[int, int, int, int]
STORED_ORDER: Order = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class Question:
    """One item with four options.

    Attributes:
        benchmark: name of the benchmark it belongs to.
        subject: the finest subset the data set knows.
        index: row in the data set's own test file (of the subject where there is one file each), counted from 0; it
            does not move when fewer subjects or rows are asked for.
        stem: the question as the prompt shows it.
        options: the four answers, as they are asked.
        answer: position of the right option, 0 to 3.
        repeat: which asking of this question it is, from 0. The askings of one question are alike in `benchmark`,
            `subject` and `index`, and one item of the sample: standard errors cluster by it.
        order: which stored option stands at each place.
    """

    benchmark: str
    subject: str
    index: int
    stem: str
    options: tuple[str, str, str, str]
    answer: int
    repeat: int = 0
    order: Order = STORED_ORDER

    def reordered(self, order: Order, repeat: int = 0) -> "Question":
        """Return a question in stored order with option `order[i]` at place i; its right answer moves along."""
        first, second, third, fourth = (self.options[place] for place in order)
        answer = order.index(self.answer)
        return replace(self, options=(first, second, third, fourth), answer=answer, repeat=repeat, order=order)

    @property
    def stored_options(self) -> tuple[str, ...]:
        """The four answers in the stored order."""
        return tuple(self.options[self.order.index(place)] for place in range(len(LETTERS)))


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
        style: see `musician.benchmarks.multiple_choice.prompts`; without it `opencompass`.
        chat: put the prompt in the user's turn, the answer at the start of the assistant's; absent means False.
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


def style_of(benchmark: Any) -> str:
    """Return the prompt style of a benchmark."""
    return str(getattr(benchmark, "style", OPENCOMPASS))


def wants_chat(benchmark: Any) -> bool:
    """Return whether a benchmark is asked in the chat format."""
    return bool(getattr(benchmark, "chat", False))


def variant_name(name: str, style: str = OPENCOMPASS, shuffled: bool = False, chat: bool = False) -> str:
    """Return `name` with what is not usual about the prompt, so that no two protocols share a curve."""
    parts = [name, style if style != OPENCOMPASS else "", "shuffled" if shuffled else "", "chat" if chat else ""]
    return "_".join(part for part in parts if part)


def check_shots(num_fewshot: int, available: int, where: str) -> None:
    """Raise a UserError when a data set cannot show so many examples."""
    if num_fewshot < 0:
        raise UserError(f"num_fewshot={num_fewshot}; it must be 0 or more.")
    if num_fewshot > available:
        raise UserError(f"num_fewshot={num_fewshot}, but {where}.")


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
