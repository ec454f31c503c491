"""Theory: a synthetic multiple-choice benchmark made by program, as long as one likes."""

from collections.abc import Sequence

from musician.benchmarks.multiple_choice.prompts import prompt_text
from musician.benchmarks.multiple_choice.question import Question, Subset, shots_name
from musician.music.theory.items import make_items
from musician.runtime.errors import UserError

THEORY_HINT = "Each question on music theory has four options, of which exactly one is right. Name its letter.\n"
USUAL_DIFFICULTY = 2
_OTHER_SEED = 7_919
_SPARE = 8


class Theory:
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

    Raises:
        UserError: an unknown topic or difficulty, or more questions than a topic has.
    """

    version = 1

    def __init__(
        self,
        per_topic: int = 20,
        seed: int = 0,
        difficulty: int = USUAL_DIFFICULTY,
        topics: Sequence[str] | None = None,
        tunes: Sequence[str] | None = None,
        num_fewshot: int = 0,
    ) -> None:
        level = "theory" if difficulty == USUAL_DIFFICULTY else f"theory_d{difficulty}"
        self.name = shots_name(level, num_fewshot, usual=0)
        self.num_fewshot = num_fewshot
        self._made = (difficulty, topics, tunes)
        self._by_topic = self._questions(per_topic, seed)
        self._examples = self._shots(num_fewshot, seed + _OTHER_SEED)
        names = tuple(self._by_topic)
        self.subsets: Sequence[Subset] = (*(Subset(topic, (topic,)) for topic in names), Subset("all", names))

    def questions(self) -> Sequence[Question]:
        """Return the questions topic by topic."""
        return [question for group in self._by_topic.values() for question in group]

    def prompt(self, question: Question, num_fewshot: int | None = None) -> str:
        """Return the prompt up to `Answer:`; see `Benchmark.prompt`."""
        count = self.num_fewshot if num_fewshot is None else num_fewshot
        return prompt_text(THEORY_HINT, self._examples.get(question.subject, [])[:count], question)

    def _questions(self, per_topic: int, seed: int) -> dict[str, list[Question]]:
        """Make questions; each is numbered within its topic."""
        difficulty, topics, tunes = self._made
        found: dict[str, list[Question]] = {}
        for item in make_items(per_topic, seed, difficulty, topics, tunes):
            group = found.setdefault(item.topic, [])
            group.append(Question(self.name, item.topic, len(group), item.stem, item.options, item.answer))
        return found

    def _shots(self, count: int, seed: int) -> dict[str, list[Question]]:
        """Make the examples of each topic, without what is asked."""
        if count == 0:
            return {}
        asked = {question.stem for question in self.questions()}
        made = self._questions(4 * count + _SPARE, seed)
        fresh = {topic: [each for each in group if each.stem not in asked][:count] for topic, group in made.items()}
        for topic, group in fresh.items():
            if len(group) < count:
                raise UserError(f"theory: topic '{topic}' leaves no {count} examples; lower per_topic or num_fewshot")
        return fresh
