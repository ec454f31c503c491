"""Tunes that a model may have seen in training, to compare a generated tune with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from musician.data.sources.corpus import iter_tunes
from musician.music.abc.reader import parse_tune
from musician.music.analysis.originality import MelodyIndex


class KnownTunes:
    """The tunes of a folder of `.abc` files, or those that music21 installs.

    Args:
        path: of the folder, or `music21`.

    Raises:
        UserError: no tune there.
    """

    def __init__(self, path: str) -> None:
        self._tunes = list(iter_tunes() if path == "music21" else iter_tunes(root=Path(path)))
        self._index = MelodyIndex(tune.text for tune in self._tunes)

    def __len__(self) -> int:
        return len(self._tunes)

    def nearest(self, text: str) -> dict[str, Any] | None:
        """Return what the first tune of a text shares with the nearest known one; None where none is near.

        `run` is the number of notes of the longest shared run in any key, `share` its part of the tune, `copied` the
        number of `windows` of eight bars that a known tune contains.
        """
        found = self._index.compare(text)
        if found.nearest is None:
            return None
        tune = self._tunes[found.nearest]
        return {
            "title": parse_tune(tune.text).field("T"),
            "source": tune.file,
            "share": round(found.share, 4),
            **{name: getattr(found, name) for name in ("run", "windows", "copied")},
        }
