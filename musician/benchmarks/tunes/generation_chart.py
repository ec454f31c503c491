"""A chart of written tunes beside those of people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from musician.benchmarks.statistics.accuracy import Accuracy

_SIDES = (("", "model", "tab:blue", -0.14), ("human/", "people", "tab:orange", 0.14))


def draw_beside(path: Path, means: Mapping[str, Accuracy]) -> None:
    """Draw every measure that runs from 0 to 1, the model's and people's, with 95 % intervals.

    Args:
        path: the PNG to write.
        means: by name, those of people under `human/`; families are left out.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [
        name for name in sorted(means) if name.count("/") == 1 and means.get(f"human/{name}") and _is_share(name, means)
    ]
    if not names:
        return
    figure, axis = pyplot.subplots(figsize=(8, 1.2 + 0.34 * len(names)), constrained_layout=True)
    for prefix, label, colour, shift in _SIDES:
        found = [means[prefix + name] for name in names]
        spread = [[_gap(each.value, each.low) for each in found], [_gap(each.high, each.value) for each in found]]
        places = [place + shift for place in range(len(names))]
        axis.errorbar(
            [each.value for each in found], places, xerr=spread, fmt="o", ms=5, capsize=2, color=colour, label=label
        )
    axis.set_yticks(range(len(names)), [f"{name} (n={means[name].n})" for name in names], fontsize=8)
    axis.set(xlabel="share, 95 % interval", xlim=(-0.03, 1.03), ylim=(len(names) - 0.5, -0.5))
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, ncols=2, loc="outside upper right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _is_share(name: str, means: Mapping[str, Accuracy]) -> bool:
    counted = name.endswith(("_distance", "/run", "/longest_run", "/sections"))
    return not counted and all(0 <= means[prefix + name].value <= 1 for prefix, *_ in _SIDES)


def _gap(upper: float, lower: float) -> float:
    return 0.0 if math.isnan(upper - lower) else max(0.0, upper - lower)
