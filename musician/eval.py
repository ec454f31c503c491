"""Run benchmarks on a model: `python -m musician.eval model=outputs/sft/RUN benchmark=[music_theory_bench,mmlu]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from musician.cli.entry import command
from musician.cli.errors import one_line
from musician.runtime.atomic import write_text


@command("eval")
def main(cfg: DictConfig) -> None:
    """Open the model, run each benchmark, write and print the results."""
    from musician.benchmarks.shard import Shard
    from musician.benchmarks.statistics.scoreboard import draw, show
    from musician.lm.open_model import open_model
    from musician.model.checkpoint import newest_run
    from musician.runtime.errors import UserError

    nodes = {name: node for name, node in (cfg.get("benchmark") or {}).items() if "_target_" in node}
    benchmarks, missing = load_benchmarks(nodes, cfg.scorer)
    if not benchmarks:
        raise UserError("eval: no benchmark can run; " + " | ".join(missing or ["benchmark=[] names none"]))
    output = Path(cfg.output_dir)
    if cfg.contamination:
        report_contamination(benchmarks, cfg.contamination, output)
    if cfg.generative.asking:
        written = {name: node for name, node in nodes.items() if "scorer" in node}
        benchmarks += load_benchmarks(written, cfg.generative)[0]
    path = str(cfg.model.path or newest_run(cfg.outputs))
    # The audit compares with the released script, which scores in fp32.
    precision = cfg.model.precision or ("32-true" if cfg.scorer.method == "audit" else None)
    model = open_model(**{**cfg.model, "path": path, "precision": precision})
    board: list[Any] = []
    results: dict[str, Any] = {"model": path, "missing": missing, "benchmarks": {}}
    for benchmark in benchmarks:
        result = benchmark.run(model, Shard())
        result.write(output / result.benchmark)
        show(result.benchmark, result.scores(), file=sys.stdout)
        board += result.scores()
        results["benchmarks"][result.benchmark] = result.metrics() | result.details()
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "results.json", json.dumps(results, indent=2) + "\n")
    draw(output / "accuracy.png", board, {}, path)
    for reason in missing:
        print(f"not run: {reason}")
    print(f"results: {output}")


def load_benchmarks(nodes: Mapping[Any, Any], scorer: DictConfig) -> tuple[list[Any], list[str]]:
    """Load the benchmarks whose data is there, with a scorer where they accept one; list what the others miss."""
    from musician.runtime.errors import UserError

    loaded, missing = [], []
    for name, node in nodes.items():
        if "scorer" in node:
            node.scorer = scorer
        try:
            loaded.append(instantiate(node))
        except Exception as error:
            text = one_line(error)
            if not isinstance(error, UserError) and not isinstance(error.__cause__, UserError):
                raise
            missing.append(f"{name!s}: {text}")
    return loaded, missing


def report_contamination(benchmarks: Sequence[Any], path: str, output: Path) -> None:
    """Print which questions occur in the rows of a training set, by their text or by their music."""
    from musician.benchmarks.contamination import contamination

    asked = [benchmark for benchmark in benchmarks if benchmark.questions()]
    output.mkdir(parents=True, exist_ok=True)
    for name, found in contamination(asked, training_texts(path)).items():
        print(f"contamination: {found.summary()}", flush=True)
        lines = "".join(json.dumps(asdict(match)) + "\n" for match in found.matches)
        (output / f"contamination_{name}.jsonl").write_text(lines)


def training_texts(path: str) -> Iterator[str]:
    """The text of every row of a file, a folder or a hub data set; a conversation is one text."""
    from musician.data.sources.source import RowSource
    from musician.data.store.prepare import Recipe, read_rows
    from musician.data.store.splits import text_of
    from musician.runtime.progress import track

    rows = track(read_rows(RowSource(path), Recipe()), "reading training rows")
    return (text_of(row) for _, row in rows)


if __name__ == "__main__":
    main()
