"""What a user types and sees: help, a job shown, a slip of the finger, data prepared, a model trained and used."""

import csv
import json
import re
import shlex
import shutil
import subprocess

import pytest
import torch
from commands import (
    COMMANDS,
    FOUR_QUESTIONS,
    ROOT,
    TINY,
    assert_ran,
    assert_refused,
    assert_stopped,
    call,
    one_job,
    options,
    spawn,
    spawn_python,
    tune,
    tunes,
    write_jsonl,
)

HEAVY = ("torch", "transformers", "pytorch_lightning", "deepspeed", "datasets", "peft", "wandb", "music21")

# Help and the job that would run


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_how_to_call_the_command(tmp_path, command):
    outcome = call(command, "--help", cwd=tmp_path)
    assert_ran(outcome)
    assert f"python -m musician.{command}" in outcome.stdout
    assert "$" not in outcome.stdout.replace("${", ""), "an unfilled place of the template"
    assert list(tmp_path.iterdir()) == []


def test_help_of_training_teaches_groups_experiments_and_machines(tmp_path):
    text = call("train", "--help", cwd=tmp_path).stdout
    for group in (
        "data",
        "model",
        "module",
        "lora",
        "optimizer",
        "hardware",
        "benchmark",
        "logger",
        "callbacks",
        "recipe",
    ):
        line = next(line for line in text.splitlines() if line.startswith(f"{group}: "))
        assert set(options(group)) == set(re.split(r"[:, ]+", line.rstrip())) - {group}, "a base (_name) is no option"
    for experiment in options("experiment"):
        assert experiment in text
    for machine in options("hardware"):
        assert re.search(rf"^ .*\b{machine} ", text, re.MULTILINE), f"{machine} is not explained"
    assert "+sweep=lora_rank" in text
    assert "--cfg job --resolve" in text


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "demo"])
def test_the_examples_in_the_help_compose(tmp_path, command):
    text = call(command, "--help", cwd=tmp_path).stdout
    commands = re.findall(rf"^ +python -m musician\.{command}((?: [^#\n]+)?)", text, re.MULTILINE)
    assert commands
    for example in commands:
        outcome = call(command, *one_job(shlex.split(example)), "--cfg", "job", cwd=tmp_path)
        assert_ran(outcome)
        assert outcome.stdout


