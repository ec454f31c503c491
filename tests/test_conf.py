"""Every file under conf/ composes, every node fits the signature it is for, and hardware changes the machine only."""

import inspect
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest
import yaml
from commands import COMMANDS, CONF, ROOT, composed, options, plain
from hydra.utils import get_object
from omegaconf import OmegaConf

from musician.cli.keys import check_keys
from musician.runtime.errors import UserError

EXPERIMENTS, MACHINES, RECIPES = options("experiment"), options("hardware"), options("recipe")

#: Arguments that a command adds to a node; everything else must stand in the config.
ADDED_BY_CODE = {
    "musician.training.datamodule.TokenDataModule": ["renderer"],
    "musician.data.rendering.render.Renderer": ["tokenizer"],
    "musician.training.module.PretrainModule": ["network", "optimizer"],
    "musician.training.module.SFTModule": ["network", "optimizer"],
    "musician.training.callbacks.evaluation.Evaluations": ["benchmarks", "renderer"],
    "musician.training.callbacks.checkpoints.Checkpoints": ["tokenizer", "description"],
    "musician.training.callbacks.samples.Samples": ["renderer"],
    "musician.model.optimizer.adamw": ["network"],
    "pytorch_lightning.Trainer": ["strategy", "accumulate_grad_batches", "callbacks", "logger"],
}


def groups_of(command):
    """Groups of a primary config, with whether a list of options is chosen."""
    defaults = OmegaConf.to_container(OmegaConf.load(CONF / f"{command}.yaml")).get("defaults", [])
    choices = {k: v for item in defaults if isinstance(item, dict) for k, v in item.items()}
    return {group: isinstance(option, list) for group, option in choices.items() if not group.startswith("override ")}


def choices():
    """Every (command, override) that chooses one option of one group."""
    for command in COMMANDS:
        for group, is_list in groups_of(command).items():
            for option in options(group):
                yield command, f"{group}=[{option}]" if is_list else f"{group}={option}"
    yield from (("train", f"+{group}={option}") for group in ("experiment", "sweep") for option in options(group))


def nodes(tree, path=""):
    """Every node with a `_target_`, at any depth, also inside lists."""
    if isinstance(tree, Mapping):
        if "_target_" in tree:
            yield path, tree
        for key, child in tree.items():
            yield from nodes(child, f"{path}.{key}".lstrip("."))
    elif isinstance(tree, list):
        for index, child in enumerate(tree):
            yield from nodes(child, f"{path}[{index}]")


