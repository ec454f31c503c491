"""A run directory belongs to one job and says how it came about (B35)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from musician.runtime.errors import UserError
from musician.training.runs.record import RunDirectory, git_state, versions

HOLD = """
import sys
from musician.training.runs.record import RunDirectory
directory = RunDirectory(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """A second process that holds the run directory."""
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_job_is_refused_while_the_first_runs(tmp_path, holder, resume):
    with pytest.raises(UserError, match="another job is running") as caught:
        RunDirectory(tmp_path / "run", resume=resume)
    assert str(tmp_path / "run") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_killed_job_lets_go(tmp_path, holder):
    """B28: no stale lock."""
    holder.kill()
    holder.wait()
    RunDirectory(tmp_path / "run").release()


def test_a_finished_run_is_not_overwritten_but_can_be_continued(tmp_path):
    first = RunDirectory(tmp_path / "run")
    first.record({}, config={})
    first.release()
    with pytest.raises(UserError, match="already holds a run"):
        RunDirectory(tmp_path / "run")
    RunDirectory(tmp_path / "run", resume=True).release()


def test_the_refused_job_releases_what_it_claimed(tmp_path):
    first = RunDirectory(tmp_path)
    first.record({})
    first.release()
    with pytest.raises(UserError) as kept:  # the exception keeps the frame alive
        RunDirectory(tmp_path)
    RunDirectory(tmp_path, resume=True).release()
    assert kept.value is not None


def test_a_directory_that_cannot_be_written_fails_at_once(tmp_path):
    """B28: the original crashes at the first save, after hours."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot be written"):
        RunDirectory(tmp_path / "file" / "run")


def test_the_record_says_how_the_run_came_about(tmp_path):
    run = RunDirectory(tmp_path)
    returned = run.record(
        {"overrides.yaml": "- seed=1\n"}, config={"seed": 1}, overrides=["seed=1"], data_key="abc", tokenizer_hash="def"
    )
    record = json.loads((tmp_path / "run.json").read_text())
    assert record == json.loads(json.dumps(returned, default=str))
    assert (record["config"], record["overrides"]) == ({"seed": 1}, ["seed=1"])
    assert (record["data_key"], record["tokenizer_hash"]) == ("abc", "def")
    assert record["versions"]["torch"] == torch.__version__
    assert record["machine"]["cpus"] == os.cpu_count()
    assert record["command"] == sys.argv
    assert record["python"] == ".".join(map(str, sys.version_info[:3]))


def git(root, *arguments):
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(root), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_git_state_is_the_commit_and_whether_files_differ(tmp_path):
    assert git_state(tmp_path) == {}
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first")
    assert git_state(tmp_path) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "untracked").write_text("")
    assert git_state(tmp_path)["dirty"] is False
    (tmp_path / "file").write_text("two")
    assert git_state(tmp_path)["dirty"] is True


def test_a_package_that_is_not_installed_is_said_to_be_so():
    assert versions(["pytest", "no-such-package"]) == {"pytest": pytest.__version__, "no-such-package": "not installed"}
