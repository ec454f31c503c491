"""What is asked of rows before they are tokenised: no copies, no benchmark questions, no broken characters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

from musician.runtime.errors import UserError

#: Below it the bands of `musician.data.quality.sketch` would miss pairs that are similar enough.
LEAST_SIMILARITY = 0.7


class Asked(Protocol):
    """A benchmark, as far as it is to be recognised."""

    name: str

    def questions(self) -> Iterable[Any]:
        """Its questions, each with `subject`, `index`, `stem` and `stored_options`."""
        ...


@dataclass(frozen=True)
class Quality:
    """Which rows are dropped, counted by reason, and whether characters are repaired. Nothing by default.

    Attributes:
        exact: drop a row whose text is that of an earlier row.
        melody: drop a row that differs from an earlier one in nothing but the key, title, bars, unit length and layout
            of the tunes in it.
        near_text: drop a row when so large a share of its runs of five words, or more, is that of an earlier row
            (Jaccard similarity, estimated to a standard error of 0.04 by 128 MinHash values); 0.7 to 1, null does not.
        against: drop a row that holds so large a `share` of the text, or of a melody in any key, of a question of these
            benchmarks; by name or as a list.
        share: see `against`.
        repair: repair text that was decoded in the wrong character set (`musician.data.quality.repair`).

    Raises:
        UserError: a share or similarity outside its range; something in `against` that asks no questions.
    """

    exact: bool = False
    melody: bool = False
    near_text: float | None = None
    against: Sequence[Asked] | Mapping[str, Asked] | None = None
    share: float = 0.5
    repair: bool = False

    def __post_init__(self) -> None:
        if self.near_text is not None and not LEAST_SIMILARITY <= self.near_text <= 1:
            raise UserError(f"data.quality.near_text={self.near_text} must be {LEAST_SIMILARITY} to 1, or null")
        if not 0 < self.share <= 1:
            raise UserError(f"data.quality.share={self.share} must be above 0, at most 1")
        for benchmark in self.benchmarks():
            if not benchmark.questions():
                raise UserError(
                    f"data.quality.against: '{benchmark.name}' asks no questions that could be recognised; remove it"
                )

    def benchmarks(self) -> list[Asked]:
        """The benchmarks of `against`."""
        found = self.against.values() if isinstance(self.against, Mapping) else self.against
        return list(found or ())

    def known_questions(self) -> dict[str, list[tuple[str, ...]]]:
        """Stem and options of each question, by benchmark; each once, however often it is asked."""
        return {
            benchmark.name: list(
                {(q.subject, q.index): (q.stem, *q.stored_options) for q in benchmark.questions()}.values()
            )
            for benchmark in self.benchmarks()
        }

    @property
    def compares(self) -> bool:
        """Whether rows must be seen before any is tokenised."""
        return bool(self.exact or self.melody or self.near_text or self.benchmarks())

    def reasons(self) -> list[str]:
        """Why a row may be dropped, in the order in which the reasons are looked for."""
        against = [f"holds a question of {benchmark.name}" for benchmark in self.benchmarks()]
        return [*against, "exact copy", "copy of a melody", "near copy of a text"]

    def identity(self) -> list[Any]:
        """What decides which rows stay, for cache keys: settings, questions and the versions of the libraries."""
        libraries = [version("rensa")] if self.near_text else []
        libraries += [version("ftfy")] if self.repair else []
        settings = [self.exact, self.melody, self.near_text, self.repair, libraries]
        return [*settings, self.share, self.known_questions()] if self.benchmarks() else settings
