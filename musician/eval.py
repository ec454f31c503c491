"""Run benchmarks on a model: `python -m musician.eval model=outputs/sft/RUN benchmark=[music_theory_bench,mmlu]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from musician.cli.entry import command
from musician.cli.keys import one_line
from musician.runtime.atomic import write_text

if TYPE_CHECKING:
    from musician.lm.language_model import LanguageModel


@command("eval")
def main(cfg: DictConfig) -> None:
    """Open the model, run each benchmark, write and print the results."""
    from musician.benchmarks.run import run_benchmark
    from musician.benchmarks.statistics.scoreboard import draw, scores, show
    from musician.lm.open_model import open_model
    from musician.model.checkpoint import newest_run
    from musician.runtime.errors import UserError

    benchmarks, missing = load_benchmarks(cfg.get("benchmark") or {})
    if not benchmarks:
        raise UserError("eval: no benchmark can run; " + " | ".join(missing or ["benchmark=[] names none"]))
    output = Path(cfg.output_dir)
    if cfg.contamination:
        report_contamination(benchmarks, cfg.contamination, output)
    scorer = instantiate(cfg.scorer)
    path = str(cfg.model.path or newest_run(cfg.outputs))
    # The audit compares with the released script, which scores in fp32.
    precision = cfg.model.precision or ("32-true" if scorer.method == "audit" else None)
    opened = open_model(**{**cfg.model, "path": path, "precision": precision})
    board: list[Any] = []
    results: dict[str, Any] = {"model": path, "missing": missing, "benchmarks": {}}
    for benchmark in benchmarks:
        outcomes = [run_benchmark(benchmark, opened.network, opened.renderer, output, scorer)]
        if cfg.generative.asking and hasattr(benchmark, "questions"):
            outcomes.append(ask_for_answers(benchmark, opened, instantiate(cfg.generative), output))
        found = [score for outcome in outcomes for score in scores(benchmark, outcome)]
        show(benchmark.name, found, file=sys.stdout)
        board += found
        for outcome in outcomes:
            results["benchmarks"][outcome.benchmark] = outcome.metrics() | outcome.details()
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "results.json", json.dumps(results, indent=2) + "\n")
    draw(output / "accuracy.png", board, {}, path)
    for reason in missing:
        print(f"not run: {reason}")
    print(f"results: {output}")


def load_benchmarks(nodes: Mapping[Any, Any]) -> tuple[list[Any], list[str]]:
    """Load the benchmarks whose data is there; say what is missing of the others."""
    from musician.runtime.errors import UserError

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


def ask_for_answers(benchmark: Any, opened: LanguageModel, mode: Any, output: Path) -> Any:
    """Let the model write its answers, greedily, and read the letters from them."""
    from musician.benchmarks.multiple_choice.generative import evaluate_generative, write_generations
    from musician.generation.decoder import complete
    from musician.generation.forward import prepare
    from musician.generation.sampling import Sampling
    from musician.runtime.progress import ProgressLine

    forward, renderer = prepare(opened.network), opened.renderer
    read = renderer.read_answer if mode.chat else renderer.read_text

    def generate(prompts: Sequence[list[int]], most: int) -> Iterator[tuple[int, str]]:
        sampling = Sampling(temperature=0, max_new_tokens=most)
        answers = complete(forward, [(ids, sampling) for ids in prompts], renderer.tokenizer.eos_token_id)
        return ((number, read(ids)) for number, ids in answers)

    with ProgressLine(f"{benchmark.name}, written answers") as line:
        result = evaluate_generative(benchmark, renderer, generate, mode, on_progress=line.update)
    write_generations(output / result.benchmark / "generations.jsonl", result.records)
    return result


def report_contamination(benchmarks: Sequence[Any], path: str, output: Path) -> None:
    """Say which questions occur in the rows of a training set, by their text or by their music."""
    from musician.benchmarks.contamination import contamination

    asked = [benchmark for benchmark in benchmarks if hasattr(benchmark, "questions")]
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
