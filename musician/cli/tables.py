"""Tables on the console, alike in every command."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Columns of a terminal with room for everything; where there is no terminal, this many are used.
ROOMY = 130


def print_table(
    title: str | None,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    left: Collection[str] = (),
    spared: Collection[str] = (),
    bold: Collection[int] = (),
) -> None:
    """Print a table; text is shown as it is, without markup.

    Args:
        title: above it.
        columns: headings.
        rows: a cell for each column.
        left: columns of words, which are aligned to the left and folded; the others are numbers.
        spared: columns that are left out in a narrow terminal.
        bold: numbers of the rows that stand out.
    """
    console = Console(highlight=False, width=None if Console().is_terminal else 160)
    table = Table(title=title, box=box.SIMPLE_HEAD)
    shown = [place for place, name in enumerate(columns) if console.width >= ROOMY or name not in spared]
    for name in (columns[place] for place in shown):
        words = name in left
        table.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for number, row in enumerate(rows):
        cells = [Text(str(row[place])) for place in shown]
        table.add_row(*cells, style="bold" if number in bold else None)
    console.print(table)
