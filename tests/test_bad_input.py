"""Bad input ends in one clear line and status 1, before work starts or at the step, and leaves nothing half-written."""

import contextlib
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from commands import (
    FOUR_QUESTIONS,
    OFFLINE,
    TINY,
    assert_ran,
    assert_refused,
    assert_stopped,
    call,
    tune,
    tunes,
    write_jsonl,
)

QUESTIONLESS = [override for override in TINY if override not in FOUR_QUESTIONS]


@pytest.fixture
def job(tmp_path):
    """Runs the train command on twelve small tunes, into `run/`."""
    write_jsonl(tmp_path / "tunes.jsonl", tunes(12))

    def train(*arguments):
        return call("train", *TINY, *reading("tunes.jsonl"), "hydra.run.dir=run", *arguments, cwd=tmp_path)

    return train


def reading(path):
    """Overrides that read rows from a file, prepared under `cache/`."""
    return ["data=files", f"data.path='{path}'", "cache_dir=cache", "data.max_length=256"]


def preprocess(folder, *arguments):
    return call("preprocess", "model=tiny", *arguments, cwd=folder)


def left_behind(folder, *expected):
    """Files under a folder, without those that the test put there."""
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file() and f.name not in expected)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A directory with a finished run in `run/`."""
    folder = tmp_path_factory.mktemp("finished")
    write_jsonl(folder / "tunes.jsonl", tunes(12))
    assert_ran(call("train", *TINY, *reading("tunes.jsonl"), "hydra.run.dir=run", cwd=folder))
    return folder


def content(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# Data


GOOD = json.dumps({"text": tune(1)})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.jsonl", None, ["none.jsonl", "no such file"]),
        ("folder/none", None, ["folder/none"]),
        ("empty.jsonl", "", ["empty.jsonl", "empty"]),
        ("blank.jsonl", "\n\n\n", ["nothing to train on", "0 rows read"]),
        ("rows.xlsx", "x", ["rows.xlsx", ".xlsx", ".parquet", ".jsonl"]),
        ("broken.jsonl", f"{GOOD}\n{GOOD}\n{{broken\n", ["broken.jsonl line 3", "JSON"]),
        ("list.jsonl", f"{GOOD}\n[1, 2]\n", ["list.jsonl line 2", "object", "list"]),
        ("bytes.jsonl", b'{"text": "ok"}\n{"text": "\xff\xfe"}\n', ["bytes.jsonl line 2"]),
        ("column.jsonl", '{"txt": "X:1"}\n', ["column.jsonl line 1", "txt", "text"]),
        ("broken.json", '[{"text": "a"},', ["broken.json", "JSON"]),
        ("items.json", '[{"text": "a"}, 5]', ["items.json item 1", "int"]),
        ("broken.parquet", "PAR1 this is no parquet", ["broken.parquet", "Parquet"]),
        ("broken.csv", 'text\n"a"b"\n', ["broken.csv line 2", "CSV"]),
        ("column.csv", "txt\nhello\n", ["column.csv line 2", "txt"]),
        ("latin.txt", b"caf\xe9", ["latin.txt", "UTF-8"]),
        ("messages.jsonl", '{"messages": [{"role": "usr", "content": "a"}]}\n', ["messages.jsonl line 1", "usr"]),
        ("number.jsonl", '{"text": 5}\n', ["number.jsonl line 1"]),
    ],
)
def test_unreadable_data_is_named_with_its_place(tmp_path, name, text, words):
    if text is not None:
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(data)
    assert_refused(preprocess(tmp_path, *reading(name)), *words)
    assert left_behind(tmp_path, name) == []


def test_training_says_the_same_of_unreadable_data(tmp_path):
    (tmp_path / "broken.jsonl").write_text(f"{GOOD}\n{{broken\n")
    outcome = call("train", *TINY, *reading("broken.jsonl"), "hydra.run.dir=run", cwd=tmp_path)
    assert_refused(outcome, "broken.jsonl line 2", "JSON")
    assert left_behind(tmp_path, "broken.jsonl") == []


def test_a_folder_without_data_names_what_could_be_in_it(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.md").write_text("# notes")
    assert_refused(preprocess(tmp_path, *reading("folder")), "folder", "holds no file", ".jsonl", ".abc")


def test_rows_without_content_are_counted_and_not_trained_on(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"text": ""}, {"text": "   "}])
    assert_refused(preprocess(tmp_path, *reading("rows.jsonl")), "nothing to train on", "2 rows read", "2 ")
    assert left_behind(tmp_path, "rows.jsonl") == []


@pytest.mark.parametrize("command", ["preprocess", "train"])
def test_a_hub_data_set_without_network_says_what_to_do(job, tmp_path, command):
    outcome = job("data.path=owner/name") if command == "train" else preprocess(tmp_path, *reading("owner/name"))
    assert_refused(outcome, "owner/name", "cannot be loaded", "data=files data.path=")


def test_data_that_must_be_given_is_asked_for(tmp_path):
    outcome = call("train", *TINY, "data=files", "hydra.run.dir=run", cwd=tmp_path)
    assert_refused(outcome, "data.path")


@pytest.mark.parametrize("path", ["missing", "folder"])
def test_a_data_path_that_was_not_prepared_says_who_prepares_it(tmp_path, path):
    (tmp_path / "folder").mkdir()
    outcome = call("train", *TINY, "data=tunes", f"data.path={path}", "hydra.run.dir=run", cwd=tmp_path)
    assert_refused(outcome, path, "musician.preprocess", "data=files")
    assert not (tmp_path / "run").exists()


def test_data_of_another_tokenizer_is_refused(job, tmp_path):
    made = preprocess(tmp_path, *reading("tunes.jsonl"))
    other = other_tokenizer(tmp_path / "other")
    assert_refused(
        job(f"data.path={made.stdout.strip()}", f"model.tokenizer.name_or_path={other}"),
        "another tokenizer",
        "musician.preprocess",
    )


def test_data_of_another_template_is_refused(job, tmp_path):
    made = preprocess(tmp_path, *reading("tunes.jsonl"), "model.renderer.add_eos=false")
    assert_refused(job(f"data.path={made.stdout.strip()}"), "another template", "preprocess again")


def test_data_of_longer_rows_is_refused_with_both_lengths(job, tmp_path):
    made = preprocess(tmp_path, *reading("tunes.jsonl"))
    assert_refused(job(f"data.path={made.stdout.strip()}", "data.max_length=100"), "256", "100")


def test_data_that_was_not_finished_is_refused(tmp_path):
    write_jsonl(tmp_path / "tunes.jsonl", tunes(12))
    made = preprocess(tmp_path, *reading("tunes.jsonl")).stdout.strip()
    (tmp_path / made / "meta.json").unlink()
    outcome = call("train", *TINY, "data=tunes", f"data.path={made}", "hydra.run.dir=run", cwd=tmp_path)
    assert_refused(outcome, "meta.json")


def other_tokenizer(folder):
    """A tokenizer of three words, with an end of sequence."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "A": 3}, "<unk>"))
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    return folder


