"""The report of a prepared directory as a page with plots."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from musician.data.quality.report import measure
from musician.data.rendering.render import Renderer
from musician.runtime.atomic import write_directory

_BLUE, _GREY, _RED = "#2a6f97", "#8d99ae", "#bc4749"
#: Bars of a chart; what is rarer is added up in the last.
MOST_BARS = 14
Axis = Any
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
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    charts = _charts(report)
    rows = -(-len(charts) // 3)
    layout = ConstrainedLayoutEngine(h_pad=0.15, w_pad=0.1)
    figure, axes = pyplot.subplots(rows, 3, figsize=(14, 3.6 * rows), layout=layout, squeeze=False)
    for axis, chart in zip(axes.flat, charts, strict=False):
        chart(axis)
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(11)
    for axis in axes.flat[len(charts) :]:
        axis.axis("off")
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _charts(report: Report) -> list[Callable[[Axis], None]]:
    train, music = report["splits"]["train"], report["music"]
    packing = train["packing"]
    charts: list[Callable[[Axis], None]] = [
        lambda axis: _rows(axis, report),
        lambda axis: _histogram(axis, train["lengths"], f"Tokens of a document ({train['documents']:,})", log=True),
        lambda axis: _histogram(
            axis, packing["fill_of_rows"], f"Fill of {packing['rows']:,} packed rows: {packing['fill']:.2%}"
        ),
    ]
    if "train" in report["families"]:
        charts.append(lambda axis: _families(axis, report["families"]["train"]))
    for name, values in report["kept"]["train"].items():
        charts.append(lambda axis, name=name, values=values: _bars(axis, values, f"{name}, documents"))  # type: ignore[misc]
    if music["tunes"]:
        charts += [
            lambda axis: _bars(axis, music["keys"], f"Key, {music['tunes']:,} tunes read"),
            lambda axis: _bars(axis, music["meters"], "Meter"),
            lambda axis: _bars(axis, _by_number(music["sections"]), "Sections of a tune", sort=False),
            lambda axis: _histogram(axis, music["tokens_per_bar"], "Tokens of a tune to each of its bars"),
        ]
    return charts


def _rows(axis: Axis, report: Report) -> None:
    dropped = sorted(report["dropped"].items(), key=lambda item: -item[1])
    counts = {"used": report["rows_out"], **dict(dropped)}
    _bars(axis, counts, f"Rows: {report['rows_in']:,} in, {report['rows_in'] - report['rows_out']:,} dropped")
    for bar in axis.patches[1:]:
        bar.set_color(_RED)


def _bars(axis: Axis, counts: Mapping[str, int], title: str, sort: bool = True) -> None:
    """Horizontal bars with their numbers, the largest on top."""
    shown = dict(list(counts.items())[:MOST_BARS])
    rest = sum(counts.values()) - sum(shown.values())
    shown |= {f"{len(counts) - MOST_BARS} others": rest} if rest else {}
    names = [name if len(name) <= 26 else f"{name[:25]}…" for name in shown]
    bars = axis.barh(range(len(names)), list(shown.values()), color=_BLUE, height=0.7)
    if rest and sort:
        bars[-1].set_color(_GREY)
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.set_ylim(max(len(names), 5) - 0.4, -0.6)
    axis.bar_label(bars, [f"{count:,}" for count in shown.values()], padding=3, fontsize=8)
    axis.set_xlim(0, max([1, *shown.values()]) * 1.18)
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    axis.set_title(title)


def _histogram(axis: Axis, values: Report, title: str, log: bool = False) -> None:
    edges, counts = values["histogram"]["edges"], values["histogram"]["counts"]
    axis.stairs(counts, edges, fill=True, color=_BLUE)
    if log:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.axvline(values["percentiles"]["50"], color=_RED, linewidth=1.2)
    axis.text(
        0.02,
        0.97,
        f"median {values['percentiles']['50']:,.4g}\nmean {values['mean']:,.4g}\nlargest {values['largest']:,.4g}",
        transform=axis.transAxes,
        va="top",
        fontsize=8,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none"},
    )
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.set_title(title)


def _families(axis: Axis, families: Report) -> None:
    sizes = _by_number(families["families_of_size"])
    _bars(axis, sizes, f"Tune families ({families['families']:,}) by their documents", sort=False)


def _by_number(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: int(item[0])))


_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:74rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.2rem .9rem .2rem 0;text-align:right}th:first-child,td:first-child
{text-align:left}img{max-width:100%}pre{background:#f6f6f6;padding:.7rem;white-space:pre-wrap;overflow-wrap:anywhere;
color:#888}b{color:#14622f;font-weight:normal}"""


def page(report: Report) -> str:
    """The page: counts, plots, and documents as they are trained on, the supervised part in green."""
    head = ("documents", "tokens", "supervised_tokens")
    table = "".join(
        f"<tr><td>{name}</td>{''.join(f'<td>{split[column]:,}</td>' for column in head)}"
        f"<td>{split['lengths']['mean']:,.1f}</td><td>{split['packing']['rows']:,}</td>"
        f"<td>{split['packing']['fill']:.3%}</td></tr>"
        for name, split in report["splits"].items()
    )
    counts = "".join(
        f"<tr><td>{what} · {escape(name)}</td><td>{count:,}</td></tr>"
        for what in ("dropped", "cuts", "repairs")
        for name, count in sorted(report[what].items())
    )
    samples = "".join(f"<h3>Document {s['document']}: {s['tokens']} tokens</h3>{_sample(s)}" for s in report["samples"])
    return (
        f'<!doctype html><meta charset="utf-8"><title>Data {report["key"]}</title><style>{_STYLE}</style>'
        f"<h1>Data {report['key']}</h1><p>{escape(report['tokenizer'])}, template {escape(report['template'])}, rows "
        f"of {report['max_length']:,} tokens. {report['rows_in']:,} rows in, {report['rows_out']:,} used.</p>"
        "<table><tr><th></th><th>documents</th><th>tokens</th><th>supervised</th><th>mean length</th>"
        f"<th>packed rows</th><th>fill</th></tr>{table}</table><table>{counts}</table>"
        f'<p><img src="report.png" alt="Plots of the numbers in report.json"></p><h2>Samples</h2>{samples}\n'
    )


def _sample(sample: Report) -> str:
    parts = (
        f"<b>{escape(part['text'])}</b>" if part["supervised"] else escape(part["text"]) for part in sample["segments"]
    )
    return f"<pre>{''.join(parts)}</pre>"
