"""Tokenise once, train often: `python -m musician.preprocess data=tunes model=smollm2_135m show=5`."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from musician.cli.entry import command


@command("preprocess")
def main(cfg: DictConfig) -> None:
    """Prepare a data set and print its directory, which `data.path=` of musician.train takes."""
    from musician.data.quality.report_page import write_report
    from musician.data.store.prepared import read_meta

    renderer = instantiate(cfg.model.renderer, tokenizer=instantiate(cfg.model.tokenizer))
    datamodule = instantiate(cfg.data, renderer=renderer)
    if cfg.show:
        show(datamodule, cfg.show)
    datamodule.prepare_data()
    summarize(read_meta(Path(datamodule.path)))
    if cfg.report:
        print(f"report: {write_report(Path(datamodule.path), renderer)}", file=sys.stderr)
    print(datamodule.path)


def show(datamodule: Any, count: int) -> None:
    """Print the first rendered rows; what is supervised is green, the rest dim."""
    from rich.console import Console
    from rich.text import Text

    from musician.data.store.prepare import read_rows

    console = Console(highlight=False, stderr=True)
    for found, row in islice(read_rows(datamodule.source, datamodule.recipe), count):
        for item in datamodule.renderer.render(row, datamodule.recipe.max_length):
            text = Text()
            for supervised, part in datamodule.renderer.read_parts(item.input_ids, item.supervised):
                text.append(part, style="green" if supervised else "dim")
            cuts = "".join(f", cut: {cut}" for cut in item.cuts)
            counts = f"{len(item.input_ids)} tokens, {item.supervised.sum()} supervised"
            console.print(f"-- {found.where}: {counts}{cuts}", soft_wrap=True)
            console.print(text, soft_wrap=True)


def summarize(meta: dict[str, Any]) -> None:
    """Print what went in, what came out and what was dropped or cut, and why."""
    splits = ", ".join(
        f"{name} {split['items']} items / {split['tokens']:,} tokens ({split['supervised_tokens']:,} supervised)"
        for name, split in sorted(meta["splits"].items())
    )
    lost = ", ".join(f"{count} {reason}" for reason, count in sorted(meta["dropped"].items())) or "none"
    cut = ", ".join(f"{count} {what}" for what, count in sorted(meta["cuts"].items())) or "none"
    repaired = ", ".join(f"{count} {what}" for what, count in sorted(meta.get("repairs", {}).items())) or "none"
    print(
        f"rows: {meta['rows_in']} in, {meta['rows_out']} used, dropped: {lost}; cut: {cut}; repaired: {repaired}\n"
        f"{splits}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
