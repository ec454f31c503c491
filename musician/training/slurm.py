"""What SLURM's variables say of the tasks of a job, which must be its ranks."""

from __future__ import annotations

import os
from collections.abc import Mapping

from musician.runtime.errors import UserError

#: Job names by which Lightning knows that SLURM did not start the ranks.
_BY_HAND = ("bash", "interactive")


def check_tasks(processes: int, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to start where SLURM's tasks are not the ranks: Lightning would wait for ranks that never come.

    Args:
        processes: ranks a node.
        environment: variables of this process.

    Raises:
        UserError: naming the option of sbatch that fits.
    """
    by_hand = environment.get("SLURM_JOB_NAME") in _BY_HAND or "TORCHELASTIC_RUN_ID" in environment
    if "SLURM_NTASKS" not in environment or by_hand:
        return
    tasks, per_node = int(environment["SLURM_NTASKS"]), environment.get("SLURM_NTASKS_PER_NODE")
    wanted = f"--ntasks-per-node={processes}"
    if per_node is None and tasks > 1:
        raise UserError(f"SLURM: --ntasks={tasks} leaves open how many tasks a node has; give {wanted}")
    if per_node is not None and int(per_node) != processes:
        raise UserError(
            f"SLURM starts {per_node} tasks a node, this job has {processes} processes on one; give {wanted}"
        )
    if processes > 1 and "SLURM_STEP_ID" not in environment:
        raise UserError("SLURM: the batch script itself is one process; start the ranks with srun python -m ...")


def without_tasks(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables for a job that starts its ranks by itself, inside a task of SLURM or outside.

    Raises:
        UserError: there are several such tasks, and each would run the whole job.
    """
    if int(environment.get("SLURM_NTASKS") or 1) > 1 and "SLURM_STEP_ID" in environment:
        raise UserError(
            "SLURM: a job of a sweep starts its ranks by itself and wants one task: hydra.launcher.nodes=1 "
            "hydra.launcher.tasks_per_node=1"
        )
    marked = {"SLURM_JOB_NAME": _BY_HAND[1]} if "SLURM_NTASKS" in environment else {}
    return {**environment, **marked}