def bind(path, node):
    """Bind a node's arguments as the command would; a name that only `**kwargs` would take is refused too."""
    target = node["_target_"]
    signature = inspect.signature(get_object(target))
    written = {str(key) for key in node if not str(key).startswith("_")}
    added = set(ADDED_BY_CODE.get(target, ()))
    named = {p.name for p in signature.parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    assert written | added <= named, f"{path}: {target} has no argument {sorted(written | added - named)}"
    signature.bind(**dict.fromkeys(written | added))


def bind_all(config):
    """Bind every node of a config; return the targets that were found."""
    found = list(nodes(plain(config)))
    for path, node in found:
        bind(path, node)
    return {node["_target_"] for _, node in found}


def test_what_the_paper_and_the_demo_need_is_on_disk():
    assert {"pretrain", "sft", "demo_pretrain", "demo_sft", "smoke"} <= set(EXPERIMENTS)
    assert {"cpu", "cpu_2proc", "1xh200", "8xv100", "16xa800"} <= set(MACHINES)
    assert {"readme", "code"} <= set(RECIPES)
    assert {"music_pile", "music_pile_sft", "files", "tunes", "tune_tasks"} <= set(options("data"))
    assert {"llama2_7b", "chatmusician_base", "smollm2_135m", "tiny"} <= set(options("model"))
    assert {"csv", "tensorboard", "wandb"} <= set(options("logger"))
    assert "lora_rank" in options("sweep")


def test_links_lead_to_the_folders_that_people_edit():
    for link, folder in (("experiment", "experiments"), ("sweep", "sweeps")):
        assert (CONF / link).is_symlink()
        assert (CONF / link).resolve() == ROOT / folder
        assert list((CONF / link).glob("*.yaml"))


def test_every_option_belongs_to_a_command():
    used = {group for command in COMMANDS for group in groups_of(command)} | {"experiment", "sweep", "hydra"}
    assert {folder.name for folder in CONF.iterdir() if folder.is_dir()} == used


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_as_it_is(command):
    config = composed(command)
    check_keys(config, command)
    assert set(groups_of(command)) <= set(config)


def test_every_option_of_every_group_composes_and_binds():
    targets, tried = set(), list(choices())
    for command, override in tried:
        config = composed(command, override)
        check_keys(config, command)
        targets |= bind_all(config)
    for command in COMMANDS:
        targets |= bind_all(composed(command)) | bind_all(OmegaConf.load(CONF / f"{command}.yaml").hydra)
    on_disk = {node["_target_"] for file in CONF.rglob("*.yaml") for _, node in nodes(plain(OmegaConf.load(file)))}
    on_disk |= {
        n["_target_"] for f in (ROOT / "experiments").glob("*.yaml") for _, n in nodes(plain(OmegaConf.load(f)))
    }
    assert targets == on_disk, "a target on disk was never composed"
    assert len(tried) > 40
    assert len(targets) > 20


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_binds_on_every_machine(experiment, machine):
    config = composed("train", f"+experiment={experiment}", f"hardware={machine}")
    check_keys(config, "train")
    targets = bind_all(config)
    assert {"pytorch_lightning.Trainer", "musician.runtime.hardware.Hardware", "peft.LoraConfig"} <= targets
    assert config.hardware.name == machine


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_binds_with_every_recipe(experiment, recipe):
    config = composed("train", f"+experiment={experiment}", f"recipe={recipe}")
    check_keys(config, "train")
    assert config.recipe.schedule._target_ in bind_all(config)
    assert config.recipe.name == recipe


@pytest.mark.parametrize(
    ("node", "why"),
    [
        ({"_target_": "musician.model.optimizer.adamw", "lr": 1, "lrr": 1}, "has no argument"),
        (
            {"_target_": "musician.training.loggers.wandb_run.WandbRun", "save_dir": "x", "projct": "musician"},
            "has no argument",
        ),
        ({"_target_": "musician.benchmarks.tunes.held_out_tunes.HeldOutTunes"}, "missing a required argument"),
        ({"_target_": "musician.model.optimizer.adam"}, "adam"),
    ],
)
def test_the_binding_above_can_fail(node, why):
    with pytest.raises((AssertionError, TypeError, ImportError), match=why):
        bind("node", node)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_hardware_changes_the_machine_and_not_the_training_configuration(experiment):
    configs = {
        m: plain(composed("train", f"+experiment={experiment}", f"hardware={m}"), resolve=True) for m in MACHINES
    }
    machine_only = {
        "hardware": None,
        "model": {"network": ["dtype", "attn_implementation", "gradient_checkpointing"]},
        "trainer": ["accelerator", "devices", "num_nodes", "precision"],
    }
    first = configs["cpu"]
    assert {"global_batch_size", "seed", "data", "module", "optimizer", "lora", "recipe", "benchmark"} <= set(first)
    for machine, config in configs.items():
        for key in first:
            assert without(config[key], machine_only.get(key, ())) == without(first[key], machine_only.get(key, ())), (
                machine,
                key,
            )


def without(tree, removed):
    """A tree less the keys that a machine may set; None removes all of it."""
    if removed is None:
        return None
    if not isinstance(tree, dict):
        return tree
    deeper = removed if isinstance(removed, dict) else {}
    return {k: without(v, deeper.get(k, ())) for k, v in tree.items() if k not in removed or k in deeper}


@pytest.mark.parametrize(
    ("experiment", "machine"),
    [
        ("pretrain", "16xa800"),
        ("pretrain", "8xv100"),
        ("sft", "8xv100"),
        ("sft", "1xh200"),
        *product(EXPERIMENTS, ["cpu"]),
    ],
)
def test_what_the_ranks_accumulate_makes_up_the_global_batch(experiment, machine):
    from hydra.utils import instantiate

    config = composed("train", f"+experiment={experiment}", f"hardware={machine}")
    hardware = instantiate(config.hardware, _convert_="all")
    rows = hardware.accumulation_steps(config.global_batch_size) * config.hardware.micro_batch_size
    assert rows * config.hardware.devices * config.hardware.num_nodes == config.global_batch_size


def test_the_recipes_differ_where_the_paper_and_the_scripts_do():
    readme, code = (composed("train", "+experiment=sft", f"recipe={recipe}") for recipe in ("readme", "code"))
    assert plain(readme.recipe.schedule)["_target_"] != plain(code.recipe.schedule)["_target_"]
    assert (readme.lora.modules_to_save, code.lora.modules_to_save) == (["embed_tokens", "lm_head"], None)
    assert (readme.recipe.schedule.warmup_ratio, readme.data.packing) == (0.05, True)
    assert (code.recipe.schedule.warmup_ratio, code.data.packing) == (0.1, False)


def test_the_papers_tuning_is_what_the_paper_says():
    config = composed("train", "+experiment=sft", "hardware=8xv100")
    assert (config.lora.r, config.lora.lora_alpha, config.lora.lora_dropout) == (64, 16, 0.1)
    assert set(config.lora.target_modules) == {f"{n}_proj" for n in ("q", "k", "v", "o", "gate", "up", "down")}
    assert (config.optimizer.lr, config.trainer.max_epochs, config.global_batch_size) == (1e-4, 2, 8)
    assert config.hardware.precision == "16-mixed"
    assert config.hardware.attn_implementation == "sdpa"


def test_a_rank_sweep_keeps_alpha():
    alphas = {composed("train", "+experiment=sft", f"lora.r={r}").lora.lora_alpha for r in (8, 16, 32, 64)}
    assert alphas == {16}


def test_the_wandb_sweep_of_the_docs_composes_each_of_its_jobs():
    text = (ROOT / "docs" / "sweeps.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    sweep = yaml.safe_load(text)
    words = sweep["command"]
    assert words[2:4] == ["-m", "musician.train"]
    assert words[-1] == "${args_no_hyphens}"
    (key, tried), *others = sweep["parameters"].items()
    assert not others
    for value in tried["values"]:
        config = composed("train", *words[4:-1], f"{key}={value}")
        check_keys(config, "train")
        assert OmegaConf.select(config, key) == value
        assert config.objective == sweep["metric"]["name"]


@pytest.mark.parametrize("budget", options("budget"))
@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_a_budget_of_the_demo_fits_its_experiments(budget, stage):
    overrides = composed("demo", f"budget={budget}").budget[stage]
    config = composed("train", f"+experiment=demo_{stage}", *overrides)
    check_keys(config, "train")
    for override in overrides:
        key, _, value = override.partition("=")
        assert OmegaConf.select(config, key) == yaml.safe_load(value)


def test_the_small_budget_is_smaller_than_the_full_one():
    ci, full = (
        composed("train", "+experiment=demo_pretrain", *composed("demo", f"budget={budget}").budget.pretrain)
        for budget in ("ci", "full")
    )
    assert ci.data.limit_train_rows < full.data.limit_train_rows
    assert ci.benchmark.held_out_tunes.limit < full.benchmark.held_out_tunes.limit


@pytest.mark.parametrize("file", sorted(Path(ROOT, "experiments").glob("*.yaml")), ids=lambda file: file.stem)
def test_an_experiment_is_a_short_delta_that_begins_with_its_question(file):
    lines = file.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith("# ")
    assert len(lines) <= 35
    assert file.stem in (file.parent / "README.md").read_text()


def test_check_keys_refuses_a_key_that_nothing_reads():
    config = OmegaConf.create(plain(composed("train")))
    config.optimizer["learning_rat"] = 1
    with pytest.raises(UserError, match=r"optimizer\.learning_rat"):
        check_keys(config, "train")
