"""Theory: a synthetic multiple-choice benchmark made by program, of any length."""

from collections.abc import Sequence
from dataclasses import replace

from musician.benchmarks.multiple_choice.base import MultipleChoice, Scorer
from musician.benchmarks.multiple_choice.question import Question, by_subject
from musician.music.theory.items import make_items

THEORY_HINT = "Each question on music theory has four options, of which exactly one is right. Name its letter.\n"
USUAL_DIFFICULTY = 2
_OTHER_SEED = 7_919
_SPARE = 8


class Theory(MultipleChoice):
    """Questions on intervals, chords, keys, scales, meter, harmony and reading ABC, with answers that can be proved.

    SYNTHETIC: every question is made by rule from a seed. No model can have seen it in its training data, and another
    seed makes another test; but it asks what rules can decide, not what a teacher would ask, so never report it as
    MusicTheoryBench. A difficulty other than the usual one is part of the name.

    Args:
        per_topic: questions on each topic.
        seed: chooses the questions.
        difficulty: 1, 2 or 3.
        topics: names of the topics; None for all.
        tunes: ABC texts for the topics on real tunes, which are left out without any; only tunes never trained on.
        num_fewshot: solved examples before each question, of its topic and never among the questions.
        scorer: see `MultipleChoice`.

    Raises:
        UserError: an unknown topic or difficulty, or more questions than a topic has.
    """

    def __init__(
        self,
        per_topic: int = 20,
        seed: int = 0,
        difficulty: int = USUAL_DIFFICULTY,
        topics: Sequence[str] | None = None,
        tunes: Sequence[str] | None = None,
        num_fewshot: int = 0,
        scorer: Scorer | None = None,
    ) -> None:
        def make(per_topic: int, seed: int) -> list[Question]:
            items = make_items(per_topic, seed, difficulty, topics, tunes)
            found = by_subject(Question(each.topic, 0, each.stem, each.options, each.answer) for each in items)
            return [replace(each, index=index) for group in found.values() for index, each in enumerate(group)]

        questions = make(per_topic, seed)
        asked = {question.stem for question in questions}
        spare = make(4 * num_fewshot + _SPARE, seed + _OTHER_SEED) if num_fewshot else []
        examples = by_subject(each for each in spare if each.stem not in asked)
        name = "theory" if difficulty == USUAL_DIFFICULTY else f"theory_d{difficulty}"
        super().__init__(name, questions, examples=examples, num_fewshot=num_fewshot, scorer=scorer)

    def hint(self, subject: str) -> str:
        """Return the first line of every prompt."""
        return THEORY_HINT
