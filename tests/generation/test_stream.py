"""Streaming, stopping, seeds, files of prompts and the conversation."""

import io
import json

import pytest
import torch
from rich.console import Console

from musician.data.rendering.conversation import Message
from musician.data.rendering.render import Renderer
from musician.generation.chat import chat
from musician.generation.constraint import answer_constraint
from musician.generation.forward import prepare
from musician.generation.prompts import answer_file, read_prompts
from musician.generation.sampling import Sampling
from musician.generation.stream import stream, tokens
from musician.lm.language_model import LanguageModel
from musician.music.grammar import TuneConstraints, TuneGrammar
from musician.runtime.errors import UserError

ASK = [Message("user", "Write a jig.")]


@pytest.fixture(scope="module")
def model(tiny_network, byte_tokenizer):
    renderer = Renderer(byte_tokenizer, "human_assistant")
    return prepare(LanguageModel(tiny_network.eval(), renderer)), renderer


def test_greedy_tokens_are_those_of_transformers(model, tiny_network):
    forward, renderer = model
    prompt = renderer.prompt_ids(ASK)
    ids = torch.tensor([prompt])
    eos = renderer.tokenizer.eos_token_id
    expected = tiny_network.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=40, eos_token_id=eos, use_cache=True
    )
    found = list(tokens(forward, prompt, Sampling(temperature=0, max_new_tokens=40), eos))
    assert found == [token for token in expected[0, len(prompt) :].tolist() if token != eos]


def test_a_seed_decides_and_pieces_join_to_the_answer(model):
    texts = ["".join(stream(*model, ASK, Sampling(temperature=1.5, max_new_tokens=30, seed=s))) for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_stop_ends_an_answer(model):
    asked = []

    def stopped():
        asked.append(1)
        return len(asked) == 5

    "".join(stream(*model, ASK, Sampling(temperature=1.5, max_new_tokens=100), stopped=stopped))
    assert len(asked) == 5


def test_a_constrained_answer_is_a_tune(model):
    forward, renderer = model
    constraint = answer_constraint(renderer, TuneConstraints(bars=2, meter="6/8"))
    sampling = Sampling(temperature=1.5, top_k=0, top_p=1, max_new_tokens=260)
    text = "".join(stream(forward, renderer, ASK, sampling, constraint))
    grammar = TuneGrammar(TuneConstraints(bars=2, meter="6/8"))
    assert grammar.accepts(grammar.walk(grammar.start(), text))


def test_a_file_goes_on_where_it_was_cut(model, tmp_path):
    prompts = [[Message("user", f"Tune {number}")] for number in range(4)]
    sampling = Sampling(temperature=1.5, max_new_tokens=20, seed=7)
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert answer_file(*model, prompts, whole, sampling) == 4
    lines = whole.read_bytes().splitlines(keepends=True)
    cut.write_bytes(b"".join(lines[:2]) + lines[2][:10])
    assert answer_file(*model, prompts, cut, sampling) == 2
    assert sorted(cut.read_bytes().splitlines()) == sorted(whole.read_bytes().splitlines())
    assert [json.loads(line)["sampling"]["seed"] for line in lines] == [7, 8, 9, 10]
    with pytest.raises(UserError, match="other settings"):
        answer_file(*model, prompts, cut, Sampling(temperature=1.0, max_new_tokens=20, seed=7))


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"prompt": 3}', '{"messages": [{"role": "assistant"}]}', ""])
def test_a_bad_file_of_prompts_is_refused(tmp_path, line):
    (tmp_path / "p.jsonl").write_text(line + "\n")
    with pytest.raises(UserError):
        read_prompts(tmp_path / "p.jsonl")


def test_a_conversation_can_be_undone_and_stopped(monkeypatch):
    typed = iter(["one", "[bold]two", "/undo", "three", "/quit"])
    heard = []

    def answer(messages):
        heard.append([message.content for message in messages])
        yield "[red]a"
        if messages[-1].content == "three":
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", lambda *_: next(typed))
    out = io.StringIO()
    messages = chat(answer, Console(file=out))
    assert heard[1:] == [["one", "[red]a", "[bold]two"], ["one", "[red]a", "three"]]
    assert messages[-1].content == "[red]a"
    assert "[red]a" in out.getvalue()
    assert "[stopped]" in out.getvalue()
