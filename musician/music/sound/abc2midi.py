"""A second opinion on a tune: abc2midi (Debian: `abcmidi`), where it is installed, kept on a short lead.

Its exit status says nothing and its complaints go to stdout (measured with 4.84); bombs and file inclusion are known,
so directives are taken out, and time, memory and the written file are limited.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_DIRECTIVE = re.compile(r"(?m)^(?:%%|I:).*\n?|\[I:[^\]\n]*\]")
_LONGEST = 100_000
_SECONDS = 5
_MEMORY = 512 * 2**20
_FILE = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Report:
    """What abc2midi makes of a tune: lines of errors, of bars that do not add up, and whether notes sound."""

    errors: tuple[str, ...]
    bar_warnings: tuple[str, ...]
    notes: bool


class Abc2midi:
    """The installed program.

    Args:
        program: its path.
    """

    def __init__(self, program: str) -> None:
        self.program = program

    @classmethod
    def installed(cls) -> Abc2midi | None:
        """Return the one on the path; None where there is none."""
        program = shutil.which("abc2midi")
        return cls(program) if program else None

    def report(self, abc: str) -> Report:
        """Read a tune; what takes too long, too much memory or cannot be run to its end is an error."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "tune.abc").write_text(_DIRECTIVE.sub("", abc)[:_LONGEST] + "\n")
            try:
                done = subprocess.run(
                    [self.program, "tune.abc", "-o", "tune.mid"],
                    cwd=folder,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=_SECONDS,
                    check=False,
                    preexec_fn=_limit,
                )
            except subprocess.TimeoutExpired:
                return Report((f"no end within {_SECONDS} s",), (), False)
            lines = done.stdout.splitlines()
            errors = [line for line in lines if line.startswith("Error")]
            if done.returncode < 0:
                errors.append(f"ended by signal {-done.returncode}")
            midi = Path(folder, "tune.mid")
            sounds = midi.is_file() and _has_note(midi.read_bytes())
        return Report(tuple(errors), tuple(line for line in lines if "time units" in line), sounds)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))


def _has_note(midi: bytes) -> bool:
    """Whether a MIDI file holds a note-on; abc2midi writes no running status."""
    return re.search(rb"[\x90-\x9f][\x00-\x7f][\x01-\x7f]", midi) is not None
