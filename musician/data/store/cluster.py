"""Shards made by the tasks of an engine that runs on several machines: datatrove."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from musician.runtime.errors import UserError

#: Makes share `rank` of `world_size` of some work.
ShareOfWork = Callable[[int, int], object]
#: Seconds between looks at tasks that run elsewhere.
INTERVAL = 10.0


class Datatrove:
    """Runs a share of the work in each task of a datatrove executor, and waits for all of them.

    Each task reads the source from its start and makes only its own shards, so the source and `data.root` must be on a
    file system that all machines see, and reading is done once a task.

    Args:
        tasks: how many shares the work is cut into.
        workers: tasks at once.
        executor: makes the executor from `pipeline`, `tasks`, `workers` and `logging_dir`; None takes processes of this
            machine (`datatrove.executor.LocalPipelineExecutor`).

    Raises:
        UserError: datatrove is not installed.
    """

    def __init__(self, tasks: int = 2, workers: int = 2, executor: Callable[..., Any] | None = None) -> None:
        self.tasks, self.workers, self.executor = tasks, workers, executor

    def run(self, share: ShareOfWork, logging_dir: Path) -> None:
        """Do every share.

        Args:
            share: can be pickled.
            logging_dir: where the engine keeps its logs and which tasks are complete.
        """
        try:
            from datatrove.executor import LocalPipelineExecutor
        except ImportError as error:
            raise UserError("data.engine needs datatrove: pip install 'musician[cluster]'") from error
        make = self.executor or LocalPipelineExecutor
        executor = make(pipeline=[_Step(share)], tasks=self.tasks, workers=self.workers, logging_dir=str(logging_dir))
        executor.run()
        while executor.get_incomplete_ranks(skip_completed=True):
            time.sleep(INTERVAL)


class _Step:
    """A pipeline step as datatrove calls it; it reads no documents and gives none."""

    def __init__(self, share: ShareOfWork) -> None:
        self.share = share

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the tasks are the parallelism
        self.share(rank, world_size)
