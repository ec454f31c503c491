"""Tunes that a model writes on request, measured beside what people wrote on the same requests.

The requests are tasks made from held-out tunes (`musician.music.tasks`), so each has an answer by people, and every
measure is given for both: `eval/generation/format/strict` is the model's, `eval/generation/human/format/strict` theirs.
Closeness to the second is the goal where a measure has no best value: a loop repeats itself more than any tune.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from musician.benchmarks.shard import Shard
from musician.benchmarks.statistics.accuracy import Accuracy, mean
from musician.benchmarks.tunes.generation_chart import draw_beside
from musician.data.rendering.conversation import Message
from musician.data.rendering.render import Renderer
from musician.model.network import evaluating
from musician.music.analysis.control import MEASURES, measure_control
from musician.music.analysis.measures import first_tune, measure_format, measure_tune
from musician.music.analysis.originality import MelodyIndex
from musician.music.sound.abc2midi import Abc2midi
from musician.music.tasks.rules import RULES, make_tasks
from musician.music.tasks.task import Task
from musician.runtime.atomic import write_text
from musician.runtime.errors import UserError, nearest

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
"""Measures over all families that belong on a dashboard; `details` holds every one, also by family."""

Values = Mapping[str, float]


class Writer(Protocol):
    """Writes answers."""

    def __call__(
        self,
        network: nn.Module,
        renderer: Renderer,
        conversations: Sequence[Sequence[Message]],
        seeds: Sequence[int],
        on_written: Callable[[int], None] | None = None,
    ) -> list[str]:
        """Return an answer to each conversation, drawn with its own seed; report how many there are meanwhile."""
        ...


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
class GenerationResult:
    """What the written tunes amount to.

    Attributes:
        benchmark: its name.
        samples: one for each request.
        without_tune: answers in which no tune was found; only `format/...` counts them.
        readers: who judged the format.
        seconds: wall time on this rank.
        illustrate: draws and plays the first of some texts, into files of a folder by their numbers; None does not.
    """

    benchmark: str
    samples: Sequence[Sample]
    without_tune: int
    readers: str
    seconds: float
    illustrate: Callable[[Sequence[str], Path], None] | None = None

    @cached_property
    def means(self) -> dict[str, Accuracy]:
        """Mean, number and 95 % interval of each measure: over all families, by family, and people's."""
        families = {
            sample.family: [each for each in self.samples if each.family == sample.family] for sample in self.samples
        }
        found = _means("", self.samples, lambda sample: sample.values)
        found |= _means("human/", self.samples, lambda sample: sample.human)
        for family, samples in families.items():
            found |= _means(f"{family}/", samples, lambda sample: sample.values)
            found |= _means(f"human/{family}/", samples, lambda sample: sample.human)
        return found

    def metrics(self) -> dict[str, float]:
        """Return the headline measures."""
        return {f"eval/{self.benchmark}/{name}": self.means[name].value for name in HEADLINES if name in self.means}

    def details(self) -> dict[str, float]:
        """Return every measure with its number of tunes and interval, and counts."""
        root = f"eval/{self.benchmark}"
        values = {f"{root}/{name}": found.value for name, found in self.means.items() if name not in HEADLINES}
        for name, found in self.means.items():
            parts = {"n": found.n, "ci95_low": found.low, "ci95_high": found.high}
            values |= {f"{root}/{name}/{key}": value for key, value in parts.items() if value == value}
        counts = {"requests": len(self.samples), "without_tune": self.without_tune, "seconds": self.seconds}
        return values | {f"{root}/{name}": float(value) for name, value in counts.items()}

    def write(self, folder: Path) -> None:
        """Write `generations.jsonl`, a line a request; `generation.png`, the model beside people; perhaps `tunes/`."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in self.samples]
        write_text(folder / "generations.jsonl", "".join(lines))
        draw_beside(folder / "generation.png", self.means)
        if self.illustrate:
            self.illustrate([sample.answer for sample in self._in_turn()], folder / "tunes")

    def illustrated(self, folder: Path) -> tuple[list[str], list[list[Any]]]:
        """Return the tunes that `write` put into `folder / "tunes"`, each with the paths of its picture and sound."""
        rows: list[list[Any]] = []
        for number, each in enumerate(self._in_turn()):
            files = [folder / "tunes" / f"{number:03}.{ending}" for ending in ("png", "wav")]
            media = [file if file.exists() else None for file in files]
            if any(media):
                rows.append([each.family, each.prompt, each.answer, *media])
        return ["family", "prompt", "answer", "score", "sound"], rows

    def _in_turn(self) -> list[Sample]:
        """The samples, one of each family after the other, so that the first few are of all."""
        places: Counter[str] = Counter()
        keyed = []
        for sample in self.samples:
            places[sample.family] += 1
            keyed.append((places[sample.family], sample))
        return [sample for _, sample in sorted(keyed, key=itemgetter(0))]

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Return each request with its answer and headline measures."""
        names = [name for name in HEADLINES if name in self.means]
        rows = [
            [each.family, each.seed, each.prompt, each.answer, *(each.values.get(name) for name in names)]
            for each in self.samples
        ]
        return ["family", "seed", "prompt", "answer", *names], rows


