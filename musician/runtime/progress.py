"""Progress of long loops: a live bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")

#: Seconds between plain lines.
PLAIN_INTERVAL = 15.0


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield from `items` and show how far along it is.

    Args:
        items: what to iterate over.
        description: a few words on what is done, such as `tokenising rows`.
        total: how many there are; None uses `len` where there is one.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as live

        yield from live(items, description, total=total, console=Console(stderr=True), transient=True)
    else:
        yield from _plain(items, description, total)


def _plain(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    started = reported = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - reported >= PLAIN_INTERVAL:
            reported = now
            rate = count / (now - started)
            left = f", {(total - count) / rate:.0f} s left" if total else ""
            done = f"{count}/{total}" if total else str(count)
            print(f"{description}: {done} ({rate:.1f}/s{left})", file=sys.stderr, flush=True)


def show_line(text: str, keep: bool = False) -> None:
    """Redraw the terminal's line on stderr, or print a plain one where there is no terminal.

    Args:
        text: what to show.
        keep: leave it standing on a terminal too.
    """
    live = sys.stderr.isatty() and not keep
    if keep:
        clear_line()
    print(f"\r\033[K{text}" if live else text, end="" if live else "\n", file=sys.stderr, flush=True)


def clear_line() -> None:
    """Remove what `show_line` left on a terminal."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


class ProgressLine:
    """Progress that is pushed, not pulled: `update(done, total)` shows a line now and then.

    Args:
        description: a few words on what is done.
        enabled: False says nothing.
    """

    def __init__(self, description: str, enabled: bool = True) -> None:
        self.description = description
        self.enabled = enabled
        self._reported = time.monotonic()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            clear_line()

    def update(self, done: int, total: int) -> None:
        """Say how far along it is."""
        now = time.monotonic()
        if self.enabled and now - self._reported >= (0.2 if sys.stderr.isatty() else PLAIN_INTERVAL):
            self._reported = now
            show_line(f"{self.description}: {done}/{total}")
