"""The prompt texts, to the character, in two styles.

`opencompass`: `configs/datasets/{mmlu,music_theory_bench}` of the evaluation code released with ChatMusician (arXiv
2402.16153), where the template, `FixKRetriever` (separator and end of the examples: one newline each) and
`ZeroRetriever` together give the strings below; MMLU's hint has two spaces after "about", and nothing is stripped.

`lm_eval`: the `mmlu` tasks of lm-evaluation-harness: one space, and every question stripped (its options are not). It
has no MusicTheoryBench task: in this style that benchmark borrows the stripping and the blank line below the hint.
"""

from collections.abc import Sequence
from typing import get_args

from musician.benchmarks.multiple_choice.question import LETTERS, OPENCOMPASS, Question, Style
from musician.runtime.errors import UserError, nearest

STYLES: tuple[Style, ...] = get_args(Style)

MUSIC_THEORY_HINT = (
    "Read the following questions from the four options (A, B, C and D) given in each question. "
    "Choose the best option.\n"
)


def checked_style(style: str) -> Style:
    """Return `style`; raise a UserError when it is none of `STYLES`."""
    if style not in STYLES:
        raise UserError(f"unknown prompt style '{style}'{nearest(style, STYLES)}; one of {', '.join(STYLES)}.")
    return style


def mmlu_hint(subject: str, style: Style = OPENCOMPASS) -> str:
    """Return the first lines of an MMLU prompt; the two spaces after "about" are the original's."""
    spaces = "  " if style == OPENCOMPASS else " "
    return f"The following are multiple choice questions (with answers) about{spaces}{subject.replace('_', ' ')}.\n\n"


def music_theory_hint(style: Style = OPENCOMPASS) -> str:
    """Return the first lines of a MusicTheoryBench prompt."""
    return MUSIC_THEORY_HINT if style == OPENCOMPASS else MUSIC_THEORY_HINT + "\n"


def question_block(question: Question, style: Style = OPENCOMPASS) -> str:
    """Return the question and its options, up to and without the answer."""
    stem = question.stem if style == OPENCOMPASS else question.stem.strip()
    options = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=True))
    return f"{stem}\n{options}\nAnswer:"


def prompt_text(hint: str, examples: Sequence[Question], question: Question, style: Style = OPENCOMPASS) -> str:
    """Return hint, solved examples each followed by a blank line, and the question to answer."""
    solved = "".join(f"{question_block(example, style)} {LETTERS[example.answer]}\n\n" for example in examples)
    return hint + solved + question_block(question, style)
