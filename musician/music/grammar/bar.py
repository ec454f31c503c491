"""Inside a bar: notes, rests, chords, grace notes, chord symbols, tuplets and broken rhythm, whose sum is the bar."""

from __future__ import annotations

from functools import lru_cache

from musician.music.abc.pitch import LETTERS
from musician.music.grammar.state import UNTIED, Mode, State
from musician.music.grammar.vocabulary import ACCIDENTALS, CHORD_NAMES, LENGTHS, PITCHES, REACH, TICKS, TUPLETS

_GRACE_NOTES = 3
_CHORD_NOTES = 4
_LIGHT = "uv"
_DECORATIONS = ".~T" + _LIGHT
"""abc2midi plays a note with one of the first as several, which takes neither grace notes nor a tie nor a broken
rhythm."""


def music(state: State, character: str) -> State | None:
    """The state after a character that begins something in a bar that is not full."""
    if character in "><":
        return _broken(state, character)
    if character == ")":
        return state._replace(slur=0, note="", last=0) if may_close_slur(state) else None
    if character == " ":
        if not state.gap or (state.slur and not state.left):  # at the bar's end the slur closes at its note
            return None
        return state._replace(gap=False, last=0, note="")
    if not state.left:
        return None
    state = state._replace(last=0, note="")
    if PITCHES.begins(character):
        return _pitch_begun(state.to(Mode.PITCH), character)
    if state.tied:
        return _before_tied(state, character)
    if character == "[":
        return state.to(Mode.CHORD, amount=0) if state.prefix < 3 else None
    if character == "z":
        return state.to(Mode.LENGTH, rest=True) if state.prefix < 2 and not state.slur else None
    return None if state.need or state.tuplet else _before_note(state, character)


def _before_tied(state: State, character: str) -> State | None:
    """What may stand before a note that a tie holds: a chord symbol, the opening of a tuplet."""
    return None if state.need or state.tuplet or character not in '"(' else _before_note(state, character)


def _before_note(state: State, character: str) -> State | None:
    """What may stand before a note, in this order: chord symbol, grace notes, decoration; or a tuplet or slur."""
    if character == '"' and state.prefix < 1:
        return state.to(Mode.CHORD_NAME, word=character)
    if character == "(" and (_tuplets(state, character) or _may_open_slur(state)):
        return state.to(Mode.TUPLET, word=character)
    if character == "{" and state.prefix < 2:
        return state.to(Mode.GRACE, amount=0)
    if character in (_DECORATIONS if state.prefix < 2 else _LIGHT) and state.prefix < 3:
        return state.to(Mode.MUSIC, prefix=3 if character in _LIGHT else 4, gap=False, newline=False)
    return None


def _may_open_slur(state: State) -> bool:
    # Two notes at least, both in this bar, so that a slur can always be closed.
    return not state.slur and not state.tied and state.left > 1 and state.prefix < 3


def may_close_slur(state: State) -> bool:
    """Whether the closing sign of a slur may stand here: right after a note, which is not its first."""
    return state.slur == 3 and bool(state.note) and not state.tuplet


def tied(state: State) -> State | None:
    """After the sign of a tie; None where none may stand.

    The pitch must follow as it was written; in the same bar an accidental need not be repeated.
    """
    if state.note in ("", UNTIED):
        return None
    bare = state.note.lstrip(ACCIDENTALS)
    ways = (state.note,) if bare == state.note else (state.note, bare)
    return state._replace(tied=ways, note="", last=0)


def _broken(state: State, character: str) -> State | None:
    # Both notes together last twice the first one's written length, so a bar's sum needs no halves of ticks.
    if state.last < 2 or state.left < state.last:
        return None
    return state.to(Mode.BROKEN, word=character, need=state.last, note="")


def broken(state: State, character: str) -> State | None:
    """After `>` or `<`: the same once more, or the second note."""
    if character == state.word and state.need >= TICKS:
        return state._replace(word=2 * character)
    return None if character in " <>" else music(state.to(Mode.MUSIC), character)


def chord_name(state: State, character: str) -> State | None:
    """Inside a chord symbol in quotes."""
    word = state.word + character
    if word in CHORD_NAMES:
        return state.to(Mode.MUSIC, prefix=1, gap=False, newline=False)
    return state._replace(word=word) if CHORD_NAMES.begins(word) else None


def notes(state: State, character: str) -> State | None:
    """Inside the braces of grace notes or the brackets of a chord."""
    altered = state.altered or character in ACCIDENTALS
    if PITCHES.begins(state.word + character):
        return state._replace(word=state.word + character, amount=state.amount or 1, altered=altered)
    if state.word not in PITCHES:
        return None
    grace = state.mode is Mode.GRACE
    if PITCHES.begins(character):
        most = _GRACE_NOTES if grace else _CHORD_NOTES
        after = state._replace(word=character, amount=state.amount + 1, altered=altered)
        return after if state.amount < most else None
    if grace and character == "}":
        return state.to(Mode.MUSIC, prefix=2, gap=False, newline=False, amount=0)
    if not grace and character == "]" and state.amount > 1:
        return state.to(Mode.LENGTH, amount=0, rest=False, note=UNTIED)
    return None


def pitch(state: State, character: str) -> State | None:
    """Inside the accidental, letter and octave of a note."""
    begun = _pitch_begun(state, character)
    if begun or not _is_pitch(state) or not LENGTHS.begins(character):
        return begun
    return length(_sounding(state), character)


