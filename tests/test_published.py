"""The two recipes are what is published, and a changed key shows."""

import pytest
from commands import assert_ran, call
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from musician.cli.keys import CONF_DIR
from musician.cli.published import SILENT, agrees, compare_published


def differing(column, *overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
        cfg = compose("plan", list(overrides))
    return {s.key for s, value in compare_published(cfg) if agrees(getattr(s, column), value) is False}


#: Sixteen A800 need a row each; the sources do not say what "batch size 8" was in pre-training.
OTHERWISE = {"sft": set(), "pretrain": {"global_batch_size"}}


@pytest.mark.parametrize("experiment", ["sft", "pretrain"])
@pytest.mark.parametrize("recipe", ["readme", "code"])
def test_a_recipe_is_what_it_is_named_after(experiment, recipe):
    found = differing(recipe, f"+experiment={experiment}", "hardware=8xv100", f"recipe={recipe}")
    assert found == OTHERWISE[experiment]


def test_the_recipes_differ_where_the_sources_do():
    found = differing("code", "+experiment=sft", "hardware=8xv100")
    assert {"module.schedule.warmup_ratio", "lora.modules_to_save", "data.packing"} <= found


def test_any_change_shows():
    changed = differing("readme", "+experiment=sft", "hardware=8xv100", "lora.r=8", "optimizer.lr=1e-3")
    assert changed == {"lora.r", "optimizer.lr"}


@pytest.mark.parametrize(
    ("stated", "value", "same"),
    [(SILENT, 3, None), (1e-4, 0.0001, True), (["a", "b"], ["b", "a"], True), ([0.9, 0.95], [0.95, 0.9], False)],
)
def test_agreement(stated, value, same):
    assert agrees(stated, value) is same


def test_the_command_prints_and_leaves_nothing(tmp_path):
    outcome = call("plan", "+experiment=sft", "hardware=8xv100", "paper=true", cwd=tmp_path)
    assert_ran(outcome)
    assert "released code" in outcome.stdout
    assert "README and paper: 0 of" in outcome.stdout
    assert "DIFFERS" in outcome.stdout
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
