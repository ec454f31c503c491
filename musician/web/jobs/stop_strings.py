"""Strings at which an answer ends; text that may be the beginning of one is held back until it is known."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Cuts a streamed text before the stop string that is complete first.

    Args:
        strings: none of them empty.

    Attributes:
        found: a stop string has come; nothing more is passed on.
    """

    def __init__(self, strings: Sequence[str] = ()) -> None:
        self.found = False
        self._strings = strings
        self._held = ""

    def add(self, piece: str) -> str:
        """Return what of the text so far can be passed on now."""
        if self.found:
            return ""
        text = self._held + piece
        # The first to be complete: so it does not matter how the text is cut into pieces.
        ends = ((at + len(string), at) for string in self._strings if (at := text.find(string)) >= 0)
        _, start = min(ends, default=(0, -1))
        self.found = start >= 0
        cut = start if self.found else len(text) - self._undecided(text)
        self._held = "" if self.found else text[cut:]
        return text[:cut]

    def rest(self) -> str:
        """Return what was held back, once nothing follows."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Return how many characters at the end of a text may begin a stop string."""
        longest = max(map(len, self._strings), default=0)
        sizes = range(min(longest - 1, len(text)), 0, -1)
        return next((size for size in sizes if any(string.startswith(text[-size:]) for string in self._strings)), 0)
