"""Tests of training: a prepared data set and a command that really trains."""

import os

import pytest
import torch

from .toys import CommandLine, write_tunes

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tunes(tmp_path_factory):
    """A folder with `tunes.jsonl`; data is prepared beside it once."""
    return write_tunes(tmp_path_factory.mktemp("tunes"))


@pytest.fixture(scope="session")
def command_line(tmp_path_factory):
    """Runs `python -m musician.train +experiment=smoke` in processes of its own."""
    return CommandLine(tmp_path_factory.mktemp("cli"), {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
