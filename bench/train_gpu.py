"""Training on one GPU beside plain loops over transformers' and peft's modules: `python bench/train_gpu.py`.

Random weights are made on the device: a Llama of SmolLM2-135M's shape, and of Llama-2-7B's with 8 and 16 of its 32
layers, whose difference is what a layer costs. LoRA r=64 on the seven projections, bf16 with fp32 adapters, AdamW.
Documents have random ids and lognormal lengths (mean 288, as tunes have), the same for every arm:

    musician    packed rows of 2,048, attention by document, loss at supervised positions in chunks
    packed      the same rows through transformers' modules with its own mask, logits of all positions; with Liger's
                kernels where `liger_kernel` is installed
    padded      documents padded to the longest of eight
    original    one document at a time, gradient checkpointing, the loss read after each step

First loss and gradient norm of the same four documents must agree (2 % in bf16, 1e-4 in fp32). Times are of whole
steps, synchronised, after `--warm` steps; the rate of matrix products is measured in the same process and named.

    python bench/train_gpu.py [--shape 135m 7b] [--arms ...] [--steps 20] [--rows 8] [--device cuda]

`--device cpu --shape tiny` is what the tests run; no figure of a GPU has been made with this script yet.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, cycle
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

ROW = 2048
PADDED_BATCH = 8
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 96, "heads": 4, "kv_heads": 2, "layers": 2},
    "135m": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "heads": 9, "kv_heads": 3, "layers": 30,
    },
    "7b": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "heads": 32, "kv_heads": 32, "layers": 32,
    },
}  # fmt: skip
#: Layers that are built: two depths tell what a layer costs where all of them would take too long.
DEPTHS = {"tiny": [2], "135m": [30], "7b": [8, 16]}
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Documents = list[list[int]]


def network_of(shape: str, layers: int, arm: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The same random weights for every arm, with an adapter that is not zero."""
    from peft import LoraConfig
    from transformers import LlamaConfig, LlamaForCausalLM

    from musician.model.attention import DOCUMENTS
    from musician.model.lora import attach_lora

    sizes = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=sizes["vocab_size"], hidden_size=sizes["hidden_size"], intermediate_size=sizes["intermediate_size"],
        num_hidden_layers=layers, num_attention_heads=sizes["heads"], num_key_value_heads=sizes["kv_heads"],
        max_position_embeddings=ROW, tie_word_embeddings=shape != "7b", use_cache=False,
        attn_implementation=DOCUMENTS if arm == "musician" else "sdpa",
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        base = LlamaForCausalLM(config).to(dtype).train()
    if arm == "packed":
        with_liger(base)
    if arm == "original":
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        base.enable_input_require_grads()
    lora = LoraConfig(r=min(64, sizes["hidden_size"] // 4), lora_alpha=16, target_modules=PROJECTIONS, lora_dropout=0.0)
    network = attach_lora(base, lora)
    generator = torch.Generator(device).manual_seed(1)
    for name, weight in network.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.02, generator=generator)
    return network


def with_liger(network: Any) -> None:
    """Apply Liger's kernels to a network where they are installed, and say where they are not."""
    try:
        from liger_kernel.transformers import apply_liger_kernel_to_llama
    except ImportError:
        print("packed: without Liger's kernels (liger_kernel is not installed)")
        return
    apply_liger_kernel_to_llama(model=network)


def lengths_of(count: int, mean: float = 288.0, sigma: float = 0.45) -> list[int]:
    """Lognormal lengths of documents, at most a row."""
    draw = random.Random(0)
    return [min(ROW, max(16, round(draw.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)))) for _ in range(count)]


