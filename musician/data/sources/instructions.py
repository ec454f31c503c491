"""Instruction data made from tunes, proved row by row, beside questions of theory as knowledge."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from musician.data.sources.files import SourceRow
from musician.data.sources.source import TuneSource
from musician.music.tasks.checks import check, check_conversation
from musician.music.tasks.conversation import make_conversation
from musician.music.tasks.rules import RULES, make_tasks
from musician.music.tasks.task import Task
from musician.music.theory.items import make_items
from musician.runtime.errors import UserError, nearest
from musician.runtime.progress import track

Schema = Literal["musicpile_sft", "messages"]
CONVERSATION = "conversation"
KNOWLEDGE = "theory"
SOURCE = "made by musician.build_tasks"
#: Of longer tunes no tasks are made: ten times the longest of the corpus, more than any context here holds.
MOST_CHARACTERS = 20_000

#: The benchmark `theory` asks with this seed unless told otherwise; what it asks is never taught.
_BENCHMARK_SEED, _TAUGHT_SEED = 0, 104_729
_BENCHMARK_PER_TOPIC, _MOST_PER_TOPIC = 50, 4_000


def checked_tasks(text: str, seed: int, names: Sequence[str] | None) -> Iterator[tuple[Task, str | None]]:
    """Yield the tasks of a tune that are asked for (None: all), and why the answer of one cannot be proved."""
    for task in make_tasks(text, seed):
        if names is None or task.name in names:
            yield task, check(task)


class TuneTaskSource(TuneSource):
    """Instruction data made by rule from tunes: several conversations a tune, all of its family.

    Args:
        collections: as for `TuneSource`.
        root: as for `TuneSource`.
        limit: as for `TuneSource`.
        tasks: names of the task kinds to keep; None keeps all.
        seed: chooses wordings and excerpts.
    """

    def __init__(
        self,
        collections: Sequence[str] | None = None,
        root: str | None = None,
        limit: int | None = None,
        tasks: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(collections, root, limit)
        self.tasks = list(tasks) if tasks is not None else None
        self.seed = seed

    def identity(self) -> str:
        """Hash of the texts and of what is made from them."""
        return hashlib.sha256(f"{super().identity()}:{self.tasks}:{self.seed}".encode()).hexdigest()

    def num_rows(self) -> None:
        """Not known: a tune gives as many tasks as it has matter for."""

    def describe(self) -> dict[str, Any]:
        """Which tunes and tasks these are."""
        return {**super().describe(), "tasks": self.tasks, "seed": self.seed}

    def rows(self) -> Iterator[SourceRow]:
        """Yield a conversation a task; one whose answer cannot be proved is marked as dropped."""
        for index, (tune, family) in enumerate(zip(self.tunes(), self.families(), strict=True)):
            for task, reason in checked_tasks(tune.text, self.seed + index, self.tasks):
                messages = [{"role": "user", "content": task.prompt}, {"role": "assistant", "content": task.answer}]
                where = f"{tune.file} tune {tune.index} task {task.name}"
                dropped = f"{task.name}: {reason}" if reason else None
                yield SourceRow({"messages": messages}, where, family, dropped=dropped)


@dataclass
class TaskCounts:
    """What was made: rows by task, rows dropped by reason, tunes read."""

    tunes: int = 0
    made: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def score_rows(self) -> int:
        """Rows about tunes."""
        return self.made.total() - self.made[KNOWLEDGE]


@dataclass(frozen=True)
class TaskBuilder:
    """Makes instruction data from tunes.

    Args:
        source: the tunes, with their families.
        tasks: names of the rules to use; None for all.
        conversation_turns: turns of the conversation made about each tune (schema `messages` only); 0 for none.
        knowledge_weight: rows of theory for each row about a tune; MusicPile-sft has 2. As many as can be made without
            those that the benchmark `theory` asks.
        seed: chooses wordings, keys, errors.

    Raises:
        UserError: an unknown task.
    """

    source: TuneSource
    tasks: Sequence[str] | None = None
    conversation_turns: int = 4
    knowledge_weight: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.tasks or ():
            if name not in RULES:
                raise UserError(f"build_tasks: there is no task '{name}'{nearest(name, RULES)}; it has {list(RULES)}")

    def rows(self, schema: Schema, counts: TaskCounts) -> Iterator[dict[str, Any]]:
        """Yield the rows: tune by tune, then theory; count them."""
        pairs = zip(self.source.tunes(), self.source.families(), strict=True)
        for index, (tune, family) in enumerate(track(list(pairs), "making tasks")):
            counts.tunes += 1
            if len(tune.text) > MOST_CHARACTERS:
                counts.dropped[f"tune of over {MOST_CHARACTERS:,} characters"] += 1
                continue
            for name, turns, reason in self._made(tune.text, self.seed + index, schema):
                if reason:
                    counts.dropped[f"{name}: {reason}"] += 1
                else:
                    counts.made[name] += 1
                    yield row(schema, name, [(turn.prompt, turn.answer) for turn in turns], family)
        wanted = round(self.knowledge_weight * counts.score_rows)
        for task in islice(theory_tasks(self.seed, wanted), wanted):
            counts.made[KNOWLEDGE] += 1
            yield row(schema, KNOWLEDGE, [(task.prompt, task.answer)], "")

    def _made(self, text: str, seed: int, schema: Schema) -> Iterator[tuple[str, Sequence[Task], str | None]]:
        """Yield name and turns of what is made from one tune, and why it is dropped."""
        for task, reason in checked_tasks(text, seed, self.tasks):
            yield task.name, [task], reason
        if self.conversation_turns and schema == "messages":
            turns = make_conversation(text, seed, self.conversation_turns)
            reason = check_conversation(turns)
            if reason or len(turns) > 1:
                yield CONVERSATION, turns, reason

    def write(self, path: Path, schema: Schema) -> TaskCounts:
        """Write the rows as JSON lines; the file is complete or absent."""
        counts = TaskCounts()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("w", encoding="utf-8") as file:
                for made in self.rows(schema, counts):
                    file.write(json.dumps(made, ensure_ascii=False) + "\n")
            if not counts.made:
                raise UserError(f"build_tasks: {counts.tunes} tunes gave no task; check tunes and tasks")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return counts


def row(schema: Schema, name: str, turns: Sequence[tuple[str, str]], family: str) -> dict[str, Any]:
    """One row: MusicPile-sft's columns or chat messages, with the task's name and the tune's family beside them."""
    about = {"task": name, "family": family, "src": SOURCE}
    if schema == "messages":
        said = [
            message
            for prompt, answer in turns
            for message in ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
        ]
        return {"messages": said, **about}
    ((prompt, answer),) = turns
    instruction, _, given = prompt.partition("\n")
    return {"instruction": instruction, "input": given, "output": answer, **about}


def theory_tasks(seed: int, wanted: int) -> Iterator[Task]:
    """Yield questions of theory with their answers in words, topic by turn, none that the benchmark asks."""
    asked = {
        (item.topic, item.stem)
        for difficulty in (1, 2, 3)
        for item in make_items(_BENCHMARK_PER_TOPIC // 2, _BENCHMARK_SEED, difficulty)
    }
    each = min(_MOST_PER_TOPIC, max(1, wanted // 8))
    topics = sorted({topic for topic, _ in asked})
    by_topic = [
        [item for item in _as_many(topic, each, seed + _TAUGHT_SEED) if (topic, item.stem) not in asked]
        for topic in topics
    ]
    for place in range(max(map(len, by_topic))):
        for items in by_topic:
            if place < len(items):
                yield Task(KNOWLEDGE, items[place].stem, items[place].options[items[place].answer])


def _as_many(topic: str, count: int, seed: int) -> list[Any]:
    """As many items of a topic as it has, up to `count`: a topic with few questions refuses more."""
    while count:
        try:
            return make_items(count, seed, topics=[topic])
        except UserError:
            count //= 2
    return []
