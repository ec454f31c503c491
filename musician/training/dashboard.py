"""Tables and pictures for the loggers that can show them; the others hold numbers only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger


def log_table(loggers: Iterable[Logger], key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Log a table to W&B."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table(key, columns=list(columns), data=[list(row) for row in rows])


def log_picture(loggers: Iterable[Logger], key: str, path: Path, step: int) -> None:
    """Log a PNG to W&B and TensorBoard.

    Args:
        loggers: a trainer's loggers.
        key: its name.
        path: the file.
        step: optimiser step.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, images=[str(path)], caption=[f"step {step}"])
        elif isinstance(logger, TensorBoardLogger):
            from matplotlib import image

            logger.experiment.add_image(key, image.imread(path), step, dataformats="HWC")
