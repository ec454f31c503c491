"""Run benchmarks on a model: `python -m musician.eval model=outputs/sft/RUN benchmark=[music_theory_bench,mmlu]`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from musician.configuration import one_line
from musician.launch import door


@door("eval")
def main(cfg: DictConfig) -> None:
    """Open the model, run each benchmark, write and print the results."""
    from musician.benchmarks.run import run_benchmark, summary
    from musician.errors import UserError
    from musician.hardware import best_device
    from musician.model.checkpoint import newest_run
    from musician.restore import restore

    benchmarks, missing = load_benchmarks(cfg.get("benchmark") or {})
    if not benchmarks:
        raise UserError("eval: no benchmark can run; " + " | ".join(missing or ["benchmark=[] names none"]))
    model = cfg.model
    path = str(model.path or newest_run(cfg.outputs))
    device, dtype = best_device()
    opened = restore(path, model.base, model.dtype or dtype, model.device or device, model.template)
    output = Path(cfg.output_dir)
    scorer = instantiate(cfg.scorer)
    results: dict[str, Any] = {"model": path, "missing": missing, "benchmarks": {}}
    for benchmark in benchmarks:
        outcome = run_benchmark(benchmark, opened.network, opened.renderer, output, scorer)
        print(summary(outcome), flush=True)
        results["benchmarks"][benchmark.name] = outcome.metrics() | outcome.details()
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    for reason in missing:
        print(f"not run: {reason}")
    print(f"results: {output}")


def load_benchmarks(nodes: Mapping[Any, Any]) -> tuple[list[Any], list[str]]:
    """Load the benchmarks whose data is there; say what is missing of the others."""
    from musician.errors import UserError

    loaded, missing = [], []
    for name, node in nodes.items():
        if "_target_" not in node:
            continue
        try:
            loaded.append(instantiate(node))
        except Exception as error:
            text = one_line(error)
            if not isinstance(error, UserError) and not isinstance(error.__cause__, UserError):
                raise
            missing.append(f"{name!s}: {text}")
    return loaded, missing


if __name__ == "__main__":
    main()
