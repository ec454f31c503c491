"""The processes of a job: its ranks, and the jobs of a sweep."""

from __future__ import annotations

import os
import sys

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

#: Set for the processes of a job; only its first one claims the run directory and prints.
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")


def is_child_rank() -> bool:
    """Whether this process is not the first of its job, whoever started it: Lightning, torchrun or SLURM."""
    return any(int(os.environ.get(name) or 0) > 0 for name in _RANK_VARIABLES)


def in_sweep() -> bool:
    """Whether this process composes the jobs of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def job_command(module: str, *more: str) -> list[str]:
    """Return the command that runs the current Hydra job, never the sweep it is part of, in the same output directory.

    Args:
        module: the command, `musician.train`.
        more: overrides to add.
    """
    job = HydraConfig.get()
    folders = [source.path for source in job.runtime.config_sources if source.provider == "command-line"]
    return [
        *(sys.executable, "-m", module, "--config-name", str(job.job.config_name)),
        *(argument for folder in folders for argument in ("--config-dir", folder)),
        *job.overrides.task,
        f'hydra.run.dir="{job.runtime.output_dir}"',
        "hydra.output_subdir=null",
        "hydra.mode=RUN",
        *more,
    ]


def rank_command(module: str, local_rank: int) -> list[str]:
    """Return the command that runs another rank of the current Hydra job, in the same output directory."""
    return job_command(module, f"hydra.job.name={HydraConfig.get().job.name}_rank{local_rank}")


def pin_ranks(module: str) -> None:
    """Make Lightning start the other ranks of this job with this job's own command.

    Stock Lightning runs argv again, which in a multirun holds the whole grid, so each child would run the whole sweep;
    and inside a launcher such as submitit argv is not even ours.

    Args:
        module: the command, `musician.train`.
    """
    from pytorch_lightning.strategies.launchers import subprocess_script

    subprocess_script._hydra_subprocess_cmd = lambda local_rank: (
        rank_command(module, local_rank),
        HydraConfig.get().runtime.cwd,
    )
