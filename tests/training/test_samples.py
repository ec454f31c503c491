"""What the model writes while it is trained: kept, continued, and without a trace in the training."""

import json

import pytest
import torch

from musician.generation.forward import prepare
from musician.generation.sampling import Sampling
from musician.lm.language_model import LanguageModel
from musician.runtime.errors import UserError
from musician.training.callbacks.samples import Samples, answer

from .test_evaluation import Tables
from .toys import data, fit, write_tunes

PROMPTS = ("Write a jig.", "Write a reel.")


@pytest.fixture(scope="module")
def tunes(tmp_path_factory):
    return write_tunes(tmp_path_factory.mktemp("tunes"))


def samples(tunes, folder, **options):
    return Samples(data(tunes).renderer, folder, PROMPTS, Sampling(max_new_tokens=4, seed=5), **options)


def read(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def test_every_prompt_is_answered_at_the_start_and_at_epoch_ends_and_training_does_not_notice(tunes, tmp_path):
    plain, sampled = fit(tunes, epochs=2), fit(tunes, epochs=2, callbacks=[samples(tunes, tmp_path)])
    assert sampled.log.column("train/loss") == plain.log.column("train/loss")
    for name, weight in plain.weights().items():
        assert torch.equal(weight, sampled.weights()[name]), name
    rows = read(tmp_path)
    assert [(row["step"], row["prompt"]) for row in rows] == [(step, one) for step in (0, 4, 8) for one in PROMPTS]
    renderer = data(tunes).renderer
    forward = prepare(LanguageModel(sampled.module.network.eval(), renderer))
    assert rows[-1]["text"] == answer(forward, renderer, PROMPTS[1], Sampling(max_new_tokens=4, seed=5))
    assert rows[-1]["tune"] == "no tune was recognised in the answer"


def test_a_run_that_continues_keeps_the_earlier_answers(tunes, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    fit(tunes, whole / "checkpoints", epochs=2, callbacks=[samples(tunes, whole)])
    fit(tunes, parts / "checkpoints", epochs=1, callbacks=[samples(tunes, parts)])
    first = read(parts)
    state = parts / "checkpoints" / "last" / "state.ckpt"
    fit(tunes, parts / "checkpoints", epochs=2, callbacks=[samples(tunes, parts)], resume=state)
    assert len(first) == 4
    assert read(parts)[:4] == first
    assert [row["step"] for row in read(parts)] == [row["step"] for row in read(whole)]


def test_the_answers_are_a_table(tunes, tmp_path):
    tables = []
    callback = samples(tunes, tmp_path, at_start=False, every_n_epochs=2)
    run = fit(tunes, epochs=1, callbacks=[callback])
    assert callback.rows == []
    run.trainer.loggers = [Tables(tables)]
    callback.run(run.trainer, run.module.network)
    ((key, columns, rows),) = tables
    assert (key, columns) == ("samples", ["step", "prompt", "text", "tune"])
    assert [row[:2] for row in rows] == [[4, prompt] for prompt in PROMPTS]


def test_nothing_to_ask_is_refused(tmp_path):
    with pytest.raises(UserError, match="must hold one"):
        Samples(print, tmp_path, [], Sampling())
