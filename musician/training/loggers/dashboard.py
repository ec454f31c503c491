"""Tables and pictures for the loggers that can show them; the others hold numbers only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from musician.model.checkpoint import read_description, resolve_checkpoint
from musician.training.loggers.wandb_run import WandbRun

#: Facts of a checkpoint that tell where its weights come from.
LINEAGE = ("name", "base_model", "data_key", "tokenizer_hash", "template", "recipe", "step", "epoch", "metrics")


def log_table(loggers: Iterable[Logger], key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Log a table to W&B; paths of PNG and WAV files are shown and played."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table(key, columns=list(columns), data=[[_shown(value) for value in row] for row in rows])


def _shown(value: Any) -> Any:
    if not isinstance(value, Path):
        return value
    import wandb

    return wandb.Audio(str(value)) if value.suffix == ".wav" else wandb.Image(str(value))


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


def log_adapter(loggers: Iterable[Logger], run: Path) -> None:
    """Log the best weights of a run to W&B where that was asked for, with what they were made from.

    Args:
        loggers: a trainer's loggers.
        run: the run directory; one without a checkpoint logs nothing.
    """
    asked = [logger for logger in loggers if isinstance(logger, WandbRun) and logger.log_adapter]
    if not asked or not (run / "checkpoints" / "best").exists():
        return
    checkpoint = resolve_checkpoint(run)
    facts = read_description(checkpoint)
    weights = next(folder for name in ("adapter", "model") if (folder := checkpoint / name).is_dir())
    for logger in asked:
        logger.log_weights(weights, {name: facts[name] for name in LINEAGE if name in facts})
