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
    say(read_meta(Path(datamodule.path)))
    if cfg.report:
        print(f"report: {write_report(Path(datamodule.path), renderer)}", file=sys.stderr)
    print(datamodule.path)


def show(datamodule: Any, count: int) -> None:
    """Print the first rendered rows; what is supervised is green, the rest dim."""
    from rich.console import Console
    from rich.text import Text

    from musician.data.store.prepare import read_rows

    console = Console(highlight=False, stderr=True)
    tokenizer = datamodule.renderer.tokenizer
    for found, row in islice(read_rows(datamodule.source, datamodule.recipe), count):
        for item in datamodule.renderer.render(row, datamodule.recipe.max_length):
            text, ids, supervised = Text(), item.input_ids.tolist(), item.supervised.tolist()
            start = 0
            for end in range(1, len(ids) + 1):
                if end == len(ids) or supervised[end] != supervised[start]:
                    piece = tokenizer.decode(ids[start:end], skip_special_tokens=False)
                    text.append(piece, style="green" if supervised[start] else "dim")
                    start = end
            cuts = "".join(f", cut: {cut}" for cut in item.cuts)
            console.print(f"-- {found.where}: {len(ids)} tokens, {sum(supervised)} supervised{cuts}", soft_wrap=True)
            console.print(text, soft_wrap=True)


def say(meta: dict[str, Any]) -> None:
    """Say what went in, what came out and what was dropped or cut, and why."""
    splits = ", ".join(
        f"{name} {split['items']} items / {split['tokens']:,} tokens ({split['supervised_tokens']:,} supervised)"
        for name, split in sorted(meta["splits"].items())
    )
    lost = ", ".join(f"{count} {reason}" for reason, count in sorted(meta["dropped"].items())) or "none"
    cut = ", ".join(f"{count} {what}" for what, count in sorted(meta["cuts"].items())) or "none"
    mended = ", ".join(f"{count} {what}" for what, count in sorted(meta.get("repairs", {}).items())) or "none"
    print(
        f"rows: {meta['rows_in']} in, {meta['rows_out']} used, dropped: {lost}; cut: {cut}; mended: {mended}\n{splits}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
