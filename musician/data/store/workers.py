"""Work on the shards of a stream of rows, in this process or several; what is whole is not done again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

from musician.data.sources.files import SourceRow
from musician.data.store.shards import shards_of

#: Makes a directory, whole or absent, of the rows of a shard.
ShardWork = Callable[[list[SourceRow], Path], None]
ShardTask = tuple[list[SourceRow], Path]


def work_on_share(
    rows: Callable[[], Iterable[SourceRow]],
    work: ShardWork,
    folder: Path,
    mark: str,
    rank: int,
    world_size: int,
) -> None:
    """Make the directories that are not there yet of every `world_size`-th shard from `rank` on.

    Args:
        rows: gives all rows; those of other shards are read and passed over.
        work: as for `work_on_shards`.
        folder: as for `work_on_shards`.
        mark: as for `work_on_shards`.
        rank: which share.
        world_size: how many there are.
    """
    for number, shard in enumerate(shards_of(rows())):
        directory = folder / f"{number:05d}"
        if number % world_size == rank and not (directory / mark).is_file():
            work(shard, directory)


def work_on_shards(rows: Iterable[SourceRow], work: ShardWork, folder: Path, mark: str, num_proc: int) -> list[Path]:
    """Make the directories that are not there yet; return all of them in order.

    Args:
        rows: cut into shards by their number and size alone.
        work: makes a directory; can be pickled where there are several processes.
        folder: of the directories.
        mark: a file that a whole one holds.
        num_proc: processes that work, while this one reads; 1 does both in this process.
    """
    wanted: list[Path] = []

    def missing() -> Iterator[ShardTask]:
        for number, shard in enumerate(shards_of(rows)):
            wanted.append(folder / f"{number:05d}")
            if not (wanted[-1] / mark).is_file():
                yield shard, wanted[-1]

    if num_proc <= 1:
        for shard, directory in missing():
            work(shard, directory)
    else:
        _in_processes(missing(), work, num_proc)
    return wanted


def _in_processes(tasks: Iterable[ShardTask], work: ShardWork, num_proc: int) -> None:
    """Work in processes, a few tasks ahead of the oldest unfinished one, so that memory is bounded."""
    pool = ProcessPoolExecutor(num_proc, get_context("spawn"), _start_worker, (work,))
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


#: What is done with a shard; set once in each worker process.
_WORK: list[ShardWork] = []


def _start_worker(work: ShardWork) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    _WORK.append(work)
    Thread(target=_end_with_parent, daemon=True).start()


def _work(shard: list[SourceRow], directory: Path) -> None:
    _WORK[0](shard, directory)


def _end_with_parent() -> None:
    """A killed parent says nothing; its workers would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