def _pitch_begun(state: State, character: str) -> State | None:
    """One more character of a pitch, which must be the one that a tie holds."""
    word = state.word + character
    if not PITCHES.begins(word) or (state.tied and not any(way.startswith(word) for way in state.tied)):
        return None
    return state._replace(word=word, altered=state.altered or character in ACCIDENTALS)


def _is_pitch(state: State) -> bool:
    return state.word in (state.tied or PITCHES)


@lru_cache(maxsize=4096)
def _sounding(state: State) -> State:
    """A pitch is complete, its length follows."""
    return state.to(Mode.LENGTH, rest=False, note=state.word, tied=())


def length(state: State, character: str) -> State | None:
    """The digits and strokes of a note's length; None also for what ends it, which `ended` takes."""
    word = state.word + character
    if LENGTHS.begins(word) and any(fits(state, ticks) for ticks in REACH[word]):
        return state._replace(word=word)
    return None


def fits(state: State, ticks: int) -> bool:
    """Whether the note being written may have this length."""
    if state.tuplet:
        return state.tuplet.fits(ticks, state.left)
    if state.slur == 1 and ticks == state.left:
        return False
    return ticks == state.need if state.need else ticks <= state.left


@lru_cache(maxsize=4096)  # asked again for every character that may follow
def ended(state: State) -> State | None:
    """The state in which the note that was being written stands; None where it cannot end here."""
    if state.mode is Mode.PITCH:
        state = _sounding(state) if _is_pitch(state) else state
    ticks = LENGTHS.meanings.get(state.word)
    if state.mode is not Mode.LENGTH or ticks is None or not fits(state, ticks):
        return None
    played = state.prefix == 4
    after = state.to(
        Mode.MUSIC,
        prefix=0,
        gap=True,
        newline=state.barred and not state.voice,
        rest=False,
        last=0,
        need=0,
        note=UNTIED if played else state.note,
        slur=min(state.slur + 1, 3) if state.slur else 0,
    )
    if state.tuplet is None:
        last = 0 if state.rest or state.need or played else ticks
        return after._replace(left=state.left - ticks, last=last)
    tuplet = state.tuplet._replace(notes=state.tuplet.notes - 1, written=state.tuplet.written + ticks)
    if tuplet.notes:
        return after._replace(tuplet=tuplet, gap=False, newline=False)
    return after._replace(tuplet=None, left=state.left - tuplet.written * tuplet.q // tuplet.p)


def tuplet(state: State, character: str) -> State | None:
    """The numbers that open a tuplet, or the first note of it or of a slur."""
    if _tuplets(state, state.word + character):
        return state._replace(word=state.word + character)
    if state.word == "(":
        opens = _may_open_slur(state) and character not in " <>"
        return music(state.to(Mode.MUSIC, slur=1, prefix=max(state.prefix, 1)), character) if opens else None
    opened = TUPLETS[state.odd].meanings.get(state.word)
    if opened is None or not opened.possible(state.left):
        return None
    return None if character in " <>" else music(state.to(Mode.MUSIC, tuplet=opened, prefix=0), character)


def _tuplets(state: State, prefix: str) -> list[str]:
    """Openings that begin so and have room in the bar, the shortest first."""
    words = TUPLETS[state.odd]
    if state.prefix > 2:
        return []
    return [word for word in words.extensions.get(prefix, ()) if words.meanings[word].possible(state.left)]


def closing(state: State) -> str | None:
    """The next character on a short way to the end of the note being written; None where it may end here."""
    if state.mode in (Mode.GRACE, Mode.CHORD):
        end, enough = ("}", 1) if state.mode is Mode.GRACE else ("]", 2)
        return end if state.word in PITCHES and state.amount >= enough else "A"
    if state.mode is Mode.CHORD_NAME:
        return CHORD_NAMES.shortest(state.word)[len(state.word)]
    if state.mode is Mode.PITCH and not _is_pitch(state):
        return next(way for way in (*state.tied, state.word + "A") if way.startswith(state.word))[len(state.word)]
    if state.mode is Mode.TUPLET:
        return (next(iter(_tuplets(state, state.word)), state.word) + closing_note(state))[len(state.word)]
    if state.mode in (Mode.PITCH, Mode.LENGTH):
        return _closing_length(state.word if state.mode is Mode.LENGTH else "", state)
    if may_close_slur(state):
        return ")"
    return closing_note(state)


def closing_note(state: State) -> str:
    """The first character of the note that a short way to the end writes: of a tie, else of a cadence.

    The last bar has the key's tonic; of those before it, counted back, every other has the fifth.
    """
    if state.tied:
        return state.tied[0][0]
    fifth = LETTERS[(LETTERS.index(state.tonic) + 4) % 7]
    return fifth if (state.bars or 0) % 2 else state.tonic


def _closing_length(written: str, state: State) -> str | None:
    """Fill the bar if one length can, else take the most whole units, else the most."""
    choices = [word for word in LENGTHS.extensions[written] if fits(state, LENGTHS.meanings[word])]
    goal = state.left - state.spare if state.left > state.spare else state.left

    def rank(word: str) -> tuple[bool, bool, bool, int]:
        ticks = LENGTHS.meanings[word]
        return ticks == goal, ticks <= goal, ticks % TICKS == 0, ticks

    best = choices[0] if state.tuplet or state.need else max(choices, key=rank)
    return best[len(written)] if len(best) > len(written) else None
