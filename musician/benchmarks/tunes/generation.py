"""Tunes that a model writes on request, measured beside what people wrote on the same requests.

The requests are tasks made from held-out tunes (`musician.music.tasks`), so each has an answer by people, and every
measure is given for both: `eval/generation/format/strict` is the model's, `eval/generation/human/format/strict` theirs.
Closeness to the second is the goal where a measure has no best value: a loop repeats itself more than any tune.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from musician.benchmarks.benchmark import Benchmark, Result, Table, refuse_sharded
from musician.benchmarks.shard import Shard
from musician.benchmarks.statistics.estimate import Estimate, mean
from musician.benchmarks.statistics.scoreboard import intervals
from musician.data.rendering.conversation import Message
from musician.generation.answers import Answers
from musician.lm.language_model import LanguageModel
from musician.music.analysis.measures import first_tune, measure_format, measure_tune
from musician.music.analysis.originality import MelodyIndex
from musician.music.sound.abc2midi import Abc2midi
from musician.music.tasks.control import MEASURES, measure_control
from musician.music.tasks.rules import RULES, make_tasks
from musician.music.tasks.task import Task
from musician.runtime.errors import UserError, nearest
from musician.runtime.progress import ProgressLine

GENERATIONS = "generations.jsonl"

FAMILIES = ("text_to_abc", "chords_to_tune", "form_to_tune", "terms_to_tune", "harmonised_by_rule")
"""Kinds of tasks asked unless others are named."""

HEADLINES = (
    "format/extracted",
    "format/header",
    "format/abc2midi",
    "format/strict",
    "bars/right",
    "repetition/signs",
    "originality/shared",
)
"""Measures over all families that belong on a dashboard; `details` has all, also by family."""

Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and what the model made of it.

    Attributes:
        family: name of the task's rule.
        place: of the held-out tune it was made from.
        seed: of the draws.
        answer: the model's text, whole.
        values: its measures.
        human: those of the tune that people wrote.
    """

    family: str
    place: int
    seed: int
    prompt: str
    answer: str
    values: Values
    human: Values


@dataclass(frozen=True)
class GenerationResult(Result):
    """A result with the tunes behind it.

    Attributes:
        illustrate: draws and plays the first of some texts, into files of a folder by their numbers; None does not.
    """

    illustrate: Callable[[Sequence[str], Path], None] | None = None

    def write(self, folder: Path) -> None:
        """Write `generations.jsonl`, a line a request; `generation.png`, the model beside people; perhaps `tunes/`."""
        super().write(folder)
        draw_beside(folder / "generation.png", {**self.estimates, **self.more})
        if self.illustrate:
            self.illustrate([sample.answer for sample in self._in_turn()], folder / "tunes")

    def tables(self, folder: Path) -> dict[str, Table]:
        """Return each request with its answer and headlines; and the tunes with the paths of picture and sound."""
        names = list(self.estimates)
        items = [
            [each.family, each.seed, each.prompt, each.answer, *(each.values.get(name) for name in names)]
            for each in self.records[GENERATIONS]
        ]
        tunes: list[list[Any]] = []
        for number, each in enumerate(self._in_turn()):
            files = [folder / "tunes" / f"{number:03}.{ending}" for ending in ("png", "wav")]
            media = [file if file.exists() else None for file in files]
            if any(media):
                tunes.append([each.family, each.prompt, each.answer, *media])
        found = {"items": (["family", "seed", "prompt", "answer", *names], items)}
        return found | ({"tunes": (["family", "prompt", "answer", "score", "sound"], tunes)} if tunes else {})

    def _in_turn(self) -> list[Sample]:
        """The samples, one of each family after the other, so that the first few are of all."""
        families: dict[str, list[Sample]] = {}
        for sample in self.records[GENERATIONS]:
            families.setdefault(sample.family, []).append(sample)
        return [sample for turn in zip_longest(*families.values()) for sample in turn if sample]


def draw_beside(path: Path, means: Mapping[str, Estimate]) -> None:
    """Draw every measure that runs from 0 to 1, of the model and of people, with 95 % intervals.

    Args:
        path: the PNG to write.
        means: by name, those of people under `human/`; families are left out.
    """
    shares = {
        name: (each, means[f"human/{name}"])
        for name, each in sorted(means.items())
        if name.count("/") == 1
        and f"human/{name}" in means
        and not name.endswith(("_distance", "/run", "/longest_run", "/sections"))
        and all(0 <= side.value <= 1 for side in (each, means[f"human/{name}"]))
    }
    if shares:
        rows = {f"{name} (n={model.n})": (model, people) for name, (model, people) in shares.items()}
        intervals(path, rows, ("model", "people"))


