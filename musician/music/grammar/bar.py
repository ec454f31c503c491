"""Inside a bar: notes, rests, chords, grace notes, chord symbols, tuplets and broken rhythm, whose sum is the bar."""

from __future__ import annotations

from musician.music.grammar.state import Mode, State
from musician.music.grammar.vocabulary import CHORD_NAMES, LENGTHS, PITCHES, REACH, TICKS, TUPLETS

_GRACE_NOTES = 3
_CHORD_NOTES = 4
_DECORATIONS = "~."


def music(state: State, character: str) -> State | None:
    """The state after a character that begins something in a bar that is not full."""
    if character in "><":
        return _broken(state, character)
    if character == " ":
        return state._replace(gap=False, newline=False, last=0) if state.gap else None
    if not state.left:
        return None
    state = state._replace(last=0)
    if PITCHES.begins(character):
        return state.to(Mode.PITCH, word=character)
    if character == "[":
        return state.to(Mode.CHORD, amount=0) if state.prefix < 3 else None
    if character == "z":
        return state.to(Mode.LENGTH, rest=True) if state.prefix < 2 else None
    return None if state.need or state.tuplet else _before_note(state, character)


def _before_note(state: State, character: str) -> State | None:
    """What may stand before a note, in this order: chord symbol; tuplet, grace notes or a decoration."""
    if character == '"' and state.prefix < 1:
        return state.to(Mode.CHORD_NAME, word=character)
    if character == "(" and state.prefix < 2 and _tuplets(state, character):
        return state.to(Mode.TUPLET, word=character)
    if character == "{" and state.prefix < 2:
        return state.to(Mode.GRACE, amount=0)
    if character in _DECORATIONS and state.prefix < 2:
        return state.to(Mode.MUSIC, prefix=3, gap=False, newline=False)
    return None


def _broken(state: State, character: str) -> State | None:
    # Both notes together last twice the first one's written length, so a bar's sum needs no halves of ticks.
    if state.last < 2 or state.left < state.last:
        return None
    return state.to(Mode.BROKEN, word=character, need=state.last)


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
    if PITCHES.begins(state.word + character):
        return state._replace(word=state.word + character, amount=state.amount or 1)
    if state.word not in PITCHES:
        return None
    grace = state.mode is Mode.GRACE
    if PITCHES.begins(character):
        most = _GRACE_NOTES if grace else _CHORD_NOTES
        return state._replace(word=character, amount=state.amount + 1) if state.amount < most else None
    if grace and character == "}":
        return state.to(Mode.MUSIC, prefix=2, gap=False, newline=False, amount=0)
    if not grace and character == "]" and state.amount > 1:
        return state.to(Mode.LENGTH, amount=0, rest=False)
    return None


def pitch(state: State, character: str) -> State | None:
    """Inside the accidental, letter and octave of a note."""
    if PITCHES.begins(state.word + character):
        return state._replace(word=state.word + character)
    return length(state.to(Mode.LENGTH, rest=False), character) if state.word in PITCHES else None


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
    return ticks == state.need if state.need else ticks <= state.left


def ended(state: State) -> State | None:
    """The state in which the note that was being written stands; None where it cannot end here."""
    if state.mode is Mode.PITCH:
        state = state.to(Mode.LENGTH, rest=False) if state.word in PITCHES else state
    ticks = LENGTHS.meanings.get(state.word)
    if state.mode is not Mode.LENGTH or ticks is None or not fits(state, ticks):
        return None
    after = state.to(Mode.MUSIC, prefix=0, gap=True, newline=False, rest=False, last=0, need=0)
    if state.tuplet is None:
        # abc2midi plays a decorated note as several, to which it cannot apply a broken rhythm.
        last = 0 if state.rest or state.need or state.prefix == 3 else ticks
        return after._replace(left=state.left - ticks, last=last)
    tuplet = state.tuplet._replace(notes=state.tuplet.notes - 1, written=state.tuplet.written + ticks)
    if tuplet.notes:
        return after._replace(tuplet=tuplet, gap=False)
    return after._replace(tuplet=None, left=state.left - tuplet.written * tuplet.q // tuplet.p)


def tuplet(state: State, character: str) -> State | None:
    """The numbers that open a tuplet, or its first note."""
    if _tuplets(state, state.word + character):
        return state._replace(word=state.word + character)
    opened = TUPLETS[state.odd].meanings.get(state.word)
    if opened is None or not opened.possible(state.left):
        return None
    return None if character in " <>" else music(state.to(Mode.MUSIC, tuplet=opened, prefix=0), character)


def _tuplets(state: State, prefix: str) -> list[str]:
    """Openings that begin so and have room in the bar, the shortest first."""
    words = TUPLETS[state.odd]
    return [word for word in words.extensions.get(prefix, ()) if words.meanings[word].possible(state.left)]


def closing(state: State) -> str | None:
    """The next character on a short way to the end of the note being written; None where it may end here."""
    if state.mode in (Mode.GRACE, Mode.CHORD):
        end, enough = ("}", 1) if state.mode is Mode.GRACE else ("]", 2)
        return end if state.word in PITCHES and state.amount >= enough else "A"
    if state.mode is Mode.CHORD_NAME:
        return CHORD_NAMES.shortest(state.word)[len(state.word)]
    if state.mode is Mode.PITCH and state.word not in PITCHES:
        return "A"
    if state.mode is Mode.TUPLET:
        return (_tuplets(state, state.word)[0] + state.tonic)[len(state.word)]
    if state.mode is Mode.BROKEN:
        return state.tonic
    if state.mode in (Mode.PITCH, Mode.LENGTH):
        return _closing_length(state.word if state.mode is Mode.LENGTH else "", state)
    return state.tonic


def _closing_length(written: str, state: State) -> str | None:
    """Fill the bar if one length can, else take the most whole units, else the most."""
    choices = [word for word in LENGTHS.extensions[written] if fits(state, LENGTHS.meanings[word])]

    def rank(word: str) -> tuple[bool, bool, int]:
        ticks = LENGTHS.meanings[word]
        return ticks == state.left, ticks % TICKS == 0, ticks

    best = choices[0] if state.tuplet or state.need else max(choices, key=rank)
    return best[len(written)] if len(best) > len(written) else None
