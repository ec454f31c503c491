"""Fixtures: a tokenizer in memory and the local copies of the real data."""

import os
from pathlib import Path

import pytest
import torch

from .toys import byte_tokenizer

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture(scope="session")
def data_folder():
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("MUSICIAN_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MUSICIAN_TEST_DATA")
    return folder
