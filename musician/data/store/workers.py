"""Work on the shards of a stream of rows, in this process or several; what is complete is not done again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

from musician.data.sources.files import SourceRow
from musician.data.store.shards import shards_of

#: Makes a directory, complete or absent, of the rows of a shard.
ShardWork = Callable[[list[SourceRow], Path], None]
ShardTask = tuple[list[SourceRow], Path]


def work_on_shards(
    rows: Iterable[SourceRow], work: ShardWork, folder: Path, num_proc: int = 1, rank: int = 0, world_size: int = 1
) -> list[Path]:
    """Make the directories that are not there yet; return those of all shards in order.

    Args:
        rows: cut into shards by their number and size alone.
        work: makes a directory; can be pickled where there are several processes.
        folder: of the directories.
        num_proc: processes that work, while this one reads; 1 does both in this process.
        rank: which share of the work to do; the directories of others are not made.
        world_size: number of shares.
    """
    directories: list[Path] = []

    def missing() -> Iterable[ShardTask]:
        for number, shard in enumerate(shards_of(rows)):
            directories.append(folder / f"{number:05d}")
            if number % world_size == rank and not directories[-1].is_dir():
                yield shard, directories[-1]

    if num_proc <= 1:
        for shard, directory in missing():
            work(shard, directory)
    else:
        _in_processes(missing(), work, num_proc)
    return directories


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


#: What is done with a shard; set once in each worker process, which so loads the tokenizer once.
_WORK: list[ShardWork] = []


def _start_worker(work: ShardWork) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    _WORK.append(work)
    Thread(target=_end_with_parent, daemon=True).start()


def _work(shard: list[SourceRow], directory: Path) -> None:
    _WORK[0](shard, directory)


def _end_with_parent() -> None:
    """End this process with its parent: of a killed one no word arrives, and work would be awaited for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
