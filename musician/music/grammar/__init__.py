"""A grammar of ABC tunes that is walked one character at a time, so that writing can be held to it."""

from musician.music.grammar.automaton import TuneGrammar
from musician.music.grammar.state import State
from musician.music.grammar.wishes import Wishes

__all__ = ["State", "TuneGrammar", "Wishes"]
