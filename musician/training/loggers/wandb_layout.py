"""The panels of a W&B workspace for runs of this project, as code: what to look at, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from musician.runtime.errors import UserError

#: What each section shows: panels by title, each with its metrics.
SECTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "Loss": {"loss": ("train/loss", "val/loss"), "gradient norm": ("train/grad_norm",)},
    "Optimisation": {"learning rate": ("train/lr",), "skipped steps": ("train/skipped_steps",)},
    "Throughput and memory": {
        "tokens a second": ("train/tokens_per_second",),
        "model FLOPs utilisation": ("train/mfu",),
        "tokens seen": ("train/tokens_seen",),
        "memory, GiB": ("train/memory_gib",),
    },
}

#: Lightning logs the optimiser step under this name.
STEP = "trainer/global_step"


def interval(figure: str) -> tuple[str, str, str]:
    """Return the metrics of a benchmark's figure and of its 95 % interval."""
    return f"eval/{figure}", f"eval/{figure}/ci95_low", f"eval/{figure}/ci95_high"


def panels(entity: str, project: str, figures: Sequence[str]) -> Any:
    """Return the layout as a `wandb_workspaces.workspaces.Workspace`, which nothing has sent yet.

    Args:
        entity: user or team of W&B.
        project: of the runs; its name is that of the view.
        figures: `benchmark/figure`, each a panel with its 95 % interval.

    Raises:
        UserError: the package is not installed.
    """
    try:
        from wandb_workspaces.reports.v2 import LinePlot, MediaBrowser, WeavePanelSummaryTable
        from wandb_workspaces.workspaces import Section, Workspace
    except ImportError as error:
        raise UserError(f"logger.wandb.workspace: {error}; pip install 'musician[wandb]'") from error

    def section(title: str, plotted: dict[str, tuple[str, ...]]) -> Any:
        plots: list[Any] = [LinePlot(title=panel, x=STEP, y=list(metrics)) for panel, metrics in plotted.items()]
        return Section(name=title, panels=plots, is_open=True)

    first, *others = (section(title, plotted) for title, plotted in SECTIONS.items())
    benchmarks = section("Benchmarks, 95 % intervals", {figure: interval(figure) for figure in figures})
    benchmarks.panels.append(MediaBrowser(title="accuracy", media_keys=["eval/accuracy"]))
    samples = Section(name="Samples", panels=[WeavePanelSummaryTable(table_name="samples")], is_open=True)
    pictures = MediaBrowser(title="figures against what was swept", media_keys=["sweep/figures"])
    sweeps = Section(name="Sweeps", panels=[pictures, WeavePanelSummaryTable(table_name="sweep/jobs")])
    return Workspace(entity, project, project, sections=[first, benchmarks, samples, *others, sweeps])
