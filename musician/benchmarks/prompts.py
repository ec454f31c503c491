"""The prompt text of OpenCompass' perplexity mode, to the character.

Source: `configs/datasets/{mmlu,music_theory_bench}` of the evaluation code released with ChatMusician (arXiv
2402.16153), where the template, `FixKRetriever` (separator and end of the examples: one newline each) and
`ZeroRetriever` together give the strings below.
"""

from collections.abc import Sequence

from musician.benchmarks.question import LETTERS, Question

MUSIC_THEORY_HINT = (
    "Read the following questions from the four options (A, B, C and D) given in each question. "
    "Choose the best option.\n"
)
TUNE_THEORY_HINT = "Answer the question about music in ABC notation with one of its four options.\n"


def mmlu_hint(subject: str) -> str:
    """Return the first lines of an MMLU prompt; the two spaces after "about" are the original's."""
    return f"The following are multiple choice questions (with answers) about  {subject.replace('_', ' ')}.\n\n"


def question_block(question: Question) -> str:
    """Return the question and its options, up to and without the answer."""
    options = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=True))
    return f"{question.stem}\n{options}\nAnswer:"


def prompt_text(hint: str, examples: Sequence[Question], question: Question) -> str:
    """Return hint, solved examples each followed by a blank line, and the question to answer."""
    solved = "".join(f"{question_block(example)} {LETTERS[example.answer]}\n\n" for example in examples)
    return hint + solved + question_block(question)
