"""Key signatures: what a `K:` field does to the seven letters."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from musician.music.abc.pitch import ALTERATIONS, SHARP_ORDER, named_pitch

MODES = {"ion": 0, "maj": 0, "mix": -1, "dor": -2, "aeo": -3, "min": -3, "phr": -4, "loc": -5, "lyd": 1}
MODE_NAMES = {
    "ion": "major",
    "maj": "major",
    "mix": "mixolydian",
    "dor": "dorian",
    "aeo": "minor",
    "min": "minor",
    "phr": "phrygian",
    "loc": "locrian",
    "lyd": "lydian",
}
KEY_TONIC = re.compile(r"\s*(?P<tonic>[A-G][#b]?)\s*(?P<mode>[A-Za-z]*)", re.ASCII)
"""How the value of a `K:` field begins when it names a key."""
_ACCIDENTAL = re.compile(r"(\^\^?|__?|=)([A-Ga-g])")
_LONGEST = 200


@dataclass(frozen=True)
class Key:
    """A key signature.

    `tonic` is a letter with an optional `#` or `b`, or empty when the field names none; `mode` one of `MODE_NAMES`'
    values, or empty; `sharps` the place on the circle of fifths (flats are negative); `alterations` maps each altered
    letter to its semitones, explicit accidentals of the field included.
    """

    tonic: str = "C"
    mode: str = "major"
    sharps: int = 0
    alterations: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The key in words, as `G major`, or `no key`."""
        return f"{self.tonic} {self.mode}" if self.tonic else "no key"

    @property
    def abc(self) -> str:
        """The value of a `K:` field that names the key: `G`, `Em`, `Ador`."""
        return self.tonic + {"major": "", "minor": "m"}.get(self.mode, self.mode[:3])

    @property
    def plain(self) -> bool:
        """Whether tonic and mode alone give the signature: no bagpipe key, no explicit accidentals."""
        return bool(self.tonic) and self.alterations == signature(self.sharps)


def signature(sharps: int) -> dict[str, int]:
    """Return the altered letters, with their semitones, of the signature with so many sharps (negative: flats)."""
    each = {letter: (sharps - place + 6) // 7 for place, letter in enumerate(SHARP_ORDER)}
    return {letter: semitones for letter, semitones in each.items() if semitones}


def named_key(tonic: str, mode: str = "maj") -> Key:
    """Return the key on `tonic` in one of `MODES`."""
    sharps = named_pitch(tonic).fifths + MODES[mode]
    return Key(tonic, MODE_NAMES[mode], sharps, signature(sharps))


def parse_key(value: str, current: Key | None = None) -> Key:
    """Read the value of a `K:` field; one that names neither key nor accidentals (`clef=bass`) keeps `current`.

    Never raises. An unknown mode reads as major, since many hands add remarks there. `HP` and `Hp` are the bagpipe
    scale of F and C sharp; `none` has no signature.
    """
    value = value.partition("%")[0].strip()[:_LONGEST]
    key = _base(value)
    explicit = {
        found[2].upper(): ALTERATIONS[found[1]] for word in value.split() if (found := _ACCIDENTAL.fullmatch(word))
    }
    if key is None and not explicit:
        return current or Key()
    key = key or Key("", "", 0, {})
    if not explicit:
        return key
    altered = {letter: semitones for letter, semitones in {**key.alterations, **explicit}.items() if semitones}
    return Key(key.tonic, key.mode, key.sharps, altered)


def _base(value: str) -> Key | None:
    """Return the key the field names before any explicit accidentals, or None."""
    if value[:2] in ("HP", "Hp"):
        return Key("", "", 2, signature(2))
    if value[:4].lower() == "none":
        return Key("", "", 0, {})
    found = KEY_TONIC.match(value)
    if found is None:
        return None
    tonic, mode = found["tonic"], _mode(found["mode"])
    if "exp" in value.split() or found["mode"] == "exp":
        return Key(tonic, "", 0, {})
    return named_key(tonic, mode)


def _mode(word: str) -> str:
    """Return the key of `MODES` a mode word stands for: `m` is minor, `M`, nothing and unknown words major."""
    if word == "m":
        return "min"
    return word[:3].lower() if word[:3].lower() in MODES else "maj"
