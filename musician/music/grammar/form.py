"""Between bars: bar lines, sections, repeats, endings, lines and voices."""

from __future__ import annotations

from musician.music.grammar.state import Mode, State
from musician.music.grammar.wishes import Wishes

BARS_A_LINE = 8
"""Most bars on a line of a tune of two voices."""

#: The bar line that a short way to the end takes, the best first.
_PREFERRED = ("|]", ":|", "||", ":|2", "|", "::", "|:", "|1")


class Form:
    """Steps between bars.

    In a tune of two voices each line of voice 1 is followed by one of voice 2 with the same bar lines, and a section
    begins on a new line.

    Args:
        wishes: how many bars and sections, and whether they are repeated.
    """

    def __init__(self, wishes: Wishes) -> None:
        self.wishes = wishes

    def may_end(self, state: State) -> bool:
        """Whether the tune may end after the section that was closed."""
        return state.closed and not state.bars and not state.sections

    def may_go_on(self, state: State) -> bool:
        """Whether another section may begin."""
        if state.sections == 0:
            return False
        return state.bars is None or state.bars >= max(1, state.sections or 0)

    def bar_lines(self, state: State) -> dict[str, State]:
        """The bar lines that may end the full bar, and what follows each."""
        if state.voice == 2:
            return {state.line[0]: _replayed(state)}
        found: dict[str, State] = {}
        if _room(state, 2 if state.part == "first" else 1):
            found["|"] = _next_bar(state)
        if state.part == "first":
            found[":|2"] = _next_bar(state, part="second")
        else:
            found.update(self._section_ends(state))
        if state.part == "repeat" and _room(state, 2):
            found["|1"] = _next_bar(state, part="first")
        return {text: _recorded(text, after) for text, after in found.items()} if state.voice else found

    def _section_ends(self, state: State) -> dict[str, State]:
        closed = state.to(Mode.BETWEEN, closed=True, left=state.full, last=0, gap=True, newline=True)
        repeat = state.part == "repeat"
        found = {}
        if self.may_end(closed):
            found[":|" if repeat else "|]"] = closed
        if self.may_go_on(closed):
            found[":|" if repeat else "||"] = closed
            if self.wishes.repeats is not False:
                found["::" if repeat else "|:"] = _next_section(closed, "repeat")
        return found

    def opening(self, state: State, character: str) -> State | None:
        """A character of the repeat sign at the start of a section or of the second voice's line; None elsewhere."""
        if state.word == "|":
            return _opened(state, "repeat") if character == ":" else None
        return state.to(Mode.OPENING, word="|") if character == "|" and self._marked(state) is not False else None

    def unmarked(self, state: State) -> State | None:
        """The same start without a repeat sign; None where one must stand."""
        return None if state.word or self._marked(state) else _opened(state, "plain")

    def closing_opening(self, state: State) -> str | None:
        """The next character of a start that must be marked; None where music may follow."""
        return "|:"[len(state.word)] if state.word or self._marked(state) else None

    def _marked(self, state: State) -> bool | None:
        """Whether a repeat sign must (True) or must not (False) stand here."""
        return state.line[0] == "|:" if state.voice == 2 else self.wishes.repeats

    def closing(self, state: State) -> str | None:
        """The next character of the bar line on a short way to the end; None where it is complete."""
        lines = self.bar_lines(state)
        best = next(text for text in _PREFERRED if text in lines and text.startswith(state.word))
        return best[len(state.word)] if len(best) > len(state.word) else None


def voice_line(state: State, character: str) -> State | None:
    """The state after a character of the line that names the voice."""
    text, word = f"V:{state.voice}\n", state.word + character
    if word != text:
        return state._replace(word=word) if text.startswith(word) else None
    if state.voice == 1 and not state.closed:
        return state.to(Mode.MUSIC, line=("",))
    return state.to(Mode.OPENING)


def line_end(state: State) -> State:
    """The state after the end of a line of music."""
    state = state._replace(gap=False, newline=False, last=0)
    if state.voice == 1:
        return state.to(Mode.VOICE, voice=2, left=state.full)
    if state.voice == 2:
        return state.to(Mode.BETWEEN if state.closed else Mode.VOICE, voice=1)
    return state


def _room(state: State, more: int) -> bool:
    """Whether this section may have so many more bars."""
    return state.bars is None or state.bars >= more + (state.sections or 0)


def _next_bar(state: State, part: str | None = None) -> State:
    bars = None if state.bars is None else state.bars - 1
    return state.to(
        Mode.MUSIC, part=part or state.part, left=state.full, bars=bars, last=0, gap=True, newline=True, closed=False
    )


def _next_section(state: State, part: str) -> State:
    sections = None if state.sections is None else state.sections - 1
    return _next_bar(state, part)._replace(sections=sections)


def _opened(state: State, part: str) -> State:
    """The first bar after a start; what there is to count, the first voice counts."""
    marked = part == "repeat"
    if state.voice == 2:
        return state.to(Mode.MUSIC, line=state.line[1:], gap=marked, newline=False)
    line = ("|:" if marked else "",) if state.voice else ()
    return _next_section(state, part)._replace(line=line, gap=marked, newline=False)


def _recorded(text: str, after: State) -> State:
    """Remember a bar line of the first voice for the second."""
    line = (*after.line, text)
    if after.closed or len(line) > BARS_A_LINE:
        return after.to(Mode.LINE_END, line=line, gap=False, newline=True)
    return after._replace(line=line)


def _replayed(state: State) -> State:
    line = state.line[1:]
    if not line:
        return state.to(Mode.LINE_END, line=(), gap=False, newline=True, left=state.full)
    return state.to(Mode.MUSIC, line=line, left=state.full, gap=True, newline=False)
