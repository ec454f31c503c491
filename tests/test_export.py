"""What `musician.merge` writes is a model for other servers: prompts, sampling, and names that llama.cpp knows."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict
from socket import socket
from urllib.request import urlopen

import gguf
import pytest
import torch
from commands import assert_ran, call
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from musician.data.rendering.conversation import Message
from musician.data.rendering.render import Renderer
from musician.generation.forward import prepare
from musician.generation.sampling import Sampling
from musician.generation.stream import tokens
from musician.lm.language_model import LanguageModel
from musician.model.network import random_llama

ASK = [Message("user", "Write a jig."), Message("assistant", "|:GAB:|"), Message("user", "Again")]


@pytest.fixture
def exported(tmp_path, byte_tokenizer):
    base = random_llama(259)
    base.save_pretrained(tmp_path / "base")
    byte_tokenizer.save_pretrained(tmp_path / "base")
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    network = get_peft_model(base, config)
    network.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    network.save_pretrained(tmp_path / "adapter")
    assert_ran(call("merge", f"model={tmp_path / 'adapter'}", f"output_dir={tmp_path / 'out'}", cwd=tmp_path))
    return tmp_path / "out"


def test_plain_transformers_asks_and_answers_as_musician_does(exported, byte_tokenizer):
    model = AutoModelForCausalLM.from_pretrained(exported).eval()
    served = AutoTokenizer.from_pretrained(exported)
    turns = [asdict(message) for message in ASK]
    ids = served.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    assert ids[0].tolist() == Renderer(byte_tokenizer, "human_assistant").prompt_ids(ASK)
    eos = byte_tokenizer.eos_token_id
    written = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=30)
    greedy = list(
        tokens(prepare(LanguageModel(model, None)), ids[0].tolist(), Sampling(temperature=0, max_new_tokens=30), eos)
    )
    assert [token for token in written[0, ids.shape[1] :].tolist() if token != eos] == greedy


def test_a_server_that_gives_nothing_but_a_seed_samples(exported):
    model = AutoModelForCausalLM.from_pretrained(exported).eval()
    ids = torch.tensor([[70, 71, 72]])

    def answer(seed, **settings):
        torch.manual_seed(seed)
        return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, **settings)[0].tolist()

    assert answer(1, temperature=2.0) == answer(1, temperature=2.0) != answer(2, temperature=2.0)
    assert model.generation_config.do_sample


def test_llama_cpp_s_converter_knows_every_tensor_and_the_chat_template(exported):
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 4)
    with safe_open(exported / "model.safetensors", "pt") as file:
        unknown = [name for name in file.keys() if names.get_name(name, (".weight",)) is None]  # noqa: SIM118
    assert unknown == []
    found = gguf.SpecialVocab(exported, load_merges=True)
    assert "Human:" in found.chat_template
    assert {"bos", "eos"} <= set(found.special_token_ids)


@pytest.mark.slow
def test_transformers_serve_answers_as_musician_does(exported, byte_tokenizer, tmp_path):
    openai = pytest.importorskip("openai")
    pytest.importorskip("fastapi")
    with served(exported, tmp_path) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)

        def answer(**settings):
            asked = [{"role": "user", "content": "Write a jig."}]
            made = client.chat.completions.create(model=str(exported), messages=asked, max_tokens=24, **settings)
            return made.choices[0].message.content

        network = AutoModelForCausalLM.from_pretrained(exported).eval()
        renderer = Renderer(byte_tokenizer, "human_assistant")
        ids = list(
            tokens(
                prepare(LanguageModel(network, None)),
                renderer.prompt_ids(ASK[:1]),
                Sampling(temperature=0, max_new_tokens=24),
                byte_tokenizer.eos_token_id,
            )
        )
        assert answer(temperature=0) == byte_tokenizer.decode(ids)
        assert answer(temperature=1.0, seed=1) == answer(temperature=1.0, seed=1) != answer(temperature=1.0, seed=2)


@contextmanager
def served(model, folder):
    """The address of `transformers serve` with a model, without network."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "hub").mkdir()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), "--port", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert server.poll() is None, (folder / "log").read_text()
            with suppress(OSError), urlopen(f"{address}/health", timeout=5):
                break
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)
