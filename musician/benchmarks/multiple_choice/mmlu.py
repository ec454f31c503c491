"""MMLU: 14,042 questions in 57 subjects (Hendrycks et al., arXiv 2009.03300)."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from musician.benchmarks.hub import advice, hub_folder, split_files, split_rows
from musician.benchmarks.multiple_choice.base import MultipleChoice, Scorer
from musician.benchmarks.multiple_choice.prompts import mmlu_hint
from musician.benchmarks.multiple_choice.question import (
    LETTERS,
    OPENCOMPASS,
    Question,
    Subset,
    by_subject,
    check_subjects,
    select_rows,
)
from musician.runtime.errors import UserError

USUAL_SHOTS = 5

# Anatomy is under stem as in OpenCompass and lm-eval; Hendrycks et al. have it under other.
CATEGORY_SUBJECTS = {
    "humanities": "formal_logic high_school_european_history high_school_us_history high_school_world_history "
    "international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory "
    "professional_law world_religions",
    "other": "business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing "
    "medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology",
    "social_sciences": "econometrics high_school_geography high_school_government_and_politics "
    "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
    "professional_psychology public_relations security_studies sociology us_foreign_policy",
    "stem": "abstract_algebra anatomy astronomy college_biology college_chemistry college_computer_science "
    "college_mathematics college_physics computer_security conceptual_physics electrical_engineering "
    "elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science "
    "high_school_mathematics high_school_physics high_school_statistics machine_learning",
}
CATEGORIES = {category: tuple(subjects.split()) for category, subjects in CATEGORY_SUBJECTS.items()}
SUBJECTS = tuple(sorted(subject for subjects in CATEGORIES.values() for subject in subjects))


class MMLU(MultipleChoice):
    """MMLU: the first development rows of the subject in file order, then the question.

    Results: `macro` (mean of the subjects, OpenCompass' `mmlu`), `micro` (mean of the questions), the four categories
    (means of their subjects) and each subject.

    Args:
        data_dir: folder with the official `{dev,test}/{subject}_{split}.csv`; None reads the hub's copy.
        hub_id: the data set on the hub.
        num_fewshot: 5 (named `mmlu`) or fewer (`mmlu_0shot` ...).
        subjects: some of the 57; None for all.
        limit: only the first rows of each subject.
        style: `opencompass` or `lm_eval` (named `mmlu_lm_eval`); see `musician.benchmarks.multiple_choice.prompts`.
        chat: ask in the chat format (`mmlu_chat`).
        scorer: see `MultipleChoice`.

    Raises:
        UserError: missing or malformed data, an unknown subject or style, more shots than development rows.
    """

    def __init__(
        self,
        data_dir: str | Path | None = None,
        hub_id: str = "cais/mmlu",
        num_fewshot: int = USUAL_SHOTS,
        subjects: Sequence[str] | None = None,
        limit: int | None = None,
        style: str = OPENCOMPASS,
        chat: bool = False,
        scorer: Scorer | None = None,
    ) -> None:
        check_subjects(subjects, SUBJECTS, "MMLU")
        wanted = SUBJECTS if subjects is None else tuple(sorted(set(subjects)))
        read = read_csv_folder if data_dir else read_hub
        source = str(data_dir or hub_id)
        super().__init__(
            "mmlu",
            select_rows(read(source, "test", wanted), None, limit),
            examples=by_subject(read(source, "dev", wanted)) if num_fewshot else None,
            num_fewshot=num_fewshot,
            usual_shots=USUAL_SHOTS,
            subsets=subsets(wanted),
            style=style,
            chat=chat,
            scorer=scorer,
        )

    def hint(self, subject: str) -> str:
        """Return the first lines of a prompt, which name the subject."""
        return mmlu_hint(subject, self.style)


def subsets(subjects: Sequence[str]) -> tuple[Subset, ...]:
    """Return the averages over `subjects`, the categories that occur among them, and each subject."""
    categories = {name: tuple(s for s in members if s in subjects) for name, members in CATEGORIES.items()}
    return (
        Subset("macro", tuple(subjects), "macro"),
        Subset("micro", tuple(subjects), "micro"),
        *(Subset(name, members, "macro") for name, members in categories.items() if members),
        *(Subset(subject, (subject,)) for subject in subjects),
    )


def read_csv_folder(folder: str, split: str, subjects: Sequence[str]) -> list[Question]:
    """Read the official CSV files of a split, subject after subject.

    Raises:
        UserError: files are missing (it names how many and the first).
    """
    paths = {subject: Path(folder) / split / f"{subject}_{split}.csv" for subject in subjects}
    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        raise UserError(
            f"MMLU: {len(missing)} of {len(paths)} files are missing, the first is {missing[0]}. Unpack "
            "https://people.eecs.berkeley.edu/~hendrycks/data.tar and point data_dir at the folder with dev/ and test/."
        )
    return [question for subject, path in paths.items() for question in read_csv(path, subject)]


def read_csv(path: Path, subject: str) -> Iterator[Question]:
    """Yield the rows of a file without header: question, four options, answer letter; cells are kept as they are.

    Raises:
        UserError: a row has another shape (a header, integer answers, a cut file).
    """
    # Without newline="" on purpose: the original's reader also turns the one \r\n inside a cell into \n.
    with path.open(encoding="utf-8") as file:
        for index, row in enumerate(csv.reader(file)):
            if len(row) != 6 or row[5] not in LETTERS:
                raise UserError(
                    f"{path}: row {index + 1} is not 'question,A,B,C,D,letter' without header but {row[:7]!r:.120}; "
                    "use the official files."
                )
            yield Question(subject, index, row[0], (row[1], row[2], row[3], row[4]), LETTERS.index(row[5]))


def read_hub(hub_id: str, split: str, subjects: Sequence[str]) -> list[Question]:
    """Read a split of the hub's `all` configuration, subject after subject.

    Raises:
        UserError: it is neither cached nor reachable, or lacks a subject.
    """
    folder = hub_folder(hub_id, ["all/dev-*", "all/test-*"]) / "all"
    found = by_subject(hub_questions(split_rows(split_files(folder, split))))
    missing = [subject for subject in subjects if subject not in found]
    if missing:
        raise UserError(
            f"{folder} has no {split} rows of {len(missing)} subjects, the first is '{missing[0]}'. {advice(hub_id)}"
        )
    return [question for subject in subjects for question in found[subject]]


def hub_questions(rows: Iterable[dict[str, Any]]) -> Iterator[Question]:
    """Yield questions from rows with the columns question, subject, choices and answer (0 to 3)."""
    counts: dict[str, int] = {}
    for row in rows:
        subject, (first, second, third, fourth) = row["subject"], row["choices"]
        index = counts.setdefault(subject, 0)
        counts[subject] += 1
        yield Question(subject, index, row["question"], (first, second, third, fourth), row["answer"])
