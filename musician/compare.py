"""Compare two runs question by question: `python -m musician.compare outputs/eval/RUN_A outputs/eval/RUN_B`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from musician.cli.entry import command
from musician.cli.tables import print_table
from musician.runtime.atomic import write_text
from musician.runtime.errors import UserError

if TYPE_CHECKING:
    from musician.benchmarks.statistics.comparison import Comparison, Difference

RUNS = ("a", "b")
COLUMNS = ("subset", "n", "A %", "B %", "B - A [95 %]", "p", "only A : B", "detectable", "verdict")

#: Not shown in a narrow terminal.
SPARED = ("only A : B", "detectable")


@command("compare", words=RUNS)
def main(cfg: DictConfig) -> None:
    """Read, pair, test, write, print."""
    from musician.benchmarks.multiple_choice.records import prediction_files
    from musician.benchmarks.statistics.comparison import compare_runs
    from musician.benchmarks.statistics.scoreboard import draw_differences
    from musician.benchmarks.tunes.written_comparison import read_generations

    if not cfg.a or not cfg.b:
        raise UserError("compare: give two runs: python -m musician.compare RUN_A RUN_B")
    if cfg.resamples < 100:
        raise UserError(f"compare: resamples={cfg.resamples}; an interval takes 100 or more.")
    written = {run: found for run in RUNS if (found := read_generations(Path(cfg[run]))) is not None}
    both = len(written) == len(RUNS)
    only_tunes = both and not any(map(prediction_files, (Path(cfg.a), Path(cfg.b))))
    comparisons = [] if only_tunes else compare_runs(Path(cfg.a), Path(cfg.b), cfg.resamples, cfg.seed)
    output = Path(cfg.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    content = {"a": cfg.a, "b": cfg.b, "resamples": cfg.resamples, "seed": cfg.seed}
    benchmarks: dict[str, Any] = {comparison.benchmark: as_plain(comparison) for comparison in comparisons}
    print(f"A: {cfg.a}\nB: {cfg.b}")
    for comparison in comparisons:
        show(comparison)
    if comparisons:
        differences = {f"{each.benchmark}/{name}": d for each in comparisons for name, d in each.differences.items()}
        draw_differences(output / "comparison.png", differences)
    if both:
        benchmarks["generation"] = compare_tunes(written)
    write_text(output / "comparison.json", json.dumps({**content, "benchmarks": benchmarks}, indent=2) + "\n")
    print(f"comparison: {output}")


def compare_tunes(written: Mapping[str, Any]) -> dict[str, Any]:
    """Print how the tunes of both runs measure, and return it for a JSON file."""
    from musician.benchmarks.tunes.written_comparison import compare_written, percentiles

    differences, ranks = compare_written(written["a"], written["b"]), percentiles(written)
    rows = []
    for name, found in differences.items():
        interval = "-" if found.low != found.low else f"[{found.low:+.3f}, {found.high:+.3f}]"
        difference = f"{found.b - found.a:+.3f} {interval}"
        rows.append((name, found.n, f"{found.a:.3f}", f"{found.b:.3f}", difference))
    title = f"generation: B against A, {len(written['a']):,} requests"
    bold = [place for place, found in enumerate(differences.values()) if found.separable]
    print_table(title, ("measure", "n", "A", "B", "B - A [95 %]"), rows, left=("measure",), bold=bold)
    for name, each in ranks.items():
        print(f"  {name}: mean percentile of A against B {' against '.join(f'{each[run]:.0f}' for run in RUNS)}")
    return {"measures": {name: asdict(found) for name, found in differences.items()}, "percentiles": ranks}


def as_plain(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison for a JSON file."""
    plain = asdict(comparison)
    for name, found in comparison.differences.items():
        plain["differences"][name] |= {
            "difference": found.value,
            "separable": found.separable,
            "verdict": found.verdict,
        }
    return plain


def show(comparison: Comparison) -> None:
    """Print the table of a benchmark and its notes."""
    found = comparison.differences
    title = f"{comparison.benchmark}: B against A, {comparison.paired:,} questions"
    bold = [place for place, one in enumerate(found.values()) if one.separable]
    rows = [row(name, one) for name, one in found.items()]
    print_table(title, COLUMNS, rows, left=("subset", "verdict"), spared=SPARED, bold=bold)
    for note in comparison.notes:
        print(f"  {note}")
    alike = str(comparison.calibration_a) == str(comparison.calibration_b)
    both = (("A and B", comparison.calibration_a),)
    apart = (("A", comparison.calibration_a), ("B", comparison.calibration_b))
    for run, calibration in both if alike else apart:
        print(f"  calibration of {run}: {calibration}")


def row(name: str, found: Difference) -> tuple[str, ...]:
    """Return the cells of a subset, one for each of COLUMNS; shares in per cent."""
    interval = "-" if found.low is None else f"[{found.low * 100:+5.1f}, {found.high * 100:+5.1f}]"  # type: ignore[operator]
    return (
        name,
        f"{found.n:,}",
        f"{found.a * 100:.1f}",
        f"{found.b * 100:.1f}",
        f"{found.value * 100:+.1f} {interval}",
        "<0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}",
        f"{found.only_a} : {found.only_b}",
        "-" if found.detectable is None else f"{found.detectable * 100:.1f}",
        found.verdict,
    )


if __name__ == "__main__":
    main()
