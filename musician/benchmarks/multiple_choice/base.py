"""Benchmarks of multiple-choice questions: what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from musician.benchmarks.benchmark import Benchmark, Result
from musician.benchmarks.multiple_choice.likelihood import Likelihood
from musician.benchmarks.multiple_choice.prompts import checked_style, prompt_text
from musician.benchmarks.multiple_choice.question import (
    OPENCOMPASS,
    Question,
    QuestionSet,
    Style,
    Subset,
    subject_subsets,
)
from musician.benchmarks.shard import Shard
from musician.lm.language_model import LanguageModel
from musician.runtime.errors import UserError


class Scorer(Protocol):
    """How the questions are put to a model and answered."""

    def suffixes(self, chat: bool) -> list[str]:
        """Return what the name of the results says of the way of asking.

        Args:
            chat: whether the benchmark asks in the chat format.
        """
        ...

    def run(self, benchmark: QuestionSet, model: LanguageModel, shard: Shard) -> Result:
        """Ask every question; see `Benchmark.run`."""
        ...


class MultipleChoice(Benchmark):
    """A list of questions, the text that asks them, and a scorer.

    Another number of examples than usual, another style, shuffled options and the way of asking are part of the name.

    Args:
        name: first part of the name.
        questions: in a fixed order, the same on every rank.
        examples: solved questions by subject, for the beginning of a prompt.
        num_fewshot: how many of them to show.
        usual_shots: the number that the name does not mention.
        subsets: figures to report; None: each subject, and `all`. A question counts in every subset with its subject.
        style: see `musician.benchmarks.multiple_choice.prompts`.
        chat: put the prompt in the user's turn, the answer at the start of the assistant's.
        shuffled: the questions are asked with shuffled options.
        scorer: None for `Likelihood` with its defaults.

    Attributes:
        version: raised whenever the prompt text changes; results of different versions do not compare.

    Raises:
        UserError: an unknown style, more examples than there are, or no questions.
    """

    version = 1

    def __init__(  # noqa: PLR0913 - what a benchmark of questions consists of
        self,
        name: str,
        questions: Sequence[Question],
        *,
        examples: Mapping[str, Sequence[Question]] | None = None,
        num_fewshot: int = 0,
        usual_shots: int = 0,
        subsets: Sequence[Subset] | None = None,
        style: str = OPENCOMPASS,
        chat: bool = False,
        shuffled: bool = False,
        scorer: Scorer | None = None,
    ) -> None:
        self.style: Style = checked_style(style)
        self.chat = chat
        self.num_fewshot = num_fewshot
        self.scorer = scorer or Likelihood()
        self._questions = questions
        self._examples = examples or {}
        subjects = tuple(dict.fromkeys(question.subject for question in questions))
        self.subsets = subsets or subject_subsets(subjects)
        parts = [
            name,
            f"{num_fewshot}shot" if num_fewshot != usual_shots else "",
            style if style != OPENCOMPASS else "",
            "shuffled" if shuffled else "",
            *self.scorer.suffixes(chat),
        ]
        self.name = "_".join(part for part in parts if part)
        if num_fewshot < 0:
            raise UserError(f"{self.name}: num_fewshot={num_fewshot}; it must be 0 or more")
        for subject in subjects if num_fewshot else ():
            count = len(self._examples.get(subject, ()))
            if count < num_fewshot:
                raise UserError(f"{self.name}: num_fewshot={num_fewshot}, but '{subject}' has {count} examples")

    def questions(self) -> Sequence[Question]:
        """Return the questions in their order."""
        return self._questions

    def hint(self, subject: str) -> str:
        """Return the first lines of a prompt; none unless a benchmark has some."""
        return ""

    def prompt(self, question: Question, num_fewshot: int | None = None) -> str:
        """Return the prompt up to and without the answer: it ends in `Answer:`, and ` A` to ` D` continue it.

        Args:
            question: one of `questions()`.
            num_fewshot: how many of the examples to show, the first ones; None for the benchmark's own number.
        """
        shots = self.num_fewshot if num_fewshot is None else num_fewshot
        examples = self._examples.get(question.subject, ())[:shots]
        return prompt_text(self.hint(question.subject), examples, question, self.style)

    def run(self, model: LanguageModel, shard: Shard) -> Result:
        """Ask every question; see `Benchmark.run`."""
        if not self.questions():
            raise UserError(f"benchmark '{self.name}' has no questions; check its subjects and limit.")
        return self.scorer.run(self, model, shard)