# Model and tokenizer


def test_a_tokenizer_larger_than_the_embedding_is_refused_with_both_sizes(job, tmp_path):
    assert_refused(job("model.network.vocab_size=100"), "259", "100", "model.tokenizer")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["eval", "merge", "generate"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("empty", ["empty", "no checkpoint"]),
        ("./missing", ["missing", "no such"]),
        ("owner/name", ["owner/name", "directory or a hub id"]),
    ],
)
def test_a_model_that_is_not_there(tmp_path, command, path, words):
    (tmp_path / "empty").mkdir()
    extra = {"eval": FOUR_QUESTIONS, "generate": ["prompt=x"]}.get(command, [])
    assert_refused(call(command, f"model={path}", *extra, cwd=tmp_path), *words)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("path", ["empty", "owner/name", "./missing"])
def test_training_from_a_model_that_is_not_there(tmp_path, path):
    (tmp_path / "empty").mkdir()
    write_jsonl(tmp_path / "tunes.jsonl", tunes(12))
    overrides = ["model=llama2_7b", f"model.name_or_path={path}", "hydra.run.dir=run", "logger=[csv]", *FOUR_QUESTIONS]
    assert_refused(call("train", *overrides, *reading("tunes.jsonl"), cwd=tmp_path), path)
    assert left_behind(tmp_path, "tunes.jsonl") == []


