"""Texts at which an answer ends: what may be the beginning of one waits until it is known."""

from __future__ import annotations

from collections.abc import Sequence


class StopText:
    """Passes a text on up to the first of the stops that is whole, which is left out.

    Args:
        stops: texts that end it, none of them empty.

    Attributes:
        ended: a stop has come; nothing more is passed on.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.ended = False
        self._stops = stops
        self._held = ""

    def add(self, piece: str) -> str:
        """What of the text so far can be passed on now."""
        if self.ended:
            return ""
        text = self._held + piece
        # The first to be whole: so it does not matter how the text is cut into pieces.
        found = ((at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0)
        _, place = min(found, default=(0, -1))
        self.ended = place >= 0
        cut = place if self.ended else len(text) - self._doubtful(text)
        self._held = "" if self.ended else text[cut:]
        return text[:cut]

    def rest(self) -> str:
        """What was held back, once nothing follows."""
        held, self._held = self._held, ""
        return held

    def _doubtful(self, text: str) -> int:
        """Characters at the end of a text that may begin a stop."""
        longest = max(map(len, self._stops), default=0)
        sizes = range(min(longest - 1, len(text)), 0, -1)
        return next((size for size in sizes if any(stop.startswith(text[-size:]) for stop in self._stops)), 0)
