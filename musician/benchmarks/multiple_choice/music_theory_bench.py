"""MusicTheoryBench: college-level music theory, 269 knowledge and 98 reasoning questions (arXiv 2402.16153)."""

import logging
import random
from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from musician.benchmarks.hub import advice, hub_folder, split_files, split_rows
from musician.benchmarks.multiple_choice.base import MultipleChoice, Scorer
from musician.benchmarks.multiple_choice.prompts import music_theory_hint
from musician.benchmarks.multiple_choice.question import (
    LETTERS,
    OPENCOMPASS,
    STORED_ORDER,
    Order,
    Question,
    check_subjects,
    select_rows,
)
from musician.runtime.errors import UserError

logger = logging.getLogger(__name__)

SUBJECTS = ("knowledge", "reasoning")
UNLABELLED = "unlabelled"
ORDERS: tuple[Order, ...] = tuple(permutations(STORED_ORDER))  # type: ignore[arg-type]
SCORE_BELOW = "Use the example below to answer the question that follows."


class MusicTheoryBench(MultipleChoice):
    """MusicTheoryBench, as ChatMusician's released evaluation asks it (stored order) or as its paper reports it.

    The paper's number is the mean accuracy over five shuffles of the options, with unknown seeds: `option_shuffles=5`,
    named `mtb_shuffled`. Each question is then asked five times, so micro accuracy is that mean; the askings of one
    question share `index` and differ in `repeat`.

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
        style: `opencompass` or `lm_eval` (`mtb_lm_eval`); see `musician.benchmarks.multiple_choice.prompts`.
        chat: ask in the chat format (`mtb_chat`).
        option_shuffles: ask each question with so many different orders of its options; 0 for the stored order, at most
            24, which is all of them. The examples keep their stored order.
        shuffle_seed: chooses the orders. Those of a question depend on this and its row alone.
        scorer: see `MultipleChoice`.

    Raises:
        UserError: missing data, an unknown subject or style, more shots than development rows, too many shuffles.
    """

    def __init__(  # noqa: PLR0913 - the signature is the schema of conf/benchmark/music_theory_bench.yaml
        self,
        data_dir: str | Path | None = None,
        hub_id: str = "m-a-p/MusicTheoryBench",
        num_fewshot: int = 0,
        subjects: Sequence[str] | None = None,
        limit: int | None = None,
        style: str = OPENCOMPASS,
        chat: bool = False,
        option_shuffles: int = 0,
        shuffle_seed: int = 0,
        scorer: Scorer | None = None,
    ) -> None:
        check_subjects(subjects, SUBJECTS, "MusicTheoryBench")
        folder = Path(data_dir) if data_dir else hub_folder(hub_id, ["data/dev-*", "data/test-*"])
        questions = select_rows(load_split(folder, "test", hub_id), subjects, limit)
        if option_shuffles:
            questions = shuffled(questions, option_shuffles, shuffle_seed)
        examples = load_split(folder, "dev", hub_id) if num_fewshot else []
        super().__init__(
            "mtb",
            questions,
            examples={question.subject: examples for question in questions},
            num_fewshot=num_fewshot,
            style=style,
            chat=chat,
            shuffled=bool(option_shuffles),
            scorer=scorer,
        )

    def hint(self, subject: str) -> str:
        """Return the first lines of every prompt."""
        return music_theory_hint(self.style)


def shuffled(questions: Iterable[Question], shuffles: int, seed: int) -> list[Question]:
    """Return each question in `shuffles` different orders of its options, drawn for it alone."""
    if not 0 < shuffles <= len(ORDERS):
        raise UserError(f"option_shuffles={shuffles}; four options have {len(ORDERS)} orders, and 0 is the stored one.")
    return [
        question.reordered(order, repeat)
        for question in questions
        for repeat, order in enumerate(drawn_orders(question.index, seed)[:shuffles])
    ]


def drawn_orders(index: int, seed: int) -> list[Order]:
    """Return all orders of four options in an order drawn for row `index`; more shuffles keep the first ones."""
    orders = list(ORDERS)
    random.Random(f"{seed}:{index}").shuffle(orders)
    return orders


def load_split(folder: Path, split: str, hub_id: str) -> list[Question]:
    """Read a split and warn, with the row numbers, about rows that cannot be asked or that name no subject.

    Raises:
        UserError: the folder has no file of this split, or not one usable row.
    """
    files = split_files(folder, split)
    if not files:
        raise UserError(
            f"MusicTheoryBench: needs {split}*.parquet or {split}*.jsonl; none in {folder} or {folder / 'data'}. "
            + advice(hub_id)
        )
    questions, unusable = [], []
    for index, row in enumerate(split_rows(files)):
        problem = row_problem(row)
        if problem:
            unusable.append(f"row {index} ({problem})")
            continue
        first, second, third, fourth = (row["options"][letter] for letter in LETTERS)
        subject, answer = row.get("subject") or UNLABELLED, LETTERS.index(row["answer"])
        questions.append(Question(subject, index, row_stem(row), (first, second, third, fourth), answer))
    if unusable:
        logger.warning("mtb %s: left out %d unusable rows: %s", split, len(unusable), "; ".join(unusable))
    unlabelled = [question.index for question in questions if question.subject == UNLABELLED]
    if unlabelled:
        logger.warning("mtb %s: %d rows name no subject: %s", split, len(unlabelled), unlabelled)
    if not questions:
        raise UserError(
            f"no usable row in {', '.join(map(str, files))}: {'; '.join(unusable) or 'the files are empty'}."
        )
    return questions


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