def test_the_job_is_shown_resolved_and_without_loading_anything_heavy(tmp_path):
    program = (
        "import runpy, sys\n"
        "sys.argv = ['train', *'+experiment=sft hardware=8xv100 --cfg job --resolve'.split()]\n"
        "runpy.run_module('musician.train', run_name='__main__')\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    outcome = spawn_python("-c", program, cwd=tmp_path)
    assert_ran(outcome)
    assert outcome.stderr == "[]\n"
    assert "${" not in outcome.stdout.replace("${hydra:", "")
    for line in ("name: sft", "global_batch_size: 8", "precision: 16-mixed", "devices: 8", "max_epochs: 2"):
        assert line in outcome.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_papers_job_on_a_machine_without_gpus_ends_in_one_line(tmp_path):
    outcome = spawn("train", "+experiment=sft", "hardware=8xv100", cwd=tmp_path)
    assert_refused(outcome, "hardware=8xv100", "8 GPUs", "found 0", "use hardware=cpu")
    assert outcome.stdout == ""
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_showing_a_sweep_is_refused_in_one_line(tmp_path):
    assert_refused(call("train", "-m", "+experiment=smoke", "lora.r=2,4", "--cfg", "job", cwd=tmp_path), "multirun")


# Slips of the finger


SLIPS = [
    ("train", ["optimizer.lrr=1"], "optimizer.lrr", "lr"),
    ("train", ["+optimizer.lrr=1"], "optimizer.lrr", "lr"),
    ("train", ["+sed=1"], "sed", "seed"),
    ("train", ["data.source.pth=x"], "data.source.pth", "path"),
    ("train", ["+data.source.pth=x"], "data.source.pth", "path"),
    ("train", ["+data.max_lenght=5"], "data.max_lenght", "max_length"),
    ("train", ["+logger.csv.save_dri=x"], "logger.csv.save_dri", "save_dir"),
    ("train", ["+hardware.device=2"], "hardware.device", "devices"),
    ("train", ["hardware=8xv100", "+hardware.strategy.stge=3"], "hardware.strategy.stge", "stage"),
    ("train", ["+trainer.max_epoch=3"], "trainer.max_epoch", "max_epochs"),
    ("train", ["+lora.lora_alhpa=3"], "lora.lora_alhpa", "lora_alpha"),
    ("train", ["+recipe.schedule.warmup=0.1"], "recipe.schedule.warmup", "warmup_ratio"),
    ("train", ["+model.network.dtyp=x"], "model.network.dtyp", "dtype"),
    ("train", ["+model.renderrer.template=x"], "model.renderrer", "renderer"),
    ("train", ["+benchmark.mmlu.limits=1"], "benchmark.mmlu.limits", "limit"),
    ("train", ["+callbacks.checkpoints.keeep=1"], "callbacks.checkpoints.keeep", "keep"),
    ("train", ["+experiment=smoke", "+benchmark.held_out_tunes.tunes.collection=x"], "tunes.collection", "collections"),
    ("preprocess", ["+data.max_lenght=5"], "data.max_lenght", "max_length"),
    ("preprocess", ["+shw=5"], "shw", "show"),
    ("eval", ["model.pth=x"], "model.pth", "path"),
    ("eval", ["+model.templat=x"], "model.templat", "template"),
    ("eval", ["+benchmark.mmlu.limits=1"], "benchmark.mmlu.limits", "limit"),
    ("merge", ["model=x", "+tolerence=1"], "tolerence", "tolerance"),
    ("generate", ["model=x", "prompt=x", "+generation.temprature=1"], "generation.temprature", "temperature"),
    ("demo", ["+budget.pretran=[]"], "budget.pretran", "pretrain"),
]


@pytest.mark.parametrize(
    ("command", "arguments", "key", "right"),
    SLIPS,
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_misspelt_key_is_named_with_the_nearest_right_one(tmp_path, command, arguments, key, right):
    assert_refused(call(command, *arguments, cwd=tmp_path), f"{key}'", f"did you mean '{right}'")
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize(
    ("arguments", "option", "right"),
    [
        (["hardware=8xv10"], "8xv10", "8xv100"),
        (["model=tinny"], "tinny", "tiny"),
        (["+experiment=stf"], "stf", "sft"),
        (["+sweep=lora_ranks"], "lora_ranks", "lora_rank"),
        pytest.param(
            *(["benchmark=[mmllu]"], "mmllu", "mmlu"),
        ),
        (["recipe=reedme"], "reedme", "readme"),
    ],
)
def test_a_misspelt_option_is_named_with_the_nearest_right_one(tmp_path, arguments, option, right):
    assert_refused(call("train", *arguments, cwd=tmp_path), f"'{option}'", f"did you mean '{right}'")


def test_a_word_like_none_lists_what_there_is(tmp_path):
    outcome = call("train", "hardware=abacus", cwd=tmp_path)
    assert_refused(outcome, "'abacus'", *options("hardware"))
    assert "did you mean" not in outcome.stderr


EXPERIMENTS = {
    "root": ("sed: 1", "sed", "seed"),
    "group": ("optimizer: {lrr: 1}", "optimizer.lrr", "lr"),
    "nested": ("data: {source: {colections: [x]}}", "data.source.colections", "collections"),
    "logger": ("logger: {csv: {nam: x}}", "logger.csv.nam", "name"),
    "hardware": ("hardware: {device: 2}", "hardware.device", "devices"),
    "benchmark": ("benchmark: {theory: {per_topics: 2}}", "benchmark.theory.per_topics", "per_topic"),
    "trainer": ("trainer: {max_epoch: 2}", "trainer.max_epoch", "max_epochs"),
}


def own_experiment(folder, text):
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "mine.yaml").write_text(f"# @package _global_\ndefaults: [smoke]\n{text}\n")


@pytest.mark.parametrize("place", EXPERIMENTS)
def test_a_slip_in_an_experiment_file_is_named_too(tmp_path, place):
    text, key, right = EXPERIMENTS[place]
    own_experiment(tmp_path, text)
    outcome = call("train", "--config-dir", "conf", "+experiment=mine", cwd=tmp_path)
    assert_refused(outcome, f"{key}'", f"did you mean '{right}'")
    assert not (tmp_path / "outputs" / "smoke").is_dir() or not any((tmp_path / "outputs" / "smoke").iterdir())


def test_an_experiment_found_by_the_search_path_is_checked_as_well(tmp_path):
    own_experiment(tmp_path, "optimizer: {lrr: 1}")
    outcome = call("train", f"hydra.searchpath=[file://{tmp_path}/conf]", "+experiment=mine", cwd=tmp_path)
    assert_refused(outcome, "optimizer.lrr", "did you mean 'lr'")


def test_a_group_that_does_not_exist_is_named(tmp_path):
    assert_refused(call("train", "hardwear=cpu", cwd=tmp_path), "hardwear", "did you mean 'hardware'")


def test_a_slip_in_a_sweep_stops_before_its_first_job(tmp_path):
    assert_refused(
        call("train", "-m", "+experiment=smoke", "+lora.rr=2,4", cwd=tmp_path), "lora.rr", "did you mean 'r'"
    )
    assert not list(tmp_path.rglob("checkpoints"))


@pytest.mark.slow
def test_a_real_process_refuses_a_slip_in_one_line(tmp_path):
    assert_refused(spawn("train", "optimizer.lrr=1", cwd=tmp_path, fresh=True), "optimizer.lrr", "did you mean 'lr'")
    assert_refused(spawn("train", "hardware=8xv10", cwd=tmp_path), "did you mean '8xv100'")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_traceback_is_there_for_who_asks_for_it(tmp_path):
    outcome = spawn("train", "optimizer.lrr=1", cwd=tmp_path, env={"HYDRA_FULL_ERROR": "1"})
    assert outcome.code == 1
    assert "Traceback" in outcome.stderr


# From rows to training


def write_rows(folder, kind):
    """Twelve tunes, as one kind of file or folder; the path and how many rows it holds."""
    import pyarrow
    import pyarrow.parquet

    path = folder / f"rows of {kind}"
    match kind:
        case "documents.jsonl":
            write_jsonl(path, tunes(12))
        case "instructions.jsonl":
            write_jsonl(path, instructions())
        case "messages.jsonl":
            turns = [("user", "Write {}."), ("assistant", "{}")]
            write_jsonl(
                path,
                [{"messages": [{"role": r, "content": t.format(tune(i))} for r, t in turns]} for i in range(1, 13)],
            )
        case "array.json":
            path.write_text(json.dumps(tunes(12)))
        case "rows.parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(tunes(12)), path)
        case "rows.csv":
            with path.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, ["instruction", "input", "output"])
                writer.writeheader()
                writer.writerows(instructions())
        case "text.txt":
            path.write_text(tune(1))
            return path, 1
        case "tunes.abc":
            path.write_text("\n".join(tune(index) for index in range(1, 13)))
        case "folder":
            path.mkdir()
            write_jsonl(path / "a.jsonl", tunes(11))
            (path / "b.txt").write_text(tune(12))
    return path, 12


