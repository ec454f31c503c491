"""Between bars: bar lines, pick-ups, sections, repeats, endings, lines and voices."""

from __future__ import annotations

from musician.music.grammar.constraints import TuneConstraints
from musician.music.grammar.state import Mode, State
from musician.music.grammar.vocabulary import ACCIDENTALS

BARS_A_LINE = 8
"""Most bars on a line of a tune of two voices."""

#: The bar line that a short way to the end takes, the best first.
_PREFERRED = ("|]", ":|", "||", ":|2", "|", "::", "|:", "|1")


class Form:
    """Steps between bars.

    A tune may begin with a pick-up. Then each section does, with one as long, and the last bar before a section's end
    and before a second ending is shorter by as much: whatever sounds next completes it.

    In a tune of two voices each line of voice 1 is followed by one of voice 2 with the same bars, and a section begins
    on a new line.

    Args:
        constraints: how many bars and sections, and whether they are repeated.
    """

    def __init__(self, constraints: TuneConstraints) -> None:
        self.constraints = constraints

    def may_end(self, state: State) -> bool:
        """Whether the tune may end after the section that was closed."""
        return state.closed and not state.bars and not state.sections

    def may_go_on(self, state: State) -> bool:
        """Whether another section may begin."""
        if state.sections == 0:
            return False
        return state.bars is None or state.bars >= max(1, state.sections or 0)

    def bar_lines(self, state: State) -> dict[str, State]:
        """The bar lines that may stand here, and what follows each; none where the bar must go on."""
        if state.prefix or state.need or state.tuplet or state.slur == 1:
            return {}
        if state.voice == 2:
            return _replayed(state)
        found = self._inner_lines(state)
        if state.left == state.spare and not (state.upbeat or state.tied or state.slur):
            found |= self._outer_lines(state)
        return found

    def _inner_lines(self, state: State) -> dict[str, State]:
        """Within a section; a tie and a slur may reach over them."""
        ticks = state.full - state.left
        if state.pickup is None and state.left and ticks:
            if ticks % state.eighth:
                return {}
            return _crossed(state, "|", ticks, _begun(state._replace(pickup=ticks)))
        if state.left:
            return {}
        if state.upbeat:
            return _crossed(state, "|", state.pickup or 0, _begun(state))
        found: dict[str, State] = {}
        if _room(state, 2 if state.part == "first" else 1):
            found |= _crossed(state, "|", state.full, _next_bar(state))
        if state.part == "repeat" and _room(state, 2):
            found |= _crossed(state, "|1", state.full, _next_bar(state, "first"))
        return found

    def _outer_lines(self, state: State) -> dict[str, State]:
        ticks = state.full - (state.pickup or 0)
        found = {":|2": _next_bar(state, "second")} if state.part == "first" else self._section_ends(state)
        return {text: _recorded(after, text, ticks) for text, after in found.items()}

    def _section_ends(self, state: State) -> dict[str, State]:
        closed = _fresh(state, Mode.BETWEEN)._replace(closed=True, left=state.full, spare=0)
        repeated, may_end, may_go_on = self._may_repeat(state), self.may_end(closed), self.may_go_on(closed)
        found = {":|": closed} if repeated and (may_end or may_go_on) else {}
        if state.part != "repeat":
            found |= {text: closed for text, allowed in (("|]", may_end), ("||", may_go_on)) if allowed}
        if may_go_on and self.constraints.repeats is not False:
            after = _next_section(closed, "repeat")
            found["::" if state.part == "repeat" else "|:"] = after
        return found

    def _may_repeat(self, state: State) -> bool:
        """Whether the section may be repeated; the sign at its start may be missing."""
        unmarked = state.part == "plain" and self.constraints.repeats is not False
        return state.part == "repeat" or (unmarked and not state.voice)  # abc2midi wants the mark in voices

    def opening(self, state: State, character: str) -> State | None:
        """A character of the repeat sign at the start of a section or of the second voice's line; None elsewhere."""
        if state.word == "|":
            return _opened(state, "repeat") if character == ":" else None
        return state.to(Mode.OPENING, word="|") if character == "|" and self._marked(state) is not False else None

    def unmarked(self, state: State) -> State | None:
        """The same start without a repeat sign; None where one must stand."""
        return None if state.word or self._marked(state) else _opened(state, "plain")

    def _marked(self, state: State) -> bool | None:
        """Whether a repeat sign must (True) or must not (False) stand here."""
        return state.line[0][0] == "|:" if state.voice == 2 else self.constraints.repeats

    def closing(self, state: State) -> str | None:
        """The next character of the bar line on a short way to the end; None where it is complete or none may stand."""
        lines = self.bar_lines(state) if state.left <= state.spare else {}
        best = next((text for text in _PREFERRED if text in lines and text.startswith(state.word)), state.word)
        return best[len(state.word)] if len(best) > len(state.word) else None


