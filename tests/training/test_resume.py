"""A run continues with the training configuration it began with, unless its user allows another."""

import json

import pytest
from commands import TINY, assert_ran, assert_refused, call, tunes, write_jsonl

from musician.runtime.errors import UserError
from musician.training.runs.changes import differences
from musician.training.runs.resume import check_unchanged, training_changes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run of an epoch in `run/`."""
    folder = tmp_path_factory.mktemp("resume")
    write_jsonl(folder / "tunes.jsonl", tunes(12))
    assert_ran(train(folder, "hydra.run.dir=run"))
    return folder


def train(folder, *arguments):
    data = ["data=files", "data.path=tunes.jsonl", "cache_dir=cache", "data.max_length=256"]
    return call("train", *TINY, *data, *arguments, cwd=folder)


CHANGES = [
    ("seed=7", "seed: 1234 -> 7"),
    ("global_batch_size=4", "global_batch_size: 8 -> 4"),
    ("optimizer.lr=0.5", "optimizer.lr: 0.0001 -> 0.5"),
    ("lora.r=4", "lora.r: 2 -> 4"),
    ("recipe=code", "recipe.name: readme -> code"),
    ("module=sft", "module._target_: "),
    ("model.network.hidden_size=32", "model.network.hidden_size: 64 -> 32"),
    ("data.max_length=200", "data.max_length: 256 -> 200"),
    ("trainer.max_epochs=2", "trainer.max_epochs: 1 -> 2"),
    ("trainer.gradient_clip_val=2", "trainer.gradient_clip_val: 1.0 -> 2"),
    ("recipe.template=chatml", "recipe.template: human_assistant -> chatml"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=[change for change, _ in CHANGES])
def test_another_training_configuration_is_named_and_refused(folder, change, said):
    before = (folder / "run" / "run.json").read_bytes()
    outcome = train(folder, "ckpt_path=run", "hydra.run.dir=run", change)
    assert_refused(outcome, said, "allow_changed_config=true", ".hydra/overrides.yaml")
    assert (folder / "run" / "run.json").read_bytes() == before


def test_a_value_that_others_take_over_is_named_once(folder):
    assert train(folder, "ckpt_path=run", "seed=7").stderr.count("1234 -> 7") == 1


def test_the_content_of_the_data_counts_and_not_where_it_is(folder):
    write_jsonl(folder / "other.jsonl", tunes(11))
    assert_ran(train(folder, "ckpt_path=run", "hydra.run.dir=moved", "data.root=elsewhere"))
    outcome = train(folder, "ckpt_path=run", "hydra.run.dir=other", "data.path=other.jsonl")
    assert_refused(outcome, "data_key: ", "allow_changed_config=true")
    assert not (folder / "other").exists()


def test_hardware_output_loggers_and_benchmarks_are_free(folder):
    free = ["hydra.run.dir=free", "hardware.micro_batch_size=2", "logger=[tensorboard]", "name=free", "seed=1234"]
    outcome = train(
        folder,
        "ckpt_path=run",
        *free,
        "callbacks.checkpoints.keep=3",
        "objective=null",
        "benchmark.theory.per_topic=2",
    )
    assert_ran(outcome)
    assert "another config" not in outcome.stdout


def test_who_wants_the_change_gets_it_and_it_is_said(folder):
    longer = ["hydra.run.dir=longer", "trainer.max_epochs=2", "allow_changed_config=true"]
    outcome = train(folder, "ckpt_path=run", *longer)
    assert_ran(outcome)
    assert "continues with another config: trainer.max_epochs: 1 -> 2" in outcome.stdout
    assert "finished at step 2" in outcome.stdout
    assert json.loads((folder / "longer" / "run.json").read_text())["resumed_from"].endswith("step-000001")


def test_auto_begins_and_then_continues(folder):
    """So that a requeued job runs the same command; a run that is done ends well again."""
    command = ["hydra.run.dir=auto", "ckpt_path=auto"]
    for wanted in (None, "step-000001"):
        assert_ran(train(folder, *command))
        resumed = json.loads((folder / "auto" / "run.json").read_text())["resumed_from"]
        assert resumed is None if wanted is None else resumed.endswith(wanted)


def test_many_changes_are_counted():
    before = {"config": {"optimizer": {str(index): 0 for index in range(9)}}}
    with pytest.raises(UserError, match="and 4 more"):
        check_unchanged(before, {"config": {"optimizer": {str(index): 1 for index in range(9)}}}, False)


def test_a_key_that_came_or_went_counts():
    assert training_changes({"lora": {"r": 8}}, {"lora": {"r": 8, "use_dora": True}}) == [
        "lora.use_dora: absent -> True"
    ]
    assert training_changes({"lora": {"r": 8}}, {}) == ["lora: {'r': 8} -> absent"]


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ["a.c: 2 -> 3"]),
        ({"a": {"b": 1}}, {"a": None}, ["a: {'b': 1} -> None"]),
        ({"a": 1}, {"b": 2}, ["a: 1 -> absent", "b: absent -> 2"]),
        ({"free": 1, "a": {"free": 1, "b": 1}}, {"free": 2, "a": {"free": 2, "b": 2}}, ["a.b: 1 -> 2"]),
    ],
)
def test_differences_name_the_keys(before, now, found):
    assert list(differences(before, now, free=("free", "a.free"))) == found
