"""The figures of an evaluation as people read them: a table in the console, a chart with intervals."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from musician.benchmarks.run import Outcome

#: With more subsets than this only those that hold several subjects are shown; results.json holds them all.
MOST_SUBSETS = 8

#: Chance of a question with four options.
CHANCE = 0.25


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


def scores(benchmark: Any, outcome: Outcome) -> list[Score]:
    """Return the figures of an outcome that belong into a table: all, or where there are many those of groups."""
    found, details = outcome.metrics(), outcome.details()
    subsets = getattr(benchmark, "subsets", ())
    root = f"eval/{outcome.benchmark}"
    names = list(found)
    if len(names) > MOST_SUBSETS:
        groups = {f"{root}/{subset.name}" for subset in subsets if len(subset.subjects) > 1}
        names = [name for name in names if name in groups] or names[-1:]
    return [
        Score(
            name.removeprefix("eval/"),
            found[name],
            details.get(f"{name}/ci95_low"),
            details.get(f"{name}/ci95_high"),
            int(details[f"{name}/n"]) if f"{name}/n" in details else None,
            CHANCE if hasattr(benchmark, "questions") else None,
        )
        for name in names
    ]


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
        now: figures; those that are no accuracies are left out.
        before: values of the first evaluation by name.
        title: of the chart.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = [score for score in now if score.chance is not None and score.low is not None and score.high is not None]
    if not bars:
        return
    figure, axis = pyplot.subplots(figsize=(8, 0.8 + 0.32 * len(bars)), constrained_layout=True)
    places = range(len(bars))
    below = [max(0.0, score.value - (score.low or 0.0)) for score in bars]
    above = [max(0.0, (score.high or 0.0) - score.value) for score in bars]
    values = [score.value for score in bars]
    axis.barh(places, values, xerr=[below, above], color="tab:blue", alpha=0.7, height=0.6, capsize=3, label="now")
    earlier = [(place, before[score.name]) for place, score in zip(places, bars, strict=True) if score.name in before]
    if earlier:
        axis.plot(*zip(*((value, place) for place, value in earlier), strict=True), "k|", ms=12, label="at first")
    axis.axvline(CHANCE, color="grey", linestyle="--", linewidth=1, label="chance")
    axis.set_yticks(places, [f"{score.name} (n={score.n:,})" for score in bars], fontsize=8)
    axis.set(title=title, xlabel="accuracy, 95 % interval", xlim=(0, 1), ylim=(len(bars) - 0.5, -0.5))
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
