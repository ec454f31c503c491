"""Tunes as something to look at and listen to: a score as PNG and a WAV beside each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from musician.music.abc.extract import extract_tunes
from musician.music.sound.engrave import engrave
from musician.music.sound.limits import TuneLimits
from musician.music.sound.render import wav
from musician.music.sound.timbre import PIANO
from musician.runtime.errors import UserError

#: What draws a score; the sound needs nothing but numpy.
_ENGRAVERS = ("music21", "verovio", "resvg_py")


class Illustrator:
    """Writes `NNN.png` and `NNN.wav` for the first tune of each text; what cannot be drawn or played is left out.

    Args:
        most: of so many texts; a score takes seconds.
        limits: on the length of a tune.
    """

    def __init__(self, most: int = 10, limits: TuneLimits | None = None) -> None:
        self.most = most
        self._limits = limits or TuneLimits()

    def __call__(self, texts: Sequence[str], folder: Path) -> None:
        """Write the files of the first `most` texts, numbered from 0."""
        missing = [name for name in _ENGRAVERS if find_spec(name) is None]
        if missing and self.most:
            message = "tunes get no score: %s not installed (pip install 'musician[music,engraving]')"
            logging.getLogger(__name__).warning(message, ", ".join(missing))
        for number, text in enumerate(texts[: self.most]):
            for tune in extract_tunes(text)[:1]:
                folder.mkdir(parents=True, exist_ok=True)
                if not missing:
                    _keep(folder / f"{number:03}.png", partial(engrave, tune.abc, kind="png"))
                _keep(folder / f"{number:03}.wav", partial(wav, tune.abc, 0, None, PIANO, self._limits))


def _keep(file: Path, make: Callable[[], bytes]) -> None:
    try:
        file.write_bytes(make())
    except UserError as error:
        logging.getLogger(__name__).info("no %s: %s", file.name, error)
