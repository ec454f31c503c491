"""The music of a tune: from the lines below `K:` to the bars of its voices."""

import re
from collections.abc import Iterable
from fractions import Fraction

from musician.music.abc.elements import Bar, Element
from musician.music.abc.key import Key, parse_key
from musician.music.abc.lexer import BODY_FIELD, IN_CHORD, TOKEN, code_end, multiple
from musician.music.abc.meter import Meter, parse_meter, parse_unit
from musician.music.abc.tempo import parse_tempo
from musician.music.abc.voice import Head, Voice, octave_shift

_PROPAGATE = re.compile(r"\s*propagate-accidentals\s+(not|octave|pitch)\b")
_GRACES = re.compile(r"\{[^{}|]{0,200}\}")
_JUMPS = {"segno": "segno", "fine": "fine"}
_JUMPS |= dict.fromkeys(("d.c.", "dacapo", "d.c.alfine"), "D.C.") | dict.fromkeys(("d.s.", "d.s.alfine"), "D.S.")
_MOST_VOICES = 256
"""Further names are read as the last voice, so that no text costs unbounded memory for its voices' states."""


class BodyReader:
    """Reads the body of `text`: `elements` and `bars` in the order written, a bar where it ends.

    Each voice keeps what is in force for it; music before any `V:` belongs to the voice without a name, from which
    later voices take key, meter and unit.
    """

    def __init__(self, text: str, key: Key, meter: Meter | None, unit: Fraction):
        self.text = text
        self.bars: list[Bar] = []
        self.elements: list[Element] = []
        self._voice = self._first = Voice("", key, meter, unit)
        self._voices = {"": self._voice}
        self._piece = 0

    def instruct(self, value: str) -> None:
        """Obey the one directive (`I:` or `%%`) that changes pitches: `propagate-accidentals`."""
        found = _PROPAGATE.match(value)
        if found:
            for voice in self._voices.values():
                voice.propagate = found[1]

    def shift(self, value: str) -> None:
        """Obey what moves octaves in the `K:` field of the header."""
        self._voice.octave = octave_shift(value)

    def read(self, lines: Iterable[tuple[int, int]]) -> None:
        """Read lines given by their spans; the last bar may be unclosed."""
        for start, end in lines:
            if self.text.startswith("%", start):
                self.instruct(self.text[start + 2 : min(end, start + 80)])
                continue
            end = code_end(self.text, start, end)
            if BODY_FIELD.match(self.text, start, end):
                self._enforce(start, end)
            else:
                self._scan(start, end)
        for voice in self._voices.values():
            self._close(voice, "", "")

    def _scan(self, start: int, end: int) -> None:
        """Read one line of music."""
        self._piece = start
        for found in TOKEN.finditer(self.text, start, end):
            kind = found.lastgroup
            if kind != "idle":
                assert kind is not None
                getattr(self, f"_{kind}")(found)
        self._leave(end)

    def _leave(self, end: int) -> None:
        """Add what was read since the last bar line to the voice's bar."""
        if self._piece < end:
            self._voice.pieces.append(self.text[self._piece : end])
        self._piece = end

    def _keep(self, kind: str, found: re.Match[str], group: str | int = 0) -> None:
        start, end = found.span(group)
        self.elements.append(Element(kind, start, end, found[group]))

    def _close(self, voice: Voice, barline: str, ending: str) -> None:
        bar = voice.close(barline, ending)
        if bar:
            self.bars.append(bar)

    def _bar(self, found: re.Match[str]) -> None:
        self._keep("bar", found, "bar")
        self._leave(found.start())
        line = found["bar"].replace("[|]", "") or "|"  # an invisible bar line, often beside one that is seen
        self._close(self._voice, line, (found["number"] or "").rstrip(".,-"))
        self._voice.in_grace = False
        self._piece = found.end()

    _number = _bar

    def _ending(self, found: re.Match[str]) -> None:
        self._keep("ending", found, "ending")
        self._leave(found.start())
        if self._voice.begun:
            self._close(self._voice, "", "")
        self._voice.ending = found["ending"].strip('"').rstrip(".,-")
        self._piece = max(self._piece, found.end())

    def _field(self, found: re.Match[str]) -> None:
        self._leave(found.start())
        self._enforce(*found.span("field"))
        self._voice.pieces.append(found[0])
        self._piece = found.end()

    def _enforce(self, start: int, end: int) -> None:
        """Put a body or inline field into force."""
        name, value = self.text[start], self.text[start + 2 : end]
        self.elements.append(Element("field", start, end, self.text[start:end]))
        voice = self._voice
        if name == "K":
            voice.key = parse_key(value, voice.key)
            voice.octave = octave_shift(value) or voice.octave
        elif name == "M":
            voice.meter = parse_meter(value)
        elif name == "Q":
            tempo = parse_tempo(value, voice.meter)
            if tempo:
                voice.change_tempo(tempo)
        elif name == "L":
            voice.unit = parse_unit(value) or voice.unit
        elif name == "P":
            for each in self._voices.values():
                each.part = value.strip()[:20]
        elif name == "V":
            self._enter(value)
        elif name == "I":
            self.instruct(value)

    def _enter(self, value: str) -> None:
        """Go on with the voice a `V:` field names."""
        name = (value.split(maxsplit=1) or [""])[0][:40]
        if name not in self._voices and len(self._voices) < _MOST_VOICES:
            first = self._first
            voice = Voice(name, first.key, first.meter, first.unit, first.propagate)
            voice.part, voice.octave = first.part, first.octave
            self._voices[name] = voice
        self._voice = self._voices.get(name, self._voice)
        self._voice.octave = octave_shift(value) or self._voice.octave

    def _head(self, found: re.Match[str], duration: Fraction, tie: bool) -> Head:
        midi, place, alter = self._voice.pitch(found["accidental"], found["letter"], found["marks"])
        return Head(midi, duration, tie, place, alter, found.start(), found.end("marks"), found.end("length"))

    def _note(self, found: re.Match[str]) -> None:
        voice = self._voice
        voice.see(found.start(), found.end())
        if voice.in_grace:
            voice.add_grace(self._head(found, multiple(found["length"]) * voice.unit, False))
            return
        time = voice.timed(multiple(found["length"]))
        voice.add(time, (self._head(found, time, bool(found["tie"])),))

    def _rest(self, found: re.Match[str]) -> None:
        voice = self._voice
        voice.see(found.start(), found.end())
        time = multiple(found["rest_length"])
        if found["rest"][0] in "ZX":
            time *= voice.meter.duration if voice.meter else 1
        else:
            time = voice.timed(time)
        if not voice.in_grace:
            voice.add(time, (Head(None, time, False, 0, 0, found.start(), found.start() + 1, found.end()),))

    def _chord(self, found: re.Match[str]) -> None:
        """Read a chord: it takes the time of its first note, times the length after the bracket."""
        self._keep("chord", found)
        voice = self._voice
        inner = [each for each in IN_CHORD.finditer(self.text, *found.span("inner")) if each["letter"]]
        if not inner:
            return
        voice.see(found.start(), found.end())
        lengths = [multiple(each["length"]) for each in inner]
        outer = multiple(found["chord_length"])
        if voice.in_grace:
            for each, length in zip(inner, lengths, strict=True):
                voice.add_grace(self._head(each, length * outer * voice.unit, False))
            return
        time = voice.timed(lengths[0] * outer)
        tied = bool(found["chord_tie"])
        voice.add(
            time,
            [
                self._head(
                    each, time if length == lengths[0] else time * length / lengths[0], tied or bool(each["tie"])
                )
                for each, length in zip(inner, lengths, strict=True)
            ],
        )

    def _grace(self, found: re.Match[str]) -> None:
        """Open grace notes where a closing brace follows on the line; else the brace is passed over."""
        whole = _GRACES.match(self.text, found.start(), found.endpos)
        if whole is None:
            self._keep("unread", found)
            return
        self._keep("grace", whole)
        self._voice.in_grace = True

    def _grace_end(self, found: re.Match[str]) -> None:
        if not self._voice.in_grace:
            self._keep("unread", found)
        self._voice.in_grace = False

    def _tuplet(self, found: re.Match[str]) -> None:
        self._keep("tuplet" if self._voice.set_tuplet(found["tuplet"]) else "unread", found, "tuplet")

    def _broken(self, found: re.Match[str]) -> None:
        self._keep("broken" if self._voice.set_broken(found["broken"]) else "unread", found)

    def _separate_tie(self, found: re.Match[str]) -> None:
        self._keep("separate_tie", found)
        self._voice.set_tie()

    def _overlay(self, found: re.Match[str]) -> None:
        self._keep("overlay", found)
        self._voice.overlay()

    def _quoted(self, found: re.Match[str]) -> None:
        self._keep("quoted", found, "quoted")

    def _decoration(self, found: re.Match[str]) -> None:
        self._keep("decoration", found)
        jump = _JUMPS.get(found[0].strip("!+").lower())
        if jump:
            self._voice.jumps.append(jump)

    def _unread(self, found: re.Match[str]) -> None:
        self._keep("unread", found)
