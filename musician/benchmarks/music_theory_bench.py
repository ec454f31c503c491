"""MusicTheoryBench: college-level music theory, 269 knowledge and 98 reasoning questions (arXiv 2402.16153)."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from musician.benchmarks.hub import advice, hub_folder, read_rows, split_files
from musician.benchmarks.prompts import MUSIC_THEORY_HINT, prompt_text
from musician.benchmarks.question import LETTERS, Question, Subset, select_rows, shots_name
from musician.errors import UserError, nearest

logger = logging.getLogger(__name__)

SUBJECTS = ("knowledge", "reasoning")
UNLABELLED = "unlabelled"
SCORE_BELOW = "Use the example below to answer the question that follows."


class MusicTheoryBench:
    """MusicTheoryBench in its stored option order, asked as ChatMusician's evaluation asks it.

    The five development rows are the examples of both subjects, although all of them are knowledge questions: that is
    the original's choice. They are never among the questions.

    Args:
        data_dir: folder with `dev*` and `test*` files (Parquet or JSON lines, also under `data/`) in the hub's schema;
            None reads the hub's copy.
        hub_id: the data set on the hub.
        num_fewshot: 0 (named `mtb`) up to the number of development rows (`mtb_5shot`).
        subjects: some of `knowledge` and `reasoning`; None for all rows, also those whose subject the file leaves empty
            (they are reported as `unlabelled` and count in `all`).
        limit: only the first rows of each subject.

    Raises:
        UserError: missing data, an unknown subject, more shots than development rows.
    """

    version = 1

    def __init__(
        self,
        data_dir: str | Path | None = None,
        hub_id: str = "m-a-p/MusicTheoryBench",
        num_fewshot: int = 0,
        subjects: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> None:
        check_subjects(subjects)
        self.name = shots_name("mtb", num_fewshot, usual=0)
        self.num_fewshot = num_fewshot
        folder = Path(data_dir) if data_dir else hub_folder(hub_id, ["data/dev-*", "data/test-*"])
        self._examples = load_split(folder, "dev", self.name, hub_id) if num_fewshot else []
        if num_fewshot > len(self._examples):
            raise UserError(f"num_fewshot={num_fewshot}, but {folder} has {len(self._examples)} usable dev rows.")
        self._questions = select_rows(load_split(folder, "test", self.name, hub_id), subjects, limit)
        present = tuple(dict.fromkeys(question.subject for question in self._questions))
        self.subsets: Sequence[Subset] = (
            *(Subset(subject, (subject,)) for subject in sorted(present)),
            Subset("all", present),
        )

    def questions(self) -> Sequence[Question]:
        """Return the usable test rows, in file order."""
        return self._questions

    def prompt(self, question: Question, num_fewshot: int | None = None) -> str:
        """Return the prompt up to `Answer:`; see `Benchmark.prompt`."""
        shots = self.num_fewshot if num_fewshot is None else num_fewshot
        return prompt_text(MUSIC_THEORY_HINT, self._examples[:shots], question)


def check_subjects(subjects: Sequence[str] | None) -> None:
    """Raise a UserError for a subject MusicTheoryBench does not have."""
    for subject in subjects or ():
        if subject not in SUBJECTS:
            raise UserError(
                f"MusicTheoryBench has no subject '{subject}'{nearest(subject, SUBJECTS)}; it has {SUBJECTS}."
            )


def load_split(folder: Path, split: str, benchmark: str, hub_id: str) -> list[Question]:
    """Read a split and warn, with the row numbers, about rows that cannot be asked or that name no subject.

    Raises:
        UserError: the folder has no file of this split, or not one usable row.
    """
    files = split_files(folder, split)
    if not files:
        raise UserError(
            f"MusicTheoryBench needs {split}*.parquet or {split}*.jsonl; none in {folder} or {folder / 'data'}. "
            + advice(hub_id)
        )
    questions, unusable = convert_rows((row for path in files for row in read_rows(path)), benchmark)
    if unusable:
        logger.warning("%s %s: left out %d unusable rows: %s", benchmark, split, len(unusable), "; ".join(unusable))
    unlabelled = [question.index for question in questions if question.subject == UNLABELLED]
    if unlabelled:
        logger.warning("%s %s: %d rows name no subject: %s", benchmark, split, len(unlabelled), unlabelled)
    if not questions:
        raise UserError(
            f"no usable row in {', '.join(map(str, files))}: {'; '.join(unusable) or 'the files are empty'}."
        )
    return questions


def convert_rows(rows: Iterable[dict[str, Any]], benchmark: str) -> tuple[list[Question], list[str]]:
    """Return the questions, and for each row that cannot be one its number and the reason."""
    questions, unusable = [], []
    for index, row in enumerate(rows):
        problem = row_problem(row)
        if problem:
            unusable.append(f"row {index} ({problem})")
            continue
        first, second, third, fourth = (row["options"][letter] for letter in LETTERS)
        answer = LETTERS.index(row["answer"])
        subject = row.get("subject") or UNLABELLED
        questions.append(Question(benchmark, subject, index, row_stem(row), (first, second, third, fourth), answer))
    return questions, unusable


def row_problem(row: dict[str, Any]) -> str | None:
    """Return why a row cannot be asked, or None."""
    if not row.get("stem"):
        return "no stem"
    options = row.get("options")
    if not isinstance(options, dict):
        return "options are not A to D"
    empty = [letter for letter in LETTERS if not str(options.get(letter) or "").strip()]
    if empty:
        return f"option {', '.join(empty)} empty"
    if row.get("answer") not in LETTERS:
        return f"answer is {row.get('answer')!r}"
    if row.get("subject") not in (*SUBJECTS, None, ""):
        return f"subject is {row['subject']!r}"
    return None


def row_stem(row: dict[str, Any]) -> str:
    """Return the question with its score appended, as the original's loader joins them.

    Only a row that has a score is stripped and loses the sentence that points to it.
    """
    if not row.get("abc_score"):
        return row["stem"]
    return row["stem"].replace(SCORE_BELOW, "").strip() + "\n" + row["abc_score"]