@pytest.mark.parametrize(("command", "key"), [("merge", "model.path"), ("generate", "prompt")])
def test_what_must_be_given_is_asked_for(finished, command, key):
    model = ["model=run"] if key == "prompt" else []
    outcome = call(command, *model, cwd=finished)
    assert_refused(outcome, key)
    assert "there is no key" not in outcome.stderr


def test_eval_without_any_run_says_to_train_first(tmp_path):
    assert_refused(call("eval", *FOUR_QUESTIONS, cwd=tmp_path), "outputs", "train first")


def test_a_merged_model_is_not_merged_again(finished):
    assert_ran(call("merge", "model=run", "output_dir=merged", cwd=finished))
    assert_refused(call("merge", "model=merged", cwd=finished), "no adapter to merge")


@pytest.mark.parametrize("path", ["empty", "missing", "tunes.jsonl"])
def test_a_checkpoint_to_continue_from_that_is_none(job, tmp_path, path):
    (tmp_path / "empty").mkdir()
    assert_refused(job(f"ckpt_path={path}"), path, "no checkpoint")
    assert not (tmp_path / "run").exists()


# Benchmarks


def test_a_benchmark_without_data_says_what_is_missing_and_where_to_get_it(finished):
    outcome = call("eval", "model=run", "benchmark=[mmlu]", "benchmark.mmlu.data_dir=nowhere", cwd=finished)
    assert_refused(outcome, "mmlu", "nowhere", "https://")
    assert_refused(
        call("eval", "model=run", "benchmark=[mmlu]", cwd=finished), "mmlu", "cais/mmlu", "data_dir", "hf download"
    )
    assert_refused(
        call("eval", "model=run", "benchmark=[music_theory_bench]", cwd=finished),
        "m-a-p/MusicTheoryBench",
        "hf download",
    )


def test_eval_runs_the_benchmarks_that_are_there_and_names_the_others(finished):
    benchmarks = ["benchmark=[mmlu,theory]", *FOUR_QUESTIONS[1:], "hydra.run.dir=scores"]
    outcome = call("eval", "model=run", *benchmarks, cwd=finished)
    assert_ran(outcome)
    assert "theory/all" in outcome.stdout
    assert "not run: mmlu" in outcome.stdout
    assert "hf download" in outcome.stdout
    results = json.loads((finished / "scores" / "results.json").read_text())
    assert list(results["benchmarks"]) == ["theory"]
    assert len(results["missing"]) == 1


def test_training_refuses_a_benchmark_without_data_before_it_starts(tmp_path):
    write_jsonl(tmp_path / "tunes.jsonl", tunes(12))
    arguments = [*QUESTIONLESS, "benchmark=[mmlu]", *reading("tunes.jsonl"), "hydra.run.dir=run"]
    assert_refused(call("train", *arguments, cwd=tmp_path), "cais/mmlu", "data_dir", "hf download")
    assert not (tmp_path / "run").exists()


def test_training_needs_no_benchmark(tmp_path):
    write_jsonl(tmp_path / "tunes.jsonl", tunes(12))
    arguments = [*QUESTIONLESS, "benchmark=[]", *reading("tunes.jsonl"), "hydra.run.dir=run"]
    assert_ran(call("train", *arguments, cwd=tmp_path))


def test_eval_of_no_benchmark_says_so(finished):
    assert_refused(call("eval", "model=run", "benchmark=[]", cwd=finished), "benchmark=[]")


# The machine


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("machine", ["1xh200", "8xv100", "16xa800"])
def test_a_machine_without_gpus_names_what_is_missing_and_what_fits(job, tmp_path, machine):
    outcome = job(f"hardware={machine}", "global_batch_size=16")
    assert_refused(outcome, f"hardware={machine}", "GPU", "found 0", "hardware=cpu")
    assert not (tmp_path / "run").exists()


