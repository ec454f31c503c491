"""From rows to a content-addressed directory of token ids, by one process or several, resumed where it was killed."""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from musician.data.quality.duplicates import judge
from musician.data.quality.sketch import Sketcher
from musician.data.rendering.conversation import Row
from musician.data.rendering.render import Renderer
from musician.data.rendering.tokenizer import smallest_dtype
from musician.data.sources.files import SourceRow
from musician.data.sources.source import Source
from musician.data.store.assemble import assemble
from musician.data.store.cluster import Datatrove
from musician.data.store.prepared import FORMAT
from musician.data.store.shards import Recipe, Tally, understand, write_shard
from musician.data.store.workers import ShardWork, work_on_shards, work_on_share
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

    The key is a hash of the source's content, the tokenizer, the template, the recipe and this package's own code: a
    change in any of them makes another directory (B14). The work is done in shards under another name; the directory
    gets its own when it is whole. After a kill the next call continues behind the whole shards. The bytes written do
    not depend on `num_proc` or `engine`, nor on whether there was a kill.

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
        with _alone(root / f".{key}") as partial:
            if not (target / "meta.json").is_file():
                _make(source, renderer, recipe, _Work(partial, num_proc, engine), target)
    except OSError as error:
        if (target / "meta.json").is_file():  # another node was first
            return target
        hint = "free some space" if error.errno == errno.ENOSPC else "choose another data.root"
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
        code_version(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def code_version() -> str:
    """Hash of the source files that turn rows into ids."""
    package = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for file in sorted([*(package / "data").rglob("*.py"), *(package / "music").rglob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def read_rows(source: Source, recipe: Recipe) -> Iterator[tuple[SourceRow, Row]]:
    """Understand every row of a source.

    Raises:
        UserError: a row whose columns are not understood, named by where it stands.
    """
    for found in source.rows():
        yield found, understand(found, recipe)[0]


@contextmanager
def _alone(partial: Path) -> Iterator[Path]:
    """Wait until no other process works in a directory, then hold it; what is left of it afterwards is not needed.

    A kill leaves the directory with its whole shards; an error that the user must put right removes it.
    """
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        lock = os.open(partial, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks: the work is done twice, and the first to finish wins
            fcntl.flock(lock, fcntl.LOCK_EX)
        if partial.is_dir() and os.path.samestat(os.fstat(lock), partial.stat()):
            break
        os.close(lock)
    try:
        yield partial
    except KeyboardInterrupt:
        raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    else:
        shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(lock)


def _make(source: Source, renderer: Renderer, recipe: Recipe, work: _Work, target: Path) -> None:
    shards = _write_shards(source, renderer, recipe, work)
    tally = Tally()
    for shard in shards:
        tally.add(Tally.read(shard / "tally.json"))
    if not tally.items["train"]:
        counts = [*tally.dropped.items(), *([("held out", tally.rows_out)] if tally.rows_out else [])]
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts) or "none found"
        raise UserError(f"data: nothing to train on ({tally.rows_in} rows read: {reasons}); check data.source")
    assert tally.rows_in == tally.rows_out + tally.dropped.total()
    whole = work.partial / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    assemble(shards, tally, target.name, recipe.max_length, whole)
    (whole / "meta.json").write_text(
        json.dumps(_describe(target.name, source, renderer, recipe, tally), indent=2, sort_keys=True)
    )
    publish_first(whole, target, mark="meta.json")


@dataclass(frozen=True, slots=True)
class _ShardWriter:
    renderer: Renderer
    recipe: Recipe

    def __call__(self, rows: list[SourceRow], directory: Path) -> None:
        write_shard(rows, self.renderer, self.recipe, directory)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a source, those marked that are dropped for their quality; verdict 0 keeps a row."""

    source: Source
    verdicts: np.ndarray | None = None
    reasons: Sequence[str] = ()

    def __call__(self) -> Iterator[SourceRow]:
        if self.verdicts is None:
            yield from self.source.rows()
            return
        for row, verdict in zip(self.source.rows(), self.verdicts.tolist(), strict=True):
            yield replace(row, dropped=self.reasons[verdict - 1]) if verdict else row


@dataclass(frozen=True, slots=True)
class _Work:
    """Where the work on shards is done, and by whom."""

    partial: Path
    num_proc: int
    engine: Datatrove | None

    def do(self, rows: _Rows, work: ShardWork, folder: str, mark: str, description: str) -> list[Path]:
        """Make the directories of all shards, those that are not there yet; return them in order."""
        target = self.partial / folder
        if self.engine is not None:
            share = functools.partial(work_on_share, rows, work, target, mark)
            self.engine.run(share, self.partial / f"engine-{folder}")
        # What an engine made is there; what its tasks left undone is not.
        shown = track(rows(), description, rows.source.num_rows())
        return work_on_shards(shown, work, target, mark, self.num_proc)


def _write_shards(source: Source, renderer: Renderer, recipe: Recipe, work: _Work) -> list[Path]:
    rows = _Rows(source)
    if recipe.quality.compares:
        rows = _Rows(source, _verdicts(source, recipe, work), recipe.quality.reasons())
    return work.do(rows, _ShardWriter(renderer, recipe), "shards", "tally.json", "tokenising rows")


def _verdicts(source: Source, recipe: Recipe, work: _Work) -> np.ndarray:
    """Which rows are dropped for their quality; read from where an earlier run left them."""
    file = work.partial / "verdicts.npy"
    if not file.is_file():
        sketches = work.do(_Rows(source), Sketcher(recipe), "sketches", "whole", "comparing rows")
        whole = work.partial / ".verdicts.npy"
        np.save(whole, judge(sketches, recipe.quality) if sketches else np.zeros(0, np.uint8))
        whole.rename(file)
    return np.load(file)


def _describe(key: str, source: Source, renderer: Renderer, recipe: Recipe, tally: Tally) -> dict[str, Any]:
    tokenizer = renderer.tokenizer
    return {
        "format": FORMAT,
        "key": key,
        "source": source.describe(),
        "tokenizer": str(tokenizer.name_or_path) or type(tokenizer).__name__,
        "tokenizer_hash": renderer.tokenizer_hash,
        "vocabulary_size": len(tokenizer),
        "dtype": smallest_dtype(len(tokenizer)),
        "template": renderer.template.name,
        "renderer": renderer.identity(),
        "max_length": recipe.max_length,
        "validation_fraction": recipe.validation_fraction,
        "split_seed": recipe.split_seed,
        "rows_in": tally.rows_in,
        "rows_out": tally.rows_out,
        "dropped": dict(tally.dropped),
        "cuts": dict(tally.cuts),
        "repairs": dict(tally.repairs),
        "splits": {
            split: {"items": count, "tokens": tally.tokens[split], "supervised_tokens": tally.supervised[split]}
            for split, count in tally.items.items()
        },
    }