def sample_means(samples: Sequence[Sample]) -> dict[str, Estimate]:
    """Return mean, number and 95 % interval of each measure: over all families, by family, and people's."""
    families = dict.fromkeys(sample.family for sample in samples)
    groups = {"": samples} | {f"{name}/": [each for each in samples if each.family == name] for name in families}
    found: dict[str, Estimate] = {}
    for prefix, group in groups.items():
        for side, key in (("", "values"), ("human/", "human")):
            measured = [(getattr(sample, key), sample.place) for sample in group]
            for name in dict.fromkeys(name for values, _ in measured for name in values):
                pairs = [(values[name], place) for values, place in measured if name in values]
                found[f"{side}{prefix}{name}"] = mean(*zip(*pairs, strict=True))
    return found


class Generation(Benchmark):
    """Asks for tunes and measures what comes.

    Args:
        tunes: ABC texts the model has not trained on, nor any tune of their families.
        write: writes the answers.
        known: ABC texts it has trained on, for originality; None leaves that out.
        families: kinds of tasks; of `musician.music.tasks.rules.RULES` those whose answer is a whole tune.
        per_family: most requests of a kind.
        seed: chooses wordings; the draws of request `i` have the seed `seed + i`.
        illustrate: see `GenerationResult`.

    Raises:
        UserError: no such kind of task, no held-out tune, or none that gives a request.
    """

    name = "generation"

    def __init__(
        self,
        tunes: Sequence[str],
        write: Answers,
        known: Sequence[str] | None = None,
        families: Sequence[str] = FAMILIES,
        per_family: int = 20,
        seed: int = 0,
        illustrate: Callable[[Sequence[str], Path], None] | None = None,
    ) -> None:
        for name in families:
            if name not in (*MEASURES, "style"):
                raise UserError(
                    f"generation: no kind of task '{name}'{nearest(name, MEASURES)}; use {', '.join(MEASURES)}"
                )
        self.requests = _requests(tunes, families, per_family, seed)
        if not self.requests:
            raise UserError("generation: no held-out tune gives a request; raise data.validation_fraction")
        self.write = write
        self.known = known
        self.seed = seed
        self.illustrate = illustrate
        self.second = Abc2midi.installed()

    @cached_property
    def index(self) -> MelodyIndex | None:
        """The melodies trained on."""
        return None if self.known is None else MelodyIndex(self.known)

    def run(self, model: LanguageModel, shard: Shard) -> Result:
        """Have the requests of this process's shard answered, and measure the answers.

        Raises:
            UserError: the network's parameters are sharded (ZeRO-3): its ranks would have to write in step.
        """
        refuse_sharded(model, self.name)
        started = time.perf_counter()
        mine = list(shard.mine(len(self.requests)))
        conversations = [[Message("user", self.requests[place][1].prompt)] for place in mine]
        seeds = [self.seed + place for place in mine]
        with ProgressLine(self.name, enabled=shard.rank == 0) as line:
            answers = self.write(model, conversations, seeds, lambda done: line.update(done, len(mine)))
        local = [self._sample(place, answer) for place, answer in zip(mine, answers, strict=True)]
        samples = shard.gather_in_order(local, len(self.requests))
        means = sample_means(samples)
        counts = {
            "requests": len(samples),
            "without_tune": sum("repetition/signs" not in sample.values for sample in samples),
            "seconds": time.perf_counter() - started,
        }
        return GenerationResult(
            self.name,
            {name: means[name] for name in HEADLINES if name in means},
            more={name: found for name, found in means.items() if name not in HEADLINES},
            counts=counts,
            records={GENERATIONS: samples},
            illustrate=self.illustrate,
        )

    def _sample(self, place: int, answer: str) -> Sample:
        source, task = self.requests[place]
        values, human = (self._values(task, text) for text in (answer, task.answer))
        return Sample(task.name, source, self.seed + place, task.prompt, answer, values, human)

    def _values(self, task: Task, text: str) -> dict[str, float]:
        values, tune = measure_format(text, self.second), first_tune(text)
        if tune is None:
            return values
        values |= measure_tune(tune) | measure_control(task, tune)
        if self.index is not None:
            found = self.index.compare(tune.text)
            values |= {"originality/run": float(found.run), "originality/shared": found.share}
            if found.windows:
                values["originality/copied_windows"] = found.copied / found.windows
        return values


def _requests(tunes: Iterable[str], families: Sequence[str], most: int, seed: int) -> list[tuple[int, Task]]:
    """(place of the tune, task), kind by kind in the order of the rules, the first tunes that give any."""
    found: dict[str, list[tuple[int, Task]]] = {name: [] for name in RULES if name in families}
    for place, text in enumerate(tunes):
        if all(len(requests) >= most for requests in found.values()):
            break
        for task in make_tasks(text, seed + place):
            if len(found.get(task.name, range(most))) < most:
                found[task.name].append((place, task))
    return [request for requests in found.values() for request in requests]
