"""From rows to a content-addressed directory of token ids, by one process or several, resumed where it was killed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from musician.data.packing_plan import planned_rows
from musician.data.quality.duplicates import judge
from musician.data.quality.sketch import Sketcher
from musician.data.rendering.conversation import Row
from musician.data.rendering.render import Renderer
from musician.data.sources.files import SourceRow
from musician.data.sources.source import Source
from musician.data.store.cluster import Datatrove
from musician.data.store.prepared import FORMAT
from musician.data.store.shards import SPLITS, Recipe, no_counts, understand, write_shard
from musician.data.store.split import PreparedSplit, join_splits
from musician.data.store.workers import ShardWork, work_on_shards
from musician.runtime.atomic import publish_first
from musician.runtime.errors import UserError
from musician.runtime.progress import track

__all__ = ["Recipe", "content_key", "prepare", "read_rows"]


def prepare(
    source: Source,
    renderer: Renderer,
    recipe: Recipe,
    root: str | Path,
    num_proc: int = 1,
    engine: Datatrove | None = None,
) -> Path:
    """Tokenise a source into `root/KEY`, or return that directory at once where it exists.

    The key is a hash of the source's content, the tokenizer, the template, the recipe and the format: a change in any
    of them makes another directory (B14). The work is done in shards under another name; the directory gets its own
    when it is complete. After a kill the next call continues behind the complete shards. The bytes written do not
    depend on `num_proc` or `engine`, nor on whether there was a kill.

    Args:
        source: the rows.
        renderer: turns them into ids.
        recipe: the rest of what decides the content.
        root: folder of prepared directories.
        num_proc: processes that tokenise; one more reads. 1 does both in this process.
        engine: has the shards made on several machines first.

    Raises:
        UserError: an unreadable row, no usable row at all, an unwritable or full disk.
    """
    root = Path(root).expanduser()
    key = content_key(source, renderer, recipe)
    target = root / key
    if (target / "meta.json").is_file():
        return target
    try:
        with _alone(root / f".{key}") as unfinished:
            if not (target / "meta.json").is_file():
                shards = _write_shards(source, renderer, recipe, unfinished, num_proc, engine)
                complete = unfinished / "complete"
                shutil.rmtree(complete, ignore_errors=True)
                _join(shards, complete, recipe.max_length, _about(key, source, renderer, recipe))
                publish_first(complete, target, mark="meta.json")
    except OSError as error:
        if (target / "meta.json").is_file():  # another node was first
            return target
        # NumPy reports an array that was written in part without an error number.
        hint = "free some space" if error.errno in (None, errno.ENOSPC) else "choose another data.root"
        raise UserError(f"data directory {root}: cannot be written ({error.strerror or error}); {hint}") from error
    return target


def content_key(source: Source, renderer: Renderer, recipe: Recipe) -> str:
    """Content address of what `prepare` makes from these."""
    parts = [
        FORMAT,
        source.identity(),
        renderer.tokenizer_hash,
        renderer.identity(),
        [recipe.max_length, recipe.validation_fraction, recipe.split_seed, recipe.text_field, recipe.keep],
        recipe.quality.identity(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def read_rows(source: Source, recipe: Recipe) -> Iterator[tuple[SourceRow, Row]]:
    """Understand every row of a source.

    Raises:
        UserError: a row whose columns are not understood, named by its position.
    """
    for found in source.rows():
        yield found, understand(found, recipe)[0]


@contextmanager
def _alone(directory: Path) -> Iterator[Path]:
    """Wait until no other process works in a directory, then hold it; what is left of it afterwards is not needed.

    A kill leaves the directory with its complete shards; an error that the user must fix removes it.
    """
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks: the work is done twice, and the first to finish wins
            fcntl.flock(lock, fcntl.LOCK_EX)
        if directory.is_dir() and os.path.samestat(os.fstat(lock), directory.stat()):
            break
        os.close(lock)
    keep = False
    try:
        yield directory
    except KeyboardInterrupt:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a source, those marked that are dropped for their quality; verdict 0 keeps a row."""

    source: Source
    verdicts: np.ndarray | None = None
    reasons: Sequence[str] = ()

    def __iter__(self) -> Iterator[SourceRow]:
        if self.verdicts is None:
            yield from self.source.rows()
            return
        for row, verdict in zip(self.source.rows(), self.verdicts.tolist(), strict=True):
            yield replace(row, dropped=self.reasons[verdict - 1]) if verdict else row


def _write_shards(
    source: Source, renderer: Renderer, recipe: Recipe, directory: Path, num_proc: int, engine: Datatrove | None
) -> list[Path]:
    """Make the directories of all shards, those that are not there yet; return them in order."""

    def do(rows: _Rows, work: ShardWork, folder: str, description: str) -> list[Path]:
        if engine is not None:
            engine.run(partial(work_on_shards, rows, work, directory / folder, 1), directory / f"engine-{folder}")
        # What an engine made is there; what its tasks left undone is not.
        shown = track(rows, description, source.num_rows())
        return work_on_shards(shown, work, directory / folder, num_proc)

    rows, quality = _Rows(source), recipe.quality
    if quality.compares:
        sketches = do(rows, Sketcher(recipe), "sketches", "comparing rows")
        rows = _Rows(source, judge(sketches, quality) if sketches else np.zeros(0, np.uint8), quality.reasons())
    return do(rows, partial(write_shard, renderer=renderer, recipe=recipe), "shards", "tokenising rows")


def _join(shards: Sequence[Path], directory: Path, max_length: int, about: Mapping[str, Any]) -> None:
    """Join the splits of all shards, plan their packed rows, and describe them in `meta.json`."""
    counts = no_counts()
    for shard in shards:
        for name, found in json.loads((shard / "counts.json").read_text()).items():
            counts[name].update(found)
    rows, dropped = counts.pop("rows"), counts["dropped"]
    parts = {name: [shard / name for shard in shards if (shard / name).is_dir()] for name in SPLITS}
    if not parts["train"]:
        reasons = dropped + Counter({"held out": rows["out"]})
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none found"
        raise UserError(f"data: nothing to train on ({rows['in']} rows read: {listed}); check data.source")
    assert rows["in"] == rows["out"] + dropped.total()
    splits = {}
    for name in filter(parts.get, SPLITS):
        join_splits(parts[name], directory / name)
        split = PreparedSplit(directory / name, pad_id=0)
        planned_rows(split, max_length)
        counted = split.supervised_counts().sum(dtype=np.int64)
        splits[name] = {"items": len(split), "tokens": int(split.lengths.sum()), "supervised_tokens": int(counted)}
    meta = {**about, "rows_in": rows["in"], "rows_out": rows["out"], **counts, "splits": splits}
    (directory / "meta.json").write_text(json.dumps(meta, indent=2, sort_keys=True))


def _about(key: str, source: Source, renderer: Renderer, recipe: Recipe) -> dict[str, Any]:
    tokenizer = renderer.tokenizer
    return {
        "format": FORMAT,
        "key": key,
        "source": source.describe(),
        "tokenizer": str(tokenizer.name_or_path) or type(tokenizer).__name__,
        "tokenizer_hash": renderer.tokenizer_hash,
        "vocabulary_size": len(tokenizer),
        "dtype": renderer.dtype,
        "template": renderer.template.name,
        "renderer": renderer.identity(),
        "max_length": recipe.max_length,
        "validation_fraction": recipe.validation_fraction,
        "split_seed": recipe.split_seed,
    }
