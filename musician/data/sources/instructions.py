"""Instruction data made from tunes, proved row by row, beside questions of theory as knowledge."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

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


@dataclass
class Tally:
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

    def rows(self, schema: Schema, tally: Tally) -> Iterator[dict[str, Any]]:
        """Yield the rows: tune by tune, then theory; count them."""
        pairs = zip(self.source.tunes(), self.source.families(), strict=True)
        for index, (tune, family) in enumerate(track(list(pairs), "making tasks")):
            tally.tunes += 1
            if len(tune.text) > MOST_CHARACTERS:
                tally.dropped[f"tune of over {MOST_CHARACTERS:,} characters"] += 1
                continue
            yield from self._tasks(tune.text, self.seed + index, schema, family, tally)
            if self.conversation_turns and schema == "messages":
                yield from self._conversation(tune.text, self.seed + index, family, tally)
        wanted = round(self.knowledge_weight * tally.score_rows)
        for task in islice(theory_tasks(self.seed, wanted), wanted):
            tally.made[KNOWLEDGE] += 1
            yield row(schema, KNOWLEDGE, [(task.prompt, task.answer)], "")

    def _tasks(self, text: str, seed: int, schema: Schema, family: str, tally: Tally) -> Iterator[dict[str, Any]]:
        """Yield the rows of one tune that are asked for and proved."""
        for task in make_tasks(text, seed):
            if self.tasks is not None and task.name not in self.tasks:
                continue
            reason = check(task)
            if reason:
                tally.dropped[f"{task.name}: {reason}"] += 1
            else:
                tally.made[task.name] += 1
                yield row(schema, task.name, [(task.prompt, task.answer)], family)

    def _conversation(self, text: str, seed: int, family: str, tally: Tally) -> Iterator[dict[str, Any]]:
        """Yield the conversation about a tune, if it gives one of two turns or more."""
        turns = make_conversation(text, seed, self.conversation_turns)
        reason = check_conversation(turns)
        if reason:
            tally.dropped[f"{CONVERSATION}: {reason}"] += 1
        elif len(turns) > 1:
            tally.made[CONVERSATION] += 1
            yield row("messages", CONVERSATION, [(turn.prompt, turn.answer) for turn in turns], family)

    def write(self, path: Path, schema: Schema) -> Tally:
        """Write the rows as JSON lines; the file is whole or absent."""
        tally = Tally()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("w", encoding="utf-8") as file:
                for made in self.rows(schema, tally):
                    file.write(json.dumps(made, ensure_ascii=False) + "\n")
            if not tally.made:
                raise UserError(f"build_tasks: {tally.tunes} tunes gave no task; check tunes and tasks")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return tally


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