def test_half_precision_on_a_cpu_is_refused(job, tmp_path):
    assert_refused(job("hardware.precision=16-mixed"), "16-mixed", "needs a GPU", "32-true")
    assert not (tmp_path / "run").exists()


def test_a_split_that_is_impossible_is_refused_with_its_numbers(job, tmp_path):
    outcome = job("global_batch_size=10", "hardware=cpu_2proc", "hardware.micro_batch_size=3")
    assert_refused(outcome, "global_batch_size=10", "6 rows", "2 devices", "micro_batch_size 3")
    assert not (tmp_path / "run").exists()


# The run directory


def test_a_run_is_not_overwritten(job, tmp_path):
    assert_ran(job())
    before = content(tmp_path / "run" / "checkpoints") | {"run.json": (tmp_path / "run" / "run.json").read_bytes()}
    assert_refused(job("lora.r=4"), "run", "already holds a run", "hydra.run.dir", "ckpt_path=")
    after = content(tmp_path / "run" / "checkpoints") | {"run.json": (tmp_path / "run" / "run.json").read_bytes()}
    assert after == before


def test_a_refused_job_does_not_rewrite_the_config_of_the_run_that_is_there(finished):
    before = content(finished / "run" / ".hydra")
    call("train", *TINY, *reading("tunes.jsonl"), "hydra.run.dir=run", "seed=9", cwd=finished)
    assert content(finished / "run" / ".hydra") == before


HOLD = """
import sys
from musician.training.runs.record import RunDirectory
run = RunDirectory(sys.argv[1])
print("holding", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def running(tmp_path):
    """Another process that runs a job in `run/` and has not written anything of its own yet."""
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / "train.log").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **OFFLINE},
    )
    assert process.stdout.readline() == "holding\n"
    yield process
    process.communicate()


def test_a_second_job_in_a_directory_is_refused_while_the_first_runs(job, tmp_path, running):
    assert_refused(job(), str(tmp_path / "run"), "another job is running", "hydra.run.dir")
    running.communicate()
    assert_ran(job())


def test_a_refused_second_job_leaves_the_first_its_directory(job, tmp_path, running):
    assert_refused(job(), "another job is running")
    assert (tmp_path / "run" / ".lock").exists()
    assert_refused(job(), "another job is running")


# Places that cannot be written


@pytest.fixture
def no_folder(tmp_path):
    """A path that nobody can make, root included: below a regular file."""
    (tmp_path / "file").write_text("")
    return "file/below"


def test_a_run_directory_that_cannot_be_made(job, no_folder):
    assert_refused(job(f"hydra.run.dir={no_folder}"), no_folder, "hydra.run.dir")


def test_an_eval_directory_that_cannot_be_made(finished):
    (finished / "file").write_text("")
    outcome = call("eval", "model=run", *FOUR_QUESTIONS, "hydra.run.dir=file/below", cwd=finished)
    assert_refused(outcome, "file/below", "hydra.run.dir")


def test_a_cache_that_cannot_be_made(job, tmp_path, no_folder):
    assert_refused(job(f"cache_dir={no_folder}"), no_folder, "data.root")
    assert not (tmp_path / "run").exists()
    assert_refused(preprocess(tmp_path, *reading("tunes.jsonl"), f"cache_dir={no_folder}"), no_folder, "data.root")


def test_a_merged_model_that_cannot_be_written(finished):
    (finished / "file").write_text("")
    assert_refused(call("merge", "model=run", "output_dir=file/below", cwd=finished), "file/below", "output_dir")


# A full disk


@contextlib.contextmanager
def small_disk(folder, kib):
    """A file system of so many KiB."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_while_tokenising_leaves_nothing(tmp_path):
    write_jsonl(tmp_path / "tunes.jsonl", tunes(3000))
    with small_disk(tmp_path / "disk", 64) as disk:
        assert_refused(preprocess(tmp_path, *reading("tunes.jsonl"), f"cache_dir={disk}"), disk, "free some space")
        assert left_behind(disk) == []


