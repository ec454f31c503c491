"""Two readers of ABC that share nothing with the project: abc2midi and music21. Tests that need them skip without."""

import re
import shutil
import subprocess
import warnings

import pytest


def abc2midi(tune, folder, *options):
    """Write `tune.mid` into the folder and return what abc2midi (Debian: abcmidi) says; its exit status is void."""
    program = shutil.which("abc2midi")
    if program is None:
        pytest.skip("no abc2midi; apt install abcmidi")
    (folder / "tune.abc").write_text(tune + "\n")
    command = [program, "tune.abc", "-o", "tune.mid", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.splitlines()


def abc2midi_complaints(tune, folder):
    """Errors and wrong bars that abc2midi finds."""
    said = abc2midi(tune, folder)
    assert (folder / "tune.mid").stat().st_size > 40
    (folder / "tune.mid").unlink()
    return [line for line in said if line.startswith("Error") or "time units" in line]


def abc2midi_notes(tune, folder):
    """Onset in quarters, pitch and length of the notes that abc2midi plays, without graces, chords and fermatas."""
    abc2midi(tune, folder, "-NGRA", "-NFNP", "-NGUI", "-NFER", "-quiet", "-silent")
    return heard(folder / "tune.mid")


def heard(path):
    """Onset in quarters, pitch and length of every note of a MIDI file."""
    import mido

    file = mido.MidiFile(path)
    found = []
    for track in file.tracks:
        now, on = 0, {}
        for event in track:
            now += event.time
            if event.type == "note_on" and event.velocity:
                on.setdefault(event.note, []).append(now)
            elif event.type in ("note_on", "note_off") and on.get(event.note):
                start = on[event.note].pop(0)
                found.append((start / file.ticks_per_beat, event.note, (now - start) / file.ticks_per_beat))
    return sorted(found)


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


def music21_heard(tune):
    """Onset in quarters, pitch and length of the notes that music21 reads, ties joined."""
    from music21 import converter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        notes = converter.parse(tune, format="abc").stripTies().flatten().notes
        return [(each.offset, pitch.midi, each.quarterLength) for each in notes for pitch in each.pitches]
