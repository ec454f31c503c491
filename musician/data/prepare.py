"""From rows to a content-addressed directory of token ids, by one process or several, resumed where it was killed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from musician.atomic import publish_first
from musician.data.assemble import assemble
from musician.data.conversation import Row
from musician.data.files import SourceRow
from musician.data.prepared import FORMAT
from musician.data.render import Renderer
from musician.data.shards import Recipe, Tally, shards_of, understand, write_shard
from musician.data.sources import Source
from musician.data.tokenizer import smallest_dtype
from musician.errors import UserError
from musician.progress import track

__all__ = ["Recipe", "content_key", "prepare", "read_rows"]


def prepare(source: Source, renderer: Renderer, recipe: Recipe, root: str | Path, num_proc: int = 1) -> Path:
    """Tokenise a source into `root/KEY`, or return that directory at once where it exists.

    The key is a hash of the source's content, the tokenizer, the template, the recipe and this package's own code: a
    change in any of them makes another directory (B14). The work is done in shards under another name; the directory
    gets its own when it is whole. After a kill the next call continues behind the whole shards. The bytes written do
    not depend on `num_proc`, nor on whether there was a kill.

    Args:
        source: the rows.
        renderer: turns them into ids.
        recipe: the rest of what decides the content.
        root: folder of prepared directories.
        num_proc: processes that tokenise; one more reads. 1 does both in this process.

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
                _make(source, renderer, recipe, partial, target, num_proc)
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
        [recipe.max_length, recipe.validation_fraction, recipe.split_seed, recipe.text_field],
        code_version(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def code_version() -> str:
    """Hash of the source files that turn rows into ids."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for file in sorted([*(package / "data").glob("*.py"), *(package / "music").glob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def read_rows(source: Source, recipe: Recipe) -> Iterator[tuple[SourceRow, Row]]:
    """Understand every row of a source.

    Raises:
        UserError: a row whose columns are not understood, named by where it stands.
    """
    for found in source.rows():
        yield found, understand(found, recipe)


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


def _make(source: Source, renderer: Renderer, recipe: Recipe, partial: Path, target: Path, num_proc: int) -> None:
    shards = _write_shards(source, renderer, recipe, partial / "shards", num_proc)
    tally = Tally()
    for shard in shards:
        tally.add(Tally.read(shard / "tally.json"))
    if not tally.items["train"]:
        counts = [*tally.dropped.items(), *([("held out", tally.rows_out)] if tally.rows_out else [])]
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts) or "none found"
        raise UserError(f"data: nothing to train on ({tally.rows_in} rows read: {reasons}); check data.source")
    assert tally.rows_in == tally.rows_out + tally.dropped.total()
    whole = partial / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    assemble(shards, tally, target.name, recipe.max_length, whole)
    (whole / "meta.json").write_text(
        json.dumps(_describe(target.name, source, renderer, recipe, tally), indent=2, sort_keys=True)
    )
    publish_first(whole, target, mark="meta.json")


def _write_shards(source: Source, renderer: Renderer, recipe: Recipe, folder: Path, num_proc: int) -> list[Path]:
    """Write the shards that are not there yet; return all of them in order."""
    rows = track(source.rows(), "tokenising rows", source.num_rows())
    wanted: list[Path] = []

    def missing() -> Iterator[tuple[list[SourceRow], Path]]:
        for number, shard in enumerate(shards_of(rows)):
            wanted.append(folder / f"{number:05d}")
            if not (wanted[-1] / "tally.json").is_file():
                yield shard, wanted[-1]

    if num_proc <= 1:
        for shard, directory in missing():
            write_shard(shard, renderer, recipe, directory)
    else:
        _in_processes(missing(), renderer, recipe, num_proc)
    return wanted


def _in_processes(
    tasks: Iterable[tuple[list[SourceRow], Path]], renderer: Renderer, recipe: Recipe, num_proc: int
) -> None:
    """Write shards in processes, a few ahead of the oldest unfinished one, so that memory is bounded."""
    pool = ProcessPoolExecutor(num_proc, get_context("spawn"), _start_worker, (renderer, recipe))
    pending: deque[Future[None]] = deque()
    try:
        for shard, directory in tasks:
            if len(pending) > num_proc:
                pending.popleft().result()
            pending.append(pool.submit(_work, shard, directory))
        for future in pending:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


#: Writes a shard; set once in each worker process.
_WORK: list[Callable[[list[SourceRow], Path], None]] = []


def _start_worker(renderer: Renderer, recipe: Recipe) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    _WORK.append(lambda shard, directory: write_shard(shard, renderer, recipe, directory))
    Thread(target=_end_with_parent, daemon=True).start()


def _work(shard: list[SourceRow], directory: Path) -> None:
    _WORK[0](shard, directory)


def _end_with_parent() -> None:
    """A killed parent says nothing; its workers would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


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
        "splits": {
            split: {"items": count, "tokens": tally.tokens[split], "supervised_tokens": tally.supervised[split]}
            for split, count in tally.items.items()
        },
    }
