"""MusicXML by music21, and pictures of it, in a process that may take so much time and memory and no more."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from musician.music.abc.reader import parse_tune
from musician.music.sound.sounding import to_musicxml
from musician.runtime.errors import UserError

_WALL_SECONDS = 60
_MEMORY = 2 * 2**30
_FILE = 64 * 2**20
_PIXELS = 1000
#: Exit status of a process that wrote one line for the user.
_REFUSED = 3
#: What the process needs to find Python's packages; a password is not among it.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "HOME", "LANG", "VIRTUAL_ENV")


def engrave(text: str, cpu_seconds: int = 20, kind: Literal["musicxml", "png"] = "musicxml") -> bytes:
    """Return a tune as MusicXML, or as a picture of its first page.

    Args:
        text: the tune.
        cpu_seconds: how long music21 may work on it.
        kind: `png` is drawn by verovio, which reads the MusicXML (of ABC it reads no second voice), and resvg.

    Raises:
        UserError: the tune has no note, music21 (verovio, resvg) is not installed, or it failed or took too long.
    """
    command = [
        sys.executable,
        "-m",
        "musician.music.sound.engrave",
        str(cpu_seconds),
        *([kind] if kind == "png" else []),
    ]
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    with TemporaryDirectory() as folder:
        # Only the package's parent: what lies in the server's own directory is not to be imported.
        kept["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[3]), kept.get("PYTHONPATH", "")])
        try:
            done = subprocess.run(
                command, input=text.encode(), env=kept, cwd=folder, capture_output=True, timeout=_WALL_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise UserError("music21 took too long over this tune") from None
    if done.returncode == _REFUSED:
        raise UserError(done.stderr.decode().strip().splitlines()[-1])
    if done.returncode != 0:
        raise UserError(f"music21 cannot write this tune (it failed, or took over {cpu_seconds} CPU-seconds)")
    return done.stdout


def _main(cpu_seconds: int, kind: str = "musicxml") -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    tune = parse_tune(sys.stdin.buffer.read().decode())
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tune.musicxml"
        try:
            to_musicxml(tune, path)
        except UserError as error:
            print(error, file=sys.stderr)
            sys.exit(_REFUSED)
        sys.stdout.buffer.write(path.read_bytes() if kind == "musicxml" else _drawn(path.read_text()))


def _drawn(musicxml: str) -> bytes:
    """A score as PNG; what its libraries print goes to stderr."""
    import resvg_py
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    engraver = verovio.toolkit()
    engraver.setOptions({"adjustPageHeight": True, "footer": "none", "header": "none", "svgViewBox": True})
    engraver.loadData(musicxml)
    return bytes(resvg_py.svg_to_bytes(svg_string=engraver.renderToSVG(1), background="white", width=_PIXELS))


if __name__ == "__main__":
    _main(int(sys.argv[1]), *sys.argv[2:])
