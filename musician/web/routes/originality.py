"""How near a tune is to the nearest of the tunes that a model may have seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musician.data.sources.corpus import CorpusTune, iter_tunes
from musician.music.abc.reader import parse_tune
from musician.music.analysis.originality import MelodyIndex

MUSIC21 = "music21"


class KnownTunes:
    """Tunes to compare with.

    Args:
        tunes: with the files they come from.
    """

    def __init__(self, tunes: Sequence[CorpusTune]) -> None:
        self._index = MelodyIndex(tune.text for tune in tunes)
        self._tunes = tunes

    def __len__(self) -> int:
        return len(self._index)

    def nearest(self, text: str) -> dict[str, Any] | None:
        """Return title, source, notes in common and their share of the text's first tune; None where none is near.

        What is in common is the longest run of notes, in any key (`musician.music.analysis.originality`).
        """
        found = self._index.compare(text)
        if found.nearest is None:
            return None
        tune = self._tunes[found.nearest]
        return {
            "title": parse_tune(tune.text).field("T"),
            "source": tune.file,
            "run": found.run,
            "share": round(found.share, 4),
            "windows": found.windows,
            "copied": found.copied,
        }


def known_tunes(where: str) -> KnownTunes:
    """Read the tunes of a folder of `.abc` files, or those that music21 installs (`music21`).

    Raises:
        UserError: no tune there.
    """
    return KnownTunes(list(iter_tunes() if where == MUSIC21 else iter_tunes(root=Path(where))))