def voice_line(state: State, character: str) -> State | None:
    """The state after a character of the line that names the voice."""
    text, word = f"V:{state.voice}\n", state.word + character
    if word != text:
        return state._replace(word=word) if text.startswith(word) else None
    if state.voice == 1 and not state.closed:
        return _begun(state)._replace(line=(("", 0),), gap=False, newline=False)
    return state.to(Mode.OPENING)


def line_end(state: State) -> State | None:
    """The state after the end of a line of music; None where none may end."""
    if not (state.newline and state.left) or state.slur or (state.tied and state.voice):
        return None
    state = state._replace(gap=False, newline=False, barred=False, last=0, column=0)
    if state.voice == 1:
        return state.to(Mode.VOICE, voice=2, left=state.line[1][1], spare=0, altered=False)
    if state.voice == 2:
        return state.to(Mode.BETWEEN if state.closed else Mode.VOICE, voice=1)
    return state


def _room(state: State, more: int) -> bool:
    """Whether this section may have so many more bars."""
    return state.bars is None or state.bars >= more + (state.sections or 0)


def _fresh(state: State, mode: Mode) -> State:
    """After a bar line; a first bar that was whole is no pick-up."""
    changes = {"pickup": state.pickup or 0, "upbeat": False, "altered": False, "note": "", "last": 0}
    return state.to(mode, gap=True, newline=True, barred=True, **changes)


def _begun(state: State) -> State:
    """A bar that is no pick-up; where no other may follow in the section it must leave room for one."""
    after = _fresh(state, Mode.MUSIC)._replace(closed=False)
    pickup = after.pickup or 0
    if _room(after, 2 if after.part == "first" else 1):
        return after._replace(left=after.full, spare=pickup)
    return after._replace(left=after.full - pickup, spare=0)


def _next_bar(state: State, part: str | None = None) -> State:
    bars = None if state.bars is None else state.bars - 1
    return _begun(state._replace(bars=bars, part=part or state.part))


def _next_section(state: State, part: str) -> State:
    sections = None if state.sections is None else state.sections - 1
    after = _next_bar(state._replace(sections=sections), part)
    if state.pickup is None:
        return after._replace(pickup=None)
    return after._replace(left=state.pickup, spare=0, upbeat=True) if state.pickup else after


def _opened(state: State, part: str) -> State:
    """The first bar after a start; what there is to count, the first voice counts."""
    marked = part == "repeat"
    if state.voice == 2:
        return state.to(Mode.MUSIC, line=state.line[1:], gap=marked, newline=False)
    line = (("|:" if marked else "", 0),) if state.voice else ()
    after = _next_section(state, part)
    return after._replace(line=line, gap=marked, newline=False, barred=marked or state.barred)


def _crossed(state: State, text: str, ticks: int, after: State) -> dict[str, State]:
    """A bar line within a section."""
    after = _recorded(after._replace(tied=state.tied[:1]), text, ticks)
    return {} if _holds_back(state, text, after.mode is Mode.LINE_END) else {text: after}


def _holds_back(state: State, text: str, line_ends: bool) -> bool:
    """Whether a tie or a slur keeps this bar line from standing here.

    Both may reach over a plain bar line within a line; an accidental, which ends with its bar, cannot hold a tied note.
    """
    if not (state.tied or state.slur):
        return False
    lost = bool(state.tied) and state.altered and state.tied[0][0] not in ACCIDENTALS
    return lost or line_ends or text != "|"


def _recorded(after: State, text: str, ticks: int) -> State:
    """Remember a bar of the first voice for the second."""
    if not after.voice:
        return after
    line = (*after.line, (text, ticks))
    if after.closed or len(line) > BARS_A_LINE:
        return after.to(Mode.LINE_END, line=line, gap=False, newline=True)
    return after._replace(line=line)


def _replayed(state: State) -> dict[str, State]:
    """What the first voice wrote at the end of this bar."""
    (text, _), *line = state.line
    if state.left or _holds_back(state, text, not line):
        return {}
    after = _fresh(state, Mode.MUSIC)._replace(line=tuple(line), tied=state.tied[:1])
    return {
        text: after._replace(left=line[0][1], newline=False)
        if line
        else after.to(Mode.LINE_END, gap=False, left=state.full)
    }
