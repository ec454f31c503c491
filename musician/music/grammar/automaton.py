"""The grammar of a whole tune as an automaton over characters.

Every state that can be reached has a way to the end of a tune: a character is refused unless what it begins can be
finished in the bar, and a bar line unless the bars and sections that are asked for can still follow.
"""

from __future__ import annotations

from musician.music.grammar import bar, form
from musician.music.grammar.constraints import TuneConstraints
from musician.music.grammar.header import Header
from musician.music.grammar.state import Mode, State
from musician.music.grammar.vocabulary import TIE

_HEADER = (Mode.FIELD, Mode.COLON, Mode.VALUE)
_WITHIN = {
    Mode.CHORD_NAME: bar.chord_name,
    Mode.GRACE: bar.notes,
    Mode.CHORD: bar.notes,
    Mode.PITCH: bar.pitch,
    Mode.LENGTH: bar.length,
    Mode.TUPLET: bar.tuplet,
    Mode.BROKEN: bar.broken,
}


class TuneGrammar:
    """Tunes that are well-formed ABC, whose every bar has the length of the meter.

    A tune has a header (`X:`, perhaps text fields, `M:`, `L:`, perhaps `Q:`, `K:`) and one or two voices of notes,
    rests, chords, grace notes, chord symbols, tuplets, broken rhythm, repeats with first and second endings. Not in it:
    pickup bars, ties and slurs, changes of key or meter inside a tune, words, comments.

    Args:
        constraints: what the tune must be; None leaves all to the writer.
        before: text that must stand before the tune, such as the blank with which a chat template opens an answer.
        after: text that must stand after it.
    """

    def __init__(self, constraints: TuneConstraints | None = None, before: str = "", after: str = "") -> None:
        self.constraints = constraints or TuneConstraints()
        self.before, self.after = before, after
        self._header, self._form = Header(self.constraints), form.Form(self.constraints)

    def start(self) -> State:
        """The state before anything is written."""
        return State(Mode.BEFORE) if self.before else State()

    def step(self, state: State, character: str) -> State | None:
        """The state after one more character, None where that may not stand."""
        found = self._step(state, character)
        if found is None or state.column > 1 or character == "\n":
            return found
        return found._replace(column=state.column + 1)

    def _step(self, state: State, character: str) -> State | None:
        if state.mode in _HEADER:
            return self._header.step(state, character)
        if state.mode in (Mode.BEFORE, Mode.AFTER):
            return self._around(state, character)
        if state.mode in _WITHIN:
            stepped = _WITHIN[state.mode](state, character)
            ended = bar.ended(state) if stepped is None else None
            return self._between_notes(ended, character) if ended else stepped
        if state.mode is Mode.VOICE:
            return form.voice_line(state, character)
        return self._between_notes(state, character)

    def walk(self, state: State, text: str) -> State | None:
        """The state after more characters, None where they may not stand."""
        found: State | None = state
        for character in text:
            found = self.step(found, character) if found else None
        return found

    def accepts(self, state: State) -> bool:
        """Whether the text may end here."""
        if state.mode is Mode.AFTER:
            return state.word == self.after
        return not self.after and self._tune_may_end(state)

    def closing(self, state: State) -> str:
        """The next character on a short way to the end of the text; the state must not accept already."""
        if state.mode in _HEADER:
            return self._header.closing(state)
        if state.mode in (Mode.BEFORE, Mode.AFTER):
            return (self.before if state.mode is Mode.BEFORE else self.after)[len(state.word)]
        if state.mode is Mode.VOICE:
            return f"V:{state.voice}\n"[len(state.word)]
        if self._tune_may_end(state):
            return self.after[0]
        if state.mode is Mode.LINE_END:
            return "\n"
        if state.mode is Mode.BAR_LINE:
            found = self._form.closing(state)
            return found or self.closing(self._form.bar_lines(state)[state.word])
        if state.mode in (Mode.OPENING, Mode.BETWEEN):
            return self._closing_start(state)
        return self._closing_music(state)

    def completion(self, state: State) -> str:
        """Characters of a short way to the end of the text; empty where it may end here."""
        written = ""
        while not self.accepts(state):
            written += self.closing(state)
            following = self.step(state, written[-1])
            assert following is not None, (state, written)
            state = following
        return written

    # --- steps -------------------------------------------------------------------------------------------------------

    def _around(self, state: State, character: str) -> State | None:
        whole = self.before if state.mode is Mode.BEFORE else self.after
        word = state.word + character
        if not whole.startswith(word):
            return None
        return State() if state.mode is Mode.BEFORE and word == whole else state._replace(word=word)

    def _between_notes(self, state: State, character: str) -> State | None:
        if self.after and character == self.after[0] and self._tune_may_end(state):
            return State(Mode.AFTER, word=character)
        if state.mode is Mode.BAR_LINE:
            return self._bar_line(state, character)
        if character == "\n":
            return form.line_end(state)
        if state.mode is Mode.LINE_END:
            return None
        if state.mode is Mode.BETWEEN:
            return self._between(state, character)
        if state.mode is Mode.OPENING:
            return self._opening(state, character)
        if character == ":" and state.column == 1:
            return None  # a line that begins with a letter and a colon is a field
        if character in ":|":
            return self._bar_line(state.to(Mode.BAR_LINE, gap=False, newline=False, last=0, note=""), character)
        return self._tie(state) if character == TIE else bar.music(state, character)

    def _tie(self, state: State) -> State | None:
        after = bar.tied(state)
        possible = after and (after.left or self._form.bar_lines(after))
        return after if possible else None

    def _bar_line(self, state: State, character: str) -> State | None:
        lines, word = self._form.bar_lines(state), state.word + character
        if any(text.startswith(word) for text in lines):
            return state._replace(word=word)
        after = lines.get(state.word)
        return self._between_notes(after, character) if after else None

    def _between(self, state: State, character: str) -> State | None:
        if character == " " and state.gap:
            return state._replace(gap=False)
        if not self._form.may_go_on(state):
            return None
        if state.voice:
            return form.voice_line(state.to(Mode.VOICE), character)
        return self._opening(state.to(Mode.OPENING, gap=False, newline=False), character)

    def _opening(self, state: State, character: str) -> State | None:
        marked = self._form.opening(state, character)
        if marked or character in " |":
            return marked
        opened = self._form.unmarked(state)
        return bar.music(opened, character) if opened else None

    # --- ends --------------------------------------------------------------------------------------------------------

    def _tune_may_end(self, state: State) -> bool:
        if state.mode is Mode.BAR_LINE:
            after = self._form.bar_lines(state).get(state.word)
            return after is not None and self._tune_may_end(after)
        if state.mode is Mode.LINE_END:
            return state.voice == 2 and not state.line and self._form.may_end(state)
        return state.mode is Mode.BETWEEN and self._form.may_end(state)

    def _closing_start(self, state: State) -> str:
        if state.mode is Mode.BETWEEN and state.voice:
            return "V"
        opened = self._form.unmarked(state)
        return bar.closing_note(opened) if opened else "|:"[len(state.word)]

    def _closing_music(self, state: State) -> str:
        if state.mode is not Mode.MUSIC:
            written = bar.closing(state)
            ended = state if written else bar.ended(state)
            assert ended is not None, state
            return written or self._closing_music(ended)
        found = None if bar.may_close_slur(state) else self._form.closing(state)
        if found == ":" and state.column == 1:
            return " "
        return found or bar.closing(state) or bar.closing_note(state)