def _means(prefix: str, samples: Sequence[Sample], values: Callable[[Sample], Values]) -> dict[str, Accuracy]:
    names = dict.fromkeys(name for sample in samples for name in values(sample))
    found = {}
    for name in names:
        pairs = [(values(sample)[name], sample.place) for sample in samples if name in values(sample)]
        found[prefix + name] = mean([value for value, _ in pairs], [place for _, place in pairs])
    return found


class Generation:
    """Asks for tunes and measures what comes.

    Args:
        tunes: ABC texts the model has not trained on, nor any tune of their families.
        write: writes the answers.
        known: ABC texts it has trained on, for originality; None leaves that out.
        families: kinds of tasks; of `musician.music.tasks.rules.RULES` those whose answer is a whole tune.
        per_family: most requests of a kind.
        seed: chooses wordings; the draws of request `i` have the seed `seed + i`.
        illustrate: as for `GenerationResult`.

    Raises:
        UserError: no such kind of task, no held-out tune, or none that gives a request.
    """

    name = "generation"

    def __init__(
        self,
        tunes: Sequence[str],
        write: Writer,
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

    def measure(
        self,
        network: nn.Module,
        renderer: Renderer,
        *,
        shard: Shard | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> GenerationResult:
        """Have the requests of this process's shard answered, and measure; the network is in evaluation mode meanwhile.

        Raises:
            UserError: the network's parameters are sharded (ZeRO-3): its ranks would have to write in step.
        """
        if any(hasattr(parameter, "ds_id") for parameter in network.parameters()):
            raise UserError("generation: not under ZeRO-3; evaluate the checkpoint afterwards with musician.eval")
        started = time.perf_counter()
        shard = shard or Shard()
        mine = list(shard.mine(len(self.requests)))
        conversations = [[Message("user", self.requests[place][1].prompt)] for place in mine]
        with evaluating(network):
            answers = self.write(
                network,
                renderer,
                conversations,
                [self.seed + place for place in mine],
                (lambda done: on_progress(done, len(mine))) if on_progress else None,
            )
        local = [(place, self._sample(place, answer)) for place, answer in zip(mine, answers, strict=True)]
        samples = [sample for _, sample in sorted(shard.gather(local), key=itemgetter(0))]
        readers = "musician" + (" and abc2midi" if self.second else "; abc2midi is not installed")
        silent = sum("repetition/signs" not in sample.values for sample in samples)
        seconds = time.perf_counter() - started
        return GenerationResult(self.name, samples, silent, readers, seconds, self.illustrate)

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
