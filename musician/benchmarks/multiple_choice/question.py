"""A multiple-choice question, free of the quirks of its data set, and what a scorer sees of a benchmark of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, TypeVar

from musician.runtime.errors import UserError, nearest

LETTERS = ("A", "B", "C", "D")
OPENCOMPASS: Final = "opencompass"
Style = Literal["opencompass", "lm_eval"]

T = TypeVar("T")


class _OfSubject(Protocol):
    @property
    def subject(self) -> str: ...


S = TypeVar("S", bound=_OfSubject)

Order = tuple[int, int, int, int]
STORED_ORDER: Order = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class Question:
    """One item with four options.

    Attributes:
        subject: the finest subset the data set knows.
        index: row in the data set's own test file (of the subject where there is one file each), counted from 0; it
            does not move when fewer subjects or rows are asked for.
        stem: the question as the prompt shows it.
        options: the four answers, as they are asked.
        answer: position of the right option, 0 to 3.
        repeat: which asking of this question it is, from 0. The askings of one question are alike in `subject` and
            `index`, and one item of the sample: standard errors cluster by it.
        order: which stored option is at each position.
    """

    subject: str
    index: int
    stem: str
    options: tuple[str, str, str, str]
    answer: int
    repeat: int = 0
    order: Order = STORED_ORDER

    def reordered(self, order: Order, repeat: int = 0) -> "Question":
        """Return a question in stored order with option `order[i]` at position i; its right answer moves along."""
        first, second, third, fourth = (self.options[place] for place in order)
        answer = order.index(self.answer)
        return replace(self, options=(first, second, third, fourth), answer=answer, repeat=repeat, order=order)

    @property
    def stored_options(self) -> tuple[str, ...]:
        """The four answers in the stored order."""
        return tuple(self.options[self.order.index(place)] for place in range(len(LETTERS)))


@dataclass(frozen=True, slots=True)
class Subset:
    """A named figure of a benchmark: which subjects it covers and how they are averaged.

    `micro` counts every question once; `macro` counts every subject once.
    """

    name: str
    subjects: tuple[str, ...]
    average: Literal["micro", "macro"] = "micro"


def subject_subsets(subjects: Sequence[str]) -> tuple[Subset, ...]:
    """Return a subset for each subject, and `all`."""
    return (*(Subset(subject, (subject,)) for subject in subjects), Subset("all", tuple(subjects)))


class QuestionSet(Protocol):
    """A benchmark of questions, as a scorer sees it; `musician.benchmarks.multiple_choice.base` describes the parts."""

    name: str
    version: int
    style: Style
    chat: bool
    num_fewshot: int
    subsets: Sequence[Subset]

    def questions(self) -> Sequence[Question]:
        """Return the questions in a fixed order."""
        ...

    def prompt(self, question: Question, num_fewshot: int | None = None) -> str:
        """Return the prompt up to `Answer:`."""
        ...


def fit_examples(
    benchmark: QuestionSet, question: Question, encode: Callable[[str, int], T], fits: Callable[[T], bool]
) -> T:
    """Encode a question with as many examples as fit, dropping the last first; without any it may be too long.

    Args:
        benchmark: whose question it is.
        question: to be asked.
        encode: from a prompt and the number of examples in it.
        fits: whether what was encoded is short enough.
    """
    for shots in range(benchmark.num_fewshot, 0, -1):
        encoded = encode(benchmark.prompt(question, shots), shots)
        if fits(encoded):
            return encoded
    return encode(benchmark.prompt(question, 0), 0)


def select_rows(questions: Iterable[Question], subjects: Sequence[str] | None, limit: int | None) -> list[Question]:
    """Keep the first `limit` questions of each of `subjects` (None: of all subjects, without limit), in order."""
    seen: Counter[str] = Counter()
    kept = []
    for question in questions:
        seen[question.subject] += 1
        if (subjects is None or question.subject in subjects) and (limit is None or seen[question.subject] <= limit):
            kept.append(question)
    return kept


def by_subject(items: Iterable[S]) -> dict[str, list[S]]:
    """Group questions or their records by subject, in order."""
    groups: dict[str, list[S]] = {}
    for item in items:
        groups.setdefault(item.subject, []).append(item)
    return groups


def check_subjects(subjects: Sequence[str] | None, known: Sequence[str], benchmark: str) -> None:
    """Refuse a subject that a benchmark does not have.

    Raises:
        UserError: naming the nearest one.
    """
    for subject in subjects or ():
        if subject not in known:
            raise UserError(f"{benchmark} has no subject '{subject}'{nearest(subject, known)}; it has {len(known)}")
