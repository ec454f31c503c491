"""What training costs as the work grows: `make bench-scaling`.

Tokens a CPU-second and peak memory of a training step against row length, rank of LoRA, vocabulary and micro-batch. The
network has SmolLM2-135M's shape and random weights, fp32, one thread, LoRA on the seven projections, documents of 256
tokens. Each point is a process of its own: one step to warm up, then the timed ones.

    python bench/scaling.py [--steps 1] [--only rows rank vocabulary micro] [--most 8192] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

#: Where one axis moves, the others stay.
BASE = {"rows": 2048, "rank": 64, "vocabulary": 49152, "micro": 1}
AXES = {
    "rows": [512, 1024, 2048, 4096, 8192],
    "rank": [8, 16, 32, 64, 128, 256],
    "vocabulary": [32_000, 49_152, 128_000],
    "micro": [1, 2, 4],
}
LABELS = {"rows": "tokens in a row", "rank": "LoRA r", "vocabulary": "vocabulary", "micro": "rows in a micro-batch"}
DOCUMENT = 256


def network_of(vocabulary: int, rank: int) -> Any:
    """SmolLM2-135M's shape with random weights and an adapter."""
    from peft import LoraConfig
    from transformers import LlamaConfig, LlamaForCausalLM

    from musician.model.attention import DOCUMENTS
    from musician.model.lora import attach_lora

    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=vocabulary, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True, attn_implementation=DOCUMENTS,
        use_cache=False,
    )  # fmt: skip
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapter = LoraConfig(r=rank, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM")
    return attach_lora(LlamaForCausalLM(shape).train(), adapter)


def measure(point: dict[str, int], steps: int) -> dict[str, float]:
    """Time steps of forward, backward, clipping and AdamW at one point, in this process."""
    from musician.model.loss import summed_nll
    from musician.model.network import hidden_states, output_head

    network = network_of(point["vocabulary"], point["rank"])
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    shape = (point["micro"], point["rows"])
    ids = torch.randint(point["vocabulary"], shape)
    positions = (torch.arange(point["rows"]) % DOCUMENT).expand(shape).contiguous()
    lengths = [DOCUMENT] * (ids.numel() // DOCUMENT)
    labels = ids.masked_fill(positions == 0, -100)
    begun = 0.0
    for step in range(steps + 1):
        if step == 1:
            begun = time.process_time()
        hidden = hidden_states(network, ids, positions, lengths)
        (summed_nll(hidden, labels, output_head(network)) / ids.numel()).backward()
        clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    seconds = (time.process_time() - begun) / steps
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**point, "tokens_per_cpu_second": ids.numel() / seconds, "peak_gib": peak}


def run(point: dict[str, int], steps: int) -> dict[str, float]:
    """One point in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--point", json.dumps(point), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise SystemExit(f"{point} failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(lines[0].removeprefix("RESULT "))
    print(f"{point}: {found['tokens_per_cpu_second']:.0f} tokens a CPU-second, {found['peak_gib']:.1f} GiB", flush=True)
    return found


def draw(path: Path, results: dict[str, list[dict[str, float]]]) -> None:
    """A panel an axis: speed on the left, memory on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(results), figsize=(4.2 * len(results), 3.6), layout="constrained")
    for axis, panel in zip(results, [panels] if len(results) == 1 else panels, strict=True):
        found = results[axis]
        values = [point[axis] for point in found]
        memory = panel.twinx()
        panel.plot(values, [point["tokens_per_cpu_second"] for point in found], "o-", color="tab:blue")
        memory.plot(values, [point["peak_gib"] for point in found], "s--", color="tab:orange")
        panel.set_xscale("log", base=2)
        panel.set_xticks(values, [f"{value:,}" for value in values], fontsize=8, minor=False)
        panel.set(xlabel=LABELS[axis], ylim=(0, 1.1 * max(point["tokens_per_cpu_second"] for point in found)))
        panel.set_ylabel("tokens a CPU-second", color="tab:blue")
        memory.set_ylabel("peak memory, GiB", color="tab:orange")
        memory.set_ylim(0, 1.1 * max(point["peak_gib"] for point in found))
        for each in (panel, memory):
            each.spines["top"].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure every point and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1, help="timed steps a point")
    parser.add_argument("--only", nargs="+", default=list(AXES), choices=list(AXES))
    parser.add_argument("--most", type=int, default=8192, help="leave out points with more tokens a step: memory")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench-scaling"))
    parser.add_argument("--point", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.point:
        print("RESULT " + json.dumps(measure(json.loads(arguments.point), arguments.steps)), flush=True)
        return
    points = {axis: [{**BASE, axis: value} for value in AXES[axis]] for axis in arguments.only}
    results = {
        axis: [run(point, arguments.steps) for point in along if point["rows"] * point["micro"] <= arguments.most]
        for axis, along in points.items()
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "scaling.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(arguments.output / "scaling.png", results)
    print(f"chart: {arguments.output / 'scaling.png'}")


if __name__ == "__main__":
    main()
