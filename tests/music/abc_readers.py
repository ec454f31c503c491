"""Two readers of ABC that share nothing with the project: abc2midi and music21."""

import re
import shutil
import subprocess
import warnings

import pytest


def abc2midi_complaints(tune, folder):
    """Errors and wrong bars that abc2midi (Debian: abcmidi) finds; its exit status says nothing."""
    program = shutil.which("abc2midi")
    if program is None:
        pytest.skip("no abc2midi; apt install abcmidi")
    (folder / "tune.abc").write_text(tune + "\n")
    done = subprocess.run(
        [program, "tune.abc", "-o", "tune.mid"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert (folder / "tune.mid").stat().st_size > 40
    (folder / "tune.mid").unlink()
    return [line for line in done.stdout.splitlines() if line.startswith("Error") or "time units" in line]


def music21_notes(tune):
    """Number of notes and chords that music21 reads."""
    from music21 import converter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return len(converter.parse(tune, format="abc").flatten().notes)


def written_bars(tune):
    """Bars of the first voice, counted by their bar lines alone."""
    body = tune[re.search(r"^K:.*\n", tune, re.MULTILINE).end() :]
    if "V:1" in body:
        body = "".join(re.findall(r"V:1\n(.*\n)", body))
    bars = re.split(r"::|:\|2|:\||\|\]|\|\||\|1|\|:|\|", re.sub(r'"[^"]*"', "", body))
    return sum(bool(bar.strip()) for bar in bars)
