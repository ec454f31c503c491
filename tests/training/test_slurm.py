"""SLURM's tasks are the ranks of a job, or one task is a job that starts its ranks by itself."""

import pytest

from musician.runtime.errors import UserError
from musician.training.slurm import check_tasks, without_tasks

#: As slurm 22.05 sets them in a task of `srun --ntasks-per-node=2`, and in the batch script around it.
BATCH = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "job.sh", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
TASK = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}


@pytest.mark.parametrize(
    "environment", [{}, TASK, {**BATCH, "SLURM_JOB_NAME": "interactive"}, {**BATCH, "TORCHELASTIC_RUN_ID": "torchrun"}]
)
def test_tasks_that_are_the_ranks_pass(environment):
    check_tasks(2, environment)


def test_one_process_in_a_batch_script_passes():
    check_tasks(1, {"SLURM_JOB_NAME": "job.sh", "SLURM_NTASKS": "1"})


@pytest.mark.parametrize(
    ("processes", "environment", "words"),
    [
        (8, TASK, "starts 2 tasks a node, this job has 8 .*--ntasks-per-node=8"),
        (2, BATCH, "with srun"),
        (2, {"SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"}, "--ntasks=2 .*--ntasks-per-node=2"),
    ],
)
def test_what_would_wait_for_ever_is_refused(processes, environment, words):
    with pytest.raises(UserError, match=words) as caught:
        check_tasks(processes, environment)
    assert "\n" not in str(caught.value)


def test_a_job_of_a_sweep_starts_its_own_ranks():
    one = {**TASK, "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1"}
    check_tasks(2, without_tasks(one))
    assert without_tasks({"A": "b"}) == {"A": "b"}
    with pytest.raises(UserError, match="tasks_per_node=1"):
        without_tasks(TASK)
