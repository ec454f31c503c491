"""TuneTheory: a synthetic multiple-choice set, made by rule from tunes the model has not trained on."""

from collections.abc import Sequence

from musician.benchmarks.prompts import TUNE_THEORY_HINT, prompt_text
from musician.benchmarks.question import Question, Subset
from musician.errors import UserError


class TuneTheory:
    """Questions whose answers follow from a tune's own notation: metre, key signature, intervals, bar arithmetic.

    SYNTHETIC: it needs no download, which makes it the benchmark of quick runs, but it measures notation arithmetic and
    not the music theory of MusicTheoryBench. Never report one as the other. Zero-shot only.

    Args:
        tunes: ABC texts of held-out tunes: the data module's validation or test tunes, never training ones.
        per_topic: questions of each topic.
        seed: fixes tunes, options and their order.

    Raises:
        UserError: no tunes, or none of them gives a question.
    """

    name = "tune_theory"
    version = 1
    num_fewshot = 0

    def __init__(self, tunes: Sequence[str], per_topic: int = 50, seed: int = 0) -> None:
        from musician.music.questions import make_questions

        made = make_questions(list(tunes), per_topic=per_topic, seed=seed)
        if not made:
            raise UserError(f"tune_theory: no question could be made from {len(tunes)} held-out tunes; give it more.")
        self._questions = []
        for index, item in enumerate(made):
            first, second, third, fourth = item.options
            options = (first, second, third, fourth)
            self._questions.append(Question(self.name, item.topic, index, item.stem, options, item.answer))
        topics = tuple(sorted({question.subject for question in self._questions}))
        self.subsets: Sequence[Subset] = (*(Subset(topic, (topic,)) for topic in topics), Subset("all", topics))

    def questions(self) -> Sequence[Question]:
        """Return the questions in the order they were made."""
        return self._questions

    def prompt(self, question: Question, num_fewshot: int | None = None) -> str:
        """Return the prompt up to `Answer:`; see `Benchmark.prompt`. There are no examples to show."""
        return prompt_text(TUNE_THEORY_HINT, [], question)