def instructions():
    return [{"instruction": "Continue.", "input": tune(i)[:40], "output": tune(i)[40:]} for i in range(1, 13)]


KINDS = [
    *("documents.jsonl", "instructions.jsonl", "messages.jsonl", "array.json", "rows.parquet", "rows.csv"),
    *("text.txt", "tunes.abc", "folder"),
]


@pytest.mark.parametrize("kind", [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_training_takes_what_preprocess_prints(tmp_path, kind):
    path, rows = write_rows(tmp_path, kind)
    data = ["data=files", f"data.path='{path}'", "data.max_length=256", "data.validation_fraction=0"]
    prepared = call("preprocess", "model=tiny", *data, "cache_dir=cache", cwd=tmp_path)
    assert_ran(prepared)
    assert prepared.stdout.count("\n") == 1, "stdout is the path and nothing else, so that a shell can take it"
    assert f"rows: {rows} in, {rows} used, dropped: none" in prepared.stderr
    printed = prepared.stdout.rstrip("\n")
    trained = call("train", *TINY, f"data.path={printed}", "hydra.run.dir=run", "data.max_length=256", cwd=tmp_path)
    assert_ran(trained)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data_path"] == printed


def test_preprocessing_the_same_rows_again_gives_the_same_directory(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", tunes(12))
    data = ["model=tiny", "data=files", f"data.path={path}", "cache_dir=cache"]
    first, again = (call("preprocess", *data, cwd=tmp_path).stdout for _ in range(2))
    longer = call("preprocess", *data, "data.max_length=77", cwd=tmp_path).stdout
    assert first == again
    assert longer not in ("", first)


def test_preprocess_counts_what_it_drops_and_cuts(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [*tunes(5), {"text": " "}, {"text": tune(1) * 20}])
    data = ["model=tiny", "data=files", f"data.path={path}", "cache_dir=cache", "data.max_length=128"]
    outcome = call("preprocess", *data, cwd=tmp_path)
    assert_ran(outcome)
    counted = re.search(r"rows: (\d+) in, (\d+) used, dropped: (\d+) \w+.*; cut: (\d+) \w+", outcome.stderr)
    assert counted is not None, outcome.stderr
    assert [int(number) for number in counted.groups()] == [7, 6, 1, 1]


def test_show_prints_as_many_rows_as_asked_for(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", instructions())
    data = ["model=tiny", "data=files", f"data.path={path}", "cache_dir=cache"]
    outcome = call("preprocess", *data, "show=2", cwd=tmp_path)
    assert_ran(outcome)
    assert "Continue." in outcome.stderr
    assert "Tune 2" in outcome.stderr
    assert "Tune 3" not in outcome.stderr
    assert outcome.stdout.count("\n") == 1


def test_show_heads_each_row_with_its_place_and_its_counts(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", instructions())
    data = ["model=tiny", "data=files", f"data.path={path}", "cache_dir=cache"]
    shown = call("preprocess", *data, "show=2", cwd=tmp_path).stderr.replace("\n", " ")
    assert len(re.findall(r"rows.jsonl line \d+: \d+ tokens, \d+ supervised", shown)) == 2


# The whole path, in processes of their own


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The smoke experiment's folder, and what it printed; the run is in `run/`."""
    folder = tmp_path_factory.mktemp("smoke")
    return folder, spawn("train", "+experiment=smoke", "hydra.run.dir=run", cwd=folder)


@pytest.fixture(scope="module")
def merged(smoke):
    """The smoke run, merged into `run/merged`."""
    folder, _ = smoke
    return folder, spawn("merge", "model=run", cwd=folder)


@pytest.mark.slow
def test_the_smoke_experiment_leaves_a_whole_run(smoke):
    folder, outcome = smoke
    assert_ran(outcome)
    run = folder / "run"
    assert "finished at step 8" in outcome.stdout
    assert [entry.name for entry in folder.iterdir()] == ["run"]
    record = json.loads((run / "run.json").read_text())
    assert record["config"]["lora"]["r"] == 8
    assert record["overrides"] == ["+experiment=smoke"]
    assert {"git", "versions", "machine", "data_key", "tokenizer_hash", "command"} <= set(record)
    rows = list(csv.DictReader((run / "csv" / "metrics.csv").open()))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    assert {"val/loss", "train/lr", "train/grad_norm", "train/tokens_per_second"} <= set(rows[0])
    assert list(run.glob("tensorboard/events.out.tfevents.*"))
    assert list(run.glob("wandb/offline-run-*/*.wandb"))
    for step in ("step-000000", "step-000008"):
        assert "eval/held_out_tunes/nats_per_token" in json.loads((run / "eval" / step / "results.json").read_text())
        records = (run / "eval" / step / "theory" / "predictions.jsonl").read_text().splitlines()
        assert len([json.loads(line) for line in records]) >= 8
    last = run / "checkpoints" / "last"
    assert last.is_symlink()
    assert {"state.ckpt", "adapter", "checkpoint.json"} <= {entry.name for entry in last.iterdir()}


@pytest.mark.slow
def test_a_run_merges_into_a_model_that_plain_transformers_loads(merged):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, outcome = merged
    assert_ran(outcome)
    assert "run/merged" in outcome.stdout
    network = AutoModelForCausalLM.from_pretrained(folder / "run" / "merged")
    tokenizer = AutoTokenizer.from_pretrained(folder / "run" / "merged")
    assert len(tokenizer) <= network.get_input_embeddings().num_embeddings


@pytest.mark.slow
@pytest.mark.parametrize("model", ["run", "run/checkpoints/last", "run/merged"])
def test_a_run_and_its_merged_model_are_evaluated_alike(merged, model):
    folder, _ = merged
    few = [
        "benchmark=[theory,held_out_tunes]",
        *FOUR_QUESTIONS[1:],
        "benchmark.held_out_tunes.limit=2",
        "benchmark.held_out_tunes.tunes.collections=[miscFolk]",
        "benchmark.held_out_tunes.tunes.validation_fraction=0.2",
        "hydra.run.dir=scores",
    ]
    outcome = call("eval", f"model={model}", *few, cwd=folder)
    assert_ran(outcome)
    assert "theory/all" in outcome.stdout
    results = json.loads((folder / "scores" / "results.json").read_text())["benchmarks"]
    nats = results["held_out_tunes"]["eval/held_out_tunes/nats_per_token"]
    assert nats == pytest.approx(evaluated.setdefault("nats", nats), abs=1e-4)


evaluated: dict[str, float] = {}


@pytest.mark.slow
def test_the_newest_run_is_evaluated_where_none_is_named(merged):
    folder, _ = merged
    outcome = spawn("eval", *FOUR_QUESTIONS, "outputs=.", "hydra.run.dir=newest", cwd=folder)
    assert_ran(outcome)
    assert json.loads((folder / "newest" / "results.json").read_text())["model"] == "run"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["run", "run/merged"])
def test_a_run_and_its_merged_model_answer(merged, model):
    folder, _ = merged
    before = sorted(folder.rglob("*"))
    asked = ["prompt='Write a jig, with C=D and \"quotes\".'", "generation.max_new_tokens=8"]
    outcome = spawn("generate", f"model={model}", *asked, cwd=folder)
    assert_ran(outcome)
    assert outcome.stdout.endswith("\n")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_a_model_whose_prompts_would_come_out_otherwise_is_not_asked(merged, tmp_path):
    folder, _ = merged
    shutil.copytree(folder / "run" / "merged", tmp_path / "model")
    file = tmp_path / "model" / "checkpoint.json"
    content = json.loads(file.read_text())
    content["canaries"][0][-1] += 1
    file.write_text(json.dumps(content))
    assert_stopped(call("generate", "model=model", "prompt=x", cwd=tmp_path), "would not be rendered as in training")


@pytest.mark.slow
def test_a_finished_run_goes_on_from_its_directory(smoke):
    folder, _ = smoke
    more = ["hydra.run.dir=run", "ckpt_path=run", "trainer.max_epochs=2", "allow_changed_config=true"]
    outcome = spawn("train", "+experiment=smoke", *more, cwd=folder)
    assert_ran(outcome)
    assert "finished at step 16" in outcome.stdout


QUICK = ["+experiment=smoke", "data.limit_train_rows=2", "benchmark.held_out_tunes.limit=1", "logger=[csv]"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "folders"),
    [
        (["-m", "lora.r=2,4"], {"0": 2, "1": 4}),
        (["+sweep=lora_rank", "hydra.sweeper.params={lora.r: 2}", "seed=1,2"], {"r2_seed1": 2, "r2_seed2": 2}),
    ],
    ids=["on the command line", "by name and seed"],
)
def test_a_sweep_leaves_each_job_beside_the_others(tmp_path, arguments, folders):
    assert_ran(spawn("train", *arguments, *QUICK, "hydra.sweep.dir=sweep", cwd=tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["sweep"]
    found = {run.parent.name: json.loads(run.read_text()) for run in tmp_path.glob("sweep/*/run.json")}
    assert {name: run["config"]["lora"]["r"] for name, run in found.items()} == folders
    for name, rank in folders.items():
        adapter = tmp_path / "sweep" / name / "checkpoints" / "last" / "adapter" / "adapter_config.json"
        assert json.loads(adapter.read_text())["r"] == rank


# make


@pytest.mark.parametrize("target", ["eval", "merge", "generate", "train", "preprocess"])
def test_a_target_of_the_makefile_calls_its_command_with_a_checkpoint(tmp_path, target):
    given = {"eval": "", "merge": "", "generate": "prompt=x", "train": "+experiment=smoke", "preprocess": "model=tiny"}
    done = subprocess.run(
        ["make", "-n", target, "CKPT=outputs/sft/run", f"ARGS={given[target]}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if "-m musician." in line)
    command, *arguments = shlex.split(line.split("-m musician.", 1)[1])
    assert command == target
    if target in ("eval", "merge", "generate"):
        assert "model=outputs/sft/run" in arguments
    assert_ran(call(command, *arguments, "--cfg", "job", cwd=tmp_path))
