"""A grammar of ABC tunes that is walked one character at a time, so that writing can be held to it."""

from musician.music.grammar.automaton import TuneGrammar
from musician.music.grammar.constraints import TuneConstraints
from musician.music.grammar.state import FORGOTTEN, State
from musician.music.grammar.vocabulary import TIE

__all__ = ["FORGOTTEN", "TIE", "State", "TuneConstraints", "TuneGrammar"]
