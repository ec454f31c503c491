"""The jobs of a sweep as one picture: each figure against what was swept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from musician.training.runs.sweep_results import Job

#: What a summary holds of every job, with what to call it.
_COSTS = {
    "trainable_parameters": "trained weights",
    "seconds_training": "seconds of training",
    "peak_memory_gib": "peak memory, GiB",
}

#: Value, lower and upper end; where there is no interval all three are one.
Interval = tuple[float, float, float]
#: Where, value, lower and upper end, whether pruned.
Point = tuple[float, float, float, float, bool]


def draw_sweep(jobs: Sequence[Job], notes: Sequence[str], path: Path) -> None:
    """Draw objective, benchmarks with their 95 % intervals and costs against the swept values.

    A key with numbers is the axis, and each combination of the others a line; without one the jobs stand side by side.
    Pruned jobs are hollow.

    Args:
        jobs: at least one.
        notes: lines to write below.
        path: the PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = _panels(jobs)
    columns = 2 if len(panels) == 4 else 3
    rows = ceil(len(panels) / columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(4.1 * columns, 3.1 * rows + 0.3), constrained_layout=True, squeeze=False
    )
    key = _numeric_key(jobs)
    for axis, (title, figures) in zip(axes.flat, panels.items(), strict=False):
        lines = _lines(jobs, key, figures)
        for label, points in lines.items():
            _draw_line(axis, label, points, "-" if key else "none")
        if title in _COSTS.values():
            axis.set_ylim(0, 1.1 * max(value for value, _, _ in figures.values()) or 1)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        _label_axis(axis, jobs, key)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    if len(_lines(jobs, key, {})) > 1:
        axes.flat[0].legend(frameon=False, fontsize=8)
    marks = ["bars: 95 % intervals; a point without one is one number a job, not tested"]
    marks += ["hollow: pruned"] * any(job.summary.pruned for job in jobs)
    figure.supxlabel("\n".join(["; ".join(marks), *notes]), fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _panels(jobs: Sequence[Job]) -> dict[str, dict[str, Interval]]:
    """Each figure by job, by title; the costs last."""
    objective = jobs[0].summary.objective or "objective"
    panels: dict[str, dict[str, Interval]] = {}
    for job in jobs:
        found: dict[str, Any] = {} if objective in job.scores else {objective: job.summary.value}
        found |= {title: getattr(job.summary, name) for name, title in _COSTS.items()}
        for title, value in found.items():
            if value is not None:
                panels.setdefault(title, {})[job.name] = (value, value, value)
        for name, one in job.scores.items():
            title = name if one.n is None else f"{name}, n={one.n:,}"
            low, high = (one.value if end is None else end for end in (one.low, one.high))
            panels.setdefault(title, {})[job.name] = (one.value, low, high)
    return {title: panels[title] for title in sorted(panels, key=lambda title: title in _COSTS.values())}


def _numeric_key(jobs: Sequence[Job]) -> str | None:
    """The swept key with the most values of those that hold numbers only."""
    keys = [key for key in jobs[0].values if all(_number(job.values[key]) is not None for job in jobs)]
    return max(keys, key=lambda key: len({job.values[key] for job in jobs}), default=None)


def _lines(jobs: Sequence[Job], key: str | None, figures: Mapping[str, Interval]) -> dict[str, list[Point]]:
    """The points of each line, by the values of the other keys."""
    lines: dict[str, list[Point]] = {}
    for place, job in enumerate(jobs):
        others = [f"{_short(name)}={value}" for name, value in job.values.items() if name != key]
        points = lines.setdefault(" ".join(others) if key else "", [])
        if job.name in figures:
            x = (_number(job.values[key]) or 0.0) if key else float(place)
            points.append((x, *figures[job.name], job.summary.pruned is not None))
    return lines


def _draw_line(axis: Any, label: str, points: Sequence[Point], style: str) -> None:
    places, values, lows, highs, pruned = zip(*points, strict=True) if points else ([], [], [], [], [])
    nothing = float("nan")  # draws no bar
    below = [value - low or nothing for value, low in zip(values, lows, strict=True)]
    above = [high - value or nothing for value, high in zip(values, highs, strict=True)]
    drawn = axis.errorbar(places, values, yerr=[below, above], ls=style, capsize=4, lw=1.2, label=label)
    colour = drawn.lines[0].get_color()
    for place, value, stopped in zip(places, values, pruned, strict=True):
        axis.plot(place, value, "o", color=colour, mfc="white" if stopped else colour)


def _label_axis(axis: Any, jobs: Sequence[Job], key: str | None) -> None:
    axis.ticklabel_format(axis="y", useOffset=False)
    if key is None:
        labels = ["\n".join(job.values.values()) or job.name for job in jobs]
        crowded = sum(max(map(len, label.split("\n"))) for label in labels) > 40
        axis.set_xticks(range(len(jobs)), labels, fontsize=8, rotation=90 * crowded)
        axis.set_xlabel(", ".join(jobs[0].values), fontsize=8)
        axis.set_xlim(-0.5, len(jobs) - 0.5)
        return
    values = sorted({_number(job.values[key]) or 0.0 for job in jobs})
    labels = [f"{value:g}" for value in values]
    listed = len(labels) <= 8 and max(map(len, labels)) <= 4  # a grid, not what a sampler drew
    if values[0] > 0 and values[-1] >= 4 * values[0]:
        axis.set_xscale("log")
    axis.margins(x=0.08)
    if listed:
        axis.minorticks_off()
        axis.set_xticks(values, labels)
    axis.set_xlabel(key, fontsize=8)


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
