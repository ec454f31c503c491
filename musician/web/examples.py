"""Prompts to begin with, one a family of tasks, worded as in training."""

from __future__ import annotations

from functools import cache

from musician.music.tasks.rules import make_tasks

#: Written for this file, so that nobody's tune is shipped.
_TUNE = """X:1
T:The Page Turner
R:jig
M:6/8
L:1/8
K:D
|:"D"d2f afd|"G"g2b "A"agf|"D"d2f afd|"A"e3 "D"d3:|
|:"D"a2f dfa|"G"b2g "A"efg|"D"a2f "G"gfe|"A"e3 "D"d3:|
|:"D"d2f afd|"G"gab "A"agf|def afd|"A"efe "D"d3:|
"""
_SEEDS = 50
#: Name of the rule that makes the prompt (`free`: none does): family and title shown.
_SHOWN = {
    "text_to_abc": ("Write", "From a description"),
    "terms_to_tune": ("Write", "Of a given form"),
    "chords_to_tune": ("Write", "Over chords"),
    "free": ("Write", "In your own words"),
    "continuation": ("Continue", "Go on from the first bars"),
    "variation": ("Continue", "A variation"),
    "harmonised": ("Harmonise", "Chords for a melody"),
    "transposed": ("Change", "Transpose"),
    "unit_changed": ("Change", "Another unit length"),
    "repaired": ("Check", "Find the wrong bar"),
    "form_terms": ("Describe", "Name the form"),
    "motifs": ("Describe", "Find the motifs"),
    "description": ("Describe", "In words"),
    "interval": ("Theory", "An exercise"),
}


@cache
def examples() -> list[dict[str, str]]:
    """Return family, title and prompt of each example."""
    made = next(made for made in map(_prompts, range(_SEEDS)) if made.keys() >= _SHOWN.keys())
    return [{"family": family, "title": title, "prompt": made[name]} for name, (family, title) in _SHOWN.items()]


def _prompts(seed: int) -> dict[str, str]:
    """Prompts by rule; with some seeds a rule finds nothing to ask about the tune."""
    free = {"free": "Write a jig in D major with two repeated parts."}
    return free | {task.name: task.prompt for task in make_tasks(_TUNE, seed)}