def documents_of(shape: str, tokens: int) -> Documents:
    """Random documents of about so many tokens together."""
    draw, found, total = random.Random(1), [], 0
    for length in lengths_of(tokens // 100 + 1):
        if total + length > tokens:
            break
        found.append([draw.randrange(3, SHAPES[shape]["vocab_size"]) for _ in range(length)])
        total += length
    return found


def batched(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Runs of so many items; the last may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def packed(documents: Documents, rows: int, device: torch.device) -> list[dict[str, Any]]:
    """Batches of so many rows of whole documents: ids, labels, positions `[rows, ROW]` and the documents' lengths."""
    from musician.data.packing import pack

    plan = pack([len(document) for document in documents], ROW)
    laid = [laid_out([documents[index] for index in plan[row]]) for row in range(len(plan))]
    return [
        {name: torch.stack([row[name] for row in batch]).to(device) for name in ("ids", "labels", "positions")}
        | {"lengths": [length for row in batch for length in row["lengths"]]}
        for batch in batched(laid, rows)
        if len(batch) == rows
    ]


def laid_out(documents: Documents) -> dict[str, Any]:
    """One row, padded to its length; the first token of a document and the padding are no targets."""
    room = ROW - sum(map(len, documents))
    ids = torch.tensor([*chain.from_iterable(documents), *[0] * room])
    positions = torch.tensor([*chain.from_iterable(range(len(d)) for d in documents), *range(room)])
    labels = ids.masked_fill(positions == 0, -100)
    labels[ROW - room :] = -100
    lengths = [*map(len, documents), *[room] * (room > 0)]
    return {"ids": ids, "labels": labels, "positions": positions, "lengths": lengths}


@dataclass(frozen=True)
class Work:
    """One micro-batch of an arm.

    Attributes:
        loss: computes its mean loss.
        targets: supervised tokens.
        useful: tokens of documents.
        places: positions that are computed.
    """

    loss: Callable[[], Tensor]
    targets: int
    useful: int
    places: int


def supervised(labels: Tensor) -> int:
    """Tokens that are predicted."""
    return int((labels[:, 1:] != -100).sum())


def arm_musician(network: Any, documents: Documents, rows: int, device: torch.device) -> list[Work]:
    """Packed rows through musician's loss."""
    from musician.model.logits import logits_head
    from musician.model.loss import summed_nll
    from musician.model.network import hidden_states

    def loss(batch: dict[str, Any]) -> Tensor:
        hidden = hidden_states(network, batch["ids"], batch["positions"], batch["lengths"])
        return summed_nll(hidden, batch["labels"], logits_head(network)) / supervised(batch["labels"])

    return [work_of_rows(partial(loss, batch), batch) for batch in packed(documents, rows, device)]


def arm_packed(network: Any, documents: Documents, rows: int, device: torch.device) -> list[Work]:
    """The same rows; transformers keeps documents apart by their positions."""

    def loss(batch: dict[str, Tensor]) -> Tensor:
        return network(input_ids=batch["ids"], labels=batch["labels"], position_ids=batch["positions"]).loss

    return [work_of_rows(partial(loss, batch), batch) for batch in packed(documents, rows, device)]


def arm_padded(network: Any, documents: Documents, rows: int, device: torch.device) -> list[Work]:
    """Documents padded to the longest of a batch."""

    def loss(ids: Tensor, mask: Tensor) -> Tensor:
        return network(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss

    found = []
    for batch in batched(documents, PADDED_BATCH):
        width, useful = max(map(len, batch)), sum(map(len, batch))
        ids = torch.tensor([[*d, *[0] * (width - len(d))] for d in batch], device=device)
        mask = torch.tensor([[1] * len(d) + [0] * (width - len(d)) for d in batch], device=device)
        found.append(Work(partial(loss, ids, mask), useful - len(batch), useful, ids.numel()))
    return found


def arm_original(network: Any, documents: Documents, rows: int, device: torch.device) -> list[Work]:
    """One document at a time."""

    def loss(ids: Tensor) -> Tensor:
        return network(input_ids=ids, labels=ids).loss

    each = [torch.tensor([document], device=device) for document in documents]
    return [Work(partial(loss, ids), ids.numel() - 1, ids.numel(), ids.numel()) for ids in each]


ARMS: dict[str, Callable[..., list[Work]]] = {
    "musician": arm_musician, "packed": arm_packed, "padded": arm_padded, "original": arm_original,
}  # fmt: skip


def work_of_rows(loss: Callable[[], Tensor], batch: dict[str, Tensor]) -> Work:
    """A micro-batch of packed rows; each document has one token that is no target."""
    labels, positions = batch["labels"], batch["positions"]
    begins = (positions == 0) & (labels.roll(-1, 1) != -100)
    return Work(loss, supervised(labels), int((labels != -100).sum() + begins.sum()), labels.numel())


def checked(network: Any, arm: str, documents: Documents, device: torch.device, dtype: torch.dtype) -> list[float]:
    """Mean loss and gradient norm of a few documents, as the arm computes them; leaves no gradient."""
    batches = ARMS[arm](network, documents, 1, device)
    total = sum(batch.targets for batch in batches)
    value = 0.0
    for batch in batches:
        with autocast(device, dtype):
            loss = batch.loss() * (batch.targets / total)
        loss.backward()
        value += float(loss.detach())
    norm = float(get_total_norm([p.grad for p in network.parameters() if p.grad is not None]))
    network.zero_grad()
    return [value, norm]


def autocast(device: torch.device, dtype: torch.dtype) -> Any:
    """What Lightning's bf16-mixed does; nothing in fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def measure(shape: str, layers: int, arm: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train an arm for some steps; figures of the steps after the warm ones."""
    from musician.model.flops import training_flops_per_token

    device = torch.device(arguments.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    network = network_of(shape, layers, arm, device, dtype)
    equality = checked(network, arm, documents_of(shape, 1200)[:4], device, dtype)
    documents = documents_of(shape, arguments.rows * ROW * 4)
    batches = ARMS[arm](network, documents, arguments.rows, device)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    useful = places = 0
    begun = 0.0
    for step, batch in zip(range(arguments.warm + arguments.steps), cycle(batches), strict=False):
        if step == arguments.warm:
            synchronize(device)
            begun = time.perf_counter()
        with autocast(device, dtype):
            loss = batch.loss()
        loss.backward()
        clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if arm == "original":
            loss.item()
        if step >= arguments.warm:
            useful, places = useful + batch.useful, places + batch.places
    synchronize(device)
    seconds = time.perf_counter() - begun
    context = sum(len(d) * (len(d) + 1) / 2 for d in documents) / sum(map(len, documents))
    return {
        "shape": shape, "layers": layers, "arm": arm, "loss": equality[0], "gradient_norm": equality[1],
        "tokens_per_second": useful / seconds, "padding": 1 - useful / places,
        "flops_per_token": training_flops_per_token(network, context),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan"),
    }  # fmt: skip


def synchronize(device: torch.device) -> None:
    """Wait for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def check_equal(found: Sequence[dict[str, Any]], tolerance: float) -> None:
    """Every arm has the first one's loss and gradient norm on the same documents."""
    for one in found:
        assert one["gradient_norm"] > 0, f"{one['arm']}: the gradient is zero"
        for key in ("loss", "gradient_norm"):
            gap = abs(one[key] - found[0][key]) / abs(found[0][key])
            assert gap <= tolerance, f"{one['arm']}: {key} {one[key]!r}, {found[0]['arm']} {found[0][key]!r}"


def table(found: Sequence[dict[str, Any]], rate: float) -> str:
    """A line for each arm of one network; ratios against the first."""
    lines = ["| | useful tok/s | padding | of matrix rate | peak GiB | first is faster |", "|---|---|---|---|---|---|"]
    for one in found:
        share = one["tokens_per_second"] * one["flops_per_token"] / rate
        ratio = found[0]["tokens_per_second"] / one["tokens_per_second"]
        lines.append(
            f"| {one['arm']} | {one['tokens_per_second']:,.0f} | {one['padding']:.0%} | {share:.0%} | "
            f"{one['peak_gib']:.1f} | {ratio:.2f}x |"
        )
    return "\n".join(lines)


def slope(shallow: dict[str, Any], deep: dict[str, Any], layers: int) -> float:
    """Tokens a second that all layers would give: what is not a layer, and so many times what one costs."""
    times = [1 / found["tokens_per_second"] for found in (shallow, deep)]
    layer = (times[1] - times[0]) / (deep["layers"] - shallow["layers"])
    return 1 / (times[0] + (layers - shallow["layers"]) * layer)


def main() -> None:
    """Measure each shape and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", default=["135m", "7b"], choices=list(SHAPES))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8, help="packed rows of a micro-batch")
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; --device cpu --shape tiny runs the arms without one")
    from musician.model.flops import describe_peak, measured_peak

    device = torch.device(arguments.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rate = measured_peak(device, dtype)
    print(describe_peak(rate, device, dtype, 1))
    for shape in arguments.shape:
        by_depth = []
        for layers in DEPTHS[shape]:
            found = []
            for arm in arguments.arms:
                found.append(measure(shape, layers, arm, arguments))
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
            check_equal(found, 2e-2 if device.type == "cuda" else 1e-4)
            print(f"\n{shape}, {layers} layers\n\n{table(found, rate)}")
            print(json.dumps(found))
            by_depth.append(found)
        if len(by_depth) == 2:
            for shallow, deep in zip(*by_depth, strict=True):
                every = SHAPES[shape]["layers"]
                print(f"{shallow['arm']}: {slope(shallow, deep, every):,.0f} useful tokens/s with {every} layers")


if __name__ == "__main__":
    main()
