"""The figures of an evaluation as people read them: a table in the console, a chart with intervals."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from musician.benchmarks.statistics.estimate import Estimate
from musician.benchmarks.statistics.paired import Difference


@dataclass(frozen=True, slots=True)
class Score:
    """One figure with what tells how sure it is.

    Attributes:
        name: `benchmark/subset`, or the benchmark's measure.
        value: accuracy from 0 to 1, or a measure in its own unit.
        low: lower end of the 95 % interval; None where there is none.
        high: its upper end.
        n: questions or tunes behind it; None where it is not a mean over such.
        chance: accuracy of guessing; None where it is no accuracy.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    n: int | None
    chance: float | None = None


def show(
    title: str, lines: Sequence[Score], before: Mapping[str, float] | None = None, file: TextIO | None = None
) -> None:
    """Print a table.

    Args:
        title: what was evaluated.
        lines: its figures.
        before: values of an earlier evaluation by name, for a column of differences; None leaves it out.
        file: where to; None for stderr.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    file = file or sys.stderr
    console = Console(file=file, highlight=False, width=None if file.isatty() else 100)
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("benchmark", no_wrap=True)
    for heading in ("score", "95 % interval", "n", *(["since the last"] if before is not None else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        interval = "" if line.low is None or line.high is None else f"[{line.low:.3f}, {line.high:.3f}]"
        cells = [line.name, f"{line.value:.3f}", interval, "" if line.n is None else f"{line.n:,}"]
        if before is not None:
            cells.append(f"{line.value - before[line.name]:+.3f}" if line.name in before else "new")
        table.add_row(*cells)
    console.print(table)


def draw(path: Path, now: Iterable[Score], before: Mapping[str, float], title: str) -> None:
    """Draw accuracies as bars with their 95 % intervals, and a mark where each stood before.

    Args:
        path: the PNG to write.
        now: figures; those that are not accuracies of four options are left out.
        before: values of the first evaluation by name.
        title: of the chart.
    """
    bars = [score for score in now if score.chance is not None and score.low is not None and score.high is not None]
    if not bars:
        return
    figure, axis = _axes(len(bars))
    places = range(len(bars))
    below = [max(0.0, score.value - (score.low or 0.0)) for score in bars]
    above = [max(0.0, (score.high or 0.0) - score.value) for score in bars]
    values = [score.value for score in bars]
    axis.barh(places, values, xerr=[below, above], color="tab:blue", alpha=0.7, height=0.6, capsize=3, label="now")
    earlier = [(place, before[score.name]) for place, score in zip(places, bars, strict=True) if score.name in before]
    if earlier:
        axis.plot(*zip(*((value, place) for place, value in earlier), strict=True), "k|", ms=12, label="at first")
    axis.axvline(bars[0].chance or 0.0, color="grey", linestyle="--", linewidth=1, label="chance")
    axis.set_yticks(places, [f"{score.name} (n={score.n:,})" for score in bars], fontsize=8)
    axis.set(title=title, xlabel="accuracy, 95 % interval", xlim=(0, 1))
    _save(figure, path)


def intervals(path: Path, rows: Mapping[str, Sequence[Estimate]], sides: Sequence[str]) -> None:
    """Draw shares from 0 to 1 with their 95 % intervals.

    Args:
        path: the PNG to write.
        rows: by label, one share for each of `sides`.
        sides: what is compared.
    """
    figure, axis = _axes(len(rows))
    for side, label in enumerate(sides):
        found = [shares[side] for shares in rows.values()]
        spread = [[_width(each.value - each.low) for each in found], [_width(each.high - each.value) for each in found]]
        places = [place + 0.28 * (side - (len(sides) - 1) / 2) for place in range(len(rows))]
        axis.errorbar([each.value for each in found], places, xerr=spread, fmt="o", ms=5, capsize=2, label=label)
    axis.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axis.set(xlabel="share, 95 % interval", xlim=(-0.03, 1.03))
    axis.grid(axis="x", alpha=0.3)
    _save(figure, path)


def draw_differences(path: Path, differences: Mapping[str, Difference]) -> None:
    """Draw how much better run B is than run A on each subset, grey where that is not separable from noise.

    Args:
        path: the PNG to write.
        differences: by subset.
    """
    figure, axis = _axes(len(differences))
    for place, found in enumerate(differences.values()):
        colour = {"B is better": "tab:green", "A is better": "tab:red"}.get(found.verdict, "grey")
        if found.low is not None and found.high is not None:
            axis.plot([found.low * 100, found.high * 100], [place, place], color=colour, linewidth=1.5)
        axis.plot(found.value * 100, place, "o", color=colour, markersize=5)
    axis.axvline(0, color="black", linewidth=0.8)
    labels = [f"{name} (n={found.n:,})" for name, found in differences.items()]
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.set_xlabel("accuracy of B less that of A, points, 95 % interval")
    _save(figure, path)


def _width(distance: float) -> float:
    return 0.0 if math.isnan(distance) else max(0.0, distance)


def _axes(rows: int) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 1.2 + 0.34 * rows), constrained_layout=True)
    axis.set_ylim(rows - 0.5, -0.5)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    if figure.axes[0].get_legend_handles_labels()[0]:
        figure.legend(frameon=False, fontsize=8, ncols=3, loc="outside upper right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
