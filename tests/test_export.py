"""What `musician.merge` writes is a model for other servers: prompts, sampling, and names that llama.cpp knows."""

from dataclasses import asdict

import gguf
import pytest
import torch
from doors import assert_ran, call
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from musician.data.conversation import Message
from musician.data.render import Renderer
from musician.inference.sampling import Sampling
from musician.inference.stream import tokens
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
    greedy = list(tokens(model, ids[0].tolist(), Sampling(temperature=0, max_new_tokens=30), eos))
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