def test_a_full_disk_at_a_checkpoint_leaves_the_earlier_ones_whole(job, tmp_path):
    with small_disk(tmp_path / "disk", 700) as disk:
        every_step = ["callbacks.checkpoints.every_n_steps=1", "callbacks.checkpoints.keep=99", "trainer.max_epochs=20"]
        outcome = job(f"hydra.run.dir={disk}/run", *every_step)
        assert_stopped(outcome, "checkpoint", "cannot be written", "free the disk")
        folder = disk / "run" / "checkpoints"
        saved = sorted(folder.glob("*step-*"))
        assert saved, "the disk of this test is too small for one checkpoint"
        assert not [entry for entry in folder.iterdir() if entry.name.startswith(".")]
        for checkpoint in saved:
            names = {file.name for file in checkpoint.rglob("*")}
            assert {"state.ckpt", "checkpoint.json", "adapter_model.safetensors"} <= names
        assert (folder / "last").resolve() == saved[-1]
        torch.load(folder / "last" / "state.ckpt", weights_only=False)


@pytest.mark.parametrize("take_away", [shutil.rmtree, lambda run: run.rename(run.with_name("elsewhere"))])
@pytest.mark.parametrize("every_n_steps", [1, "null"])
def test_a_run_directory_that_is_taken_away_while_training(job, tmp_path, monkeypatch, take_away, every_n_steps):
    """The next checkpoint does not make it anew; where it was only moved, its checkpoints are whole."""
    from musician.training.module import CausalLMModule

    original, run = CausalLMModule.training_step, tmp_path / "run"

    def training_step(module, batch, batch_idx):
        if module.global_step == 3 and run.exists():
            take_away(run)
        return original(module, batch, batch_idx)

    monkeypatch.setattr(CausalLMModule, "training_step", training_step)
    more = ["trainer.max_epochs=4", f"callbacks.checkpoints.every_n_steps={every_n_steps}"]
    assert_stopped(job(*more), "run", "was removed or moved while training")
    assert not run.exists()
    monkeypatch.undo()
    if (tmp_path / "elsewhere").exists():
        assert_ran(job(*more, "ckpt_path=elsewhere"))


def test_a_disk_that_is_full_from_the_start(job, tmp_path):
    with small_disk(tmp_path / "disk", 64) as disk:
        with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(b"0" * 4096)
        assert_stopped(job(f"hydra.run.dir={disk}/run"), disk, "No space left")


def test_a_full_disk_while_merging_leaves_nothing(finished, tmp_path):
    with small_disk(tmp_path / "disk", 64) as disk:
        assert_refused(call("merge", "model=run", f"output_dir={disk}/merged", cwd=finished), disk)
        assert left_behind(disk) == []


# Numbers that run away


def test_a_loss_that_is_not_a_number_stops_and_names_its_place(job, tmp_path):
    outcome = job("optimizer.lr=1e30", "trainer.max_epochs=4", "global_batch_size=1", "data.packing=false")
    assert_stopped(outcome, "loss is", "step ", "rank 0", "micro-batch ", "optimizer.lr")
    assert "finished" not in outcome.stdout
    assert not list((tmp_path / "run").glob("checkpoints/.*"))


def test_a_weight_that_is_infinite_is_found_at_the_first_step(job, tmp_path, monkeypatch):
    import musician.model.network as network

    whole = network.random_llama

    def planted(*arguments, **named):
        model = whole(*arguments, **named)
        with torch.no_grad():
            model.get_output_embeddings().weight[5] = float("inf")
        return model

    monkeypatch.setattr(network, "random_llama", planted)
    outcome = job()
    assert_stopped(outcome, "step 0", "rank 0", "micro-batch 0")
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


# Values of the wrong kind


@pytest.mark.parametrize(
    "override", ["global_batch_size=many", "hardware.devices=two", "optimizer.lr=fast", "lora.r=x"]
)
def test_a_value_of_the_wrong_kind_is_named(job, override):
    assert_refused(job(override), *override.split("="))
