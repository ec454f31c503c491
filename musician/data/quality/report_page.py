"""The report of a prepared directory as a page with plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from musician.data.quality.report import measure
from musician.data.rendering.render import Renderer
from musician.runtime.atomic import write_directory

#: Bars of a chart; what is rarer is added up in the last.
MOST_BARS = 14
Report = Mapping[str, Any]


def write_report(directory: Path, renderer: Renderer) -> Path:
    """Write `report/` into a prepared directory unless it is there: `report.json`, `report.png`, `index.html`.

    Args:
        directory: what `musician.data.store.prepare.prepare` made.
        renderer: of the tokenizer that it was made with.

    Returns:
        The page.
    """
    folder = directory / "report"
    if not folder.is_dir():
        found = measure(directory, renderer)

        def fill(partial: Path) -> None:
            (partial / "report.json").write_text(json.dumps(found, indent=1, ensure_ascii=False))
            draw(found, partial / "report.png")
            (partial / "index.html").write_text(page(found))

        write_directory(folder, fill)
    return folder / "index.html"


def draw(report: Report, file: Path) -> None:
    """Draw the plots that the data have something for."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    charts = _charts(report)
    rows = -(-len(charts) // 3)
    figure, axes = pyplot.subplots(rows, 3, figsize=(14, 3.6 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(charts) :]:
        axis.axis("off")
    for axis, (title, values) in zip(axes.flat, charts.items(), strict=False):
        axis.set_title(title, fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
        if "histogram" in values:
            axis.stairs(values["histogram"]["counts"], values["histogram"]["edges"], fill=True)
            lines = [f"{name} {values[name]:,.4g}" for name in ("median", "mean", "largest")]
            axis.text(0.02, 0.97, "\n".join(lines), transform=axis.transAxes, va="top", fontsize=8)
        else:
            _bars(axis, values)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _charts(report: Report) -> dict[str, Report]:
    """Counts or distributions by their titles."""
    train, music = report["splits"]["train"], report["music"]
    packing = train["packing"]
    charts = {
        f"Rows: {report['rows_in']:,} in": {"used": report["rows_out"], **report["dropped"]},
        f"Tokens of a document ({train['documents']:,})": train["lengths"],
        f"Fill of {packing['rows']:,} packed rows: {packing['fill']:.2%}": packing["fill_of_rows"],
    }
    if "train" in report["families"]:
        families = report["families"]["train"]
        charts[f"Tune families ({families['families']:,}) by their documents"] = families["families_of_size"]
    charts |= {f"{name}, documents": values for name, values in report["kept"]["train"].items()}
    if music["tunes"]:
        charts |= {
            f"Key, {music['tunes']:,} tunes read": music["keys"],
            "Meter": music["meters"],
            "Sections of a tune": music["sections"],
            "Tokens of a tune to each of its bars": music["tokens_per_bar"],
        }
    return charts


def _bars(axis: Any, counts: Mapping[str, int]) -> None:
    """Draw horizontal bars with their numbers, the first on top."""
    shown = dict(list(counts.items())[:MOST_BARS])
    rest = sum(counts.values()) - sum(shown.values())
    shown |= {f"{len(counts) - MOST_BARS} others": rest} if rest else {}
    names = [name if len(name) <= 26 else f"{name[:25]}…" for name in shown]
    bars = axis.barh(range(len(names)), list(shown.values()), height=0.7)
    axis.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.18)


_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:74rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.2rem .9rem .2rem 0;text-align:right}th:first-child,td:first-child
{text-align:left}img{max-width:100%}pre{background:#f6f6f6;padding:.7rem;white-space:pre-wrap;overflow-wrap:anywhere;
color:#888}b{color:#14622f;font-weight:normal}"""


def page(report: Report) -> str:
    """Return the page: counts, plots, and documents as they are trained on, the supervised part in green."""
    head = ("", "documents", "tokens", "supervised", "mean length", "packed rows", "fill")
    splits = [
        (
            name,
            *(f"{split[column]:,}" for column in ("documents", "tokens", "supervised_tokens")),
            f"{split['lengths']['mean']:,.1f}",
            f"{split['packing']['rows']:,}",
            f"{split['packing']['fill']:.3%}",
        )
        for name, split in report["splits"].items()
    ]
    counts = [
        (f"{what} · {name}", f"{count:,}")
        for what in ("dropped", "cuts", "repairs")
        for name, count in sorted(report[what].items())
    ]
    samples = "".join(f"<h3>Document {s['document']}: {s['tokens']} tokens</h3>{_sample(s)}" for s in report["samples"])
    return (
        f'<!doctype html><meta charset="utf-8"><title>Data {report["key"]}</title><style>{_STYLE}</style>'
        f"<h1>Data {report['key']}</h1><p>{escape(report['tokenizer'])}, template {escape(report['template'])}, rows "
        f"of {report['max_length']:,} tokens. {report['rows_in']:,} rows in, {report['rows_out']:,} used.</p>"
        f"{_table([head, *splits])}{_table(counts)}"
        f'<p><img src="report.png" alt="Plots of the numbers in report.json"></p><h2>Samples</h2>{samples}\n'
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _sample(sample: Report) -> str:
    parts = (
        f"<b>{escape(part['text'])}</b>" if part["supervised"] else escape(part["text"]) for part in sample["segments"]
    )
    return f"<pre>{''.join(parts)}</pre>"
