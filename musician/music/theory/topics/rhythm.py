"""Meter and note values."""

import random
from fractions import Fraction

from musician.music.key import Key
from musician.music.meter import Meter, parse_meter
from musician.music.questions import METERS, NOTE_VALUES, Draft
from musician.music.theory.draws import drawn, numbers_around, some, split_time
from musician.music.theory.notation import EIGHTH, UNITS, VALUES, length, melody, random_bars, sheet, write_bar
from musician.music.theory.scale import random_key

METERS_AT = {1: METERS[:3], 2: (*METERS[:7], "3/2"), 3: METERS}
KINDS = {2: "duple", 3: "triple", 4: "quadruple"}
CLASSIFIED = {
    1: ("2/4", "3/4", "4/4", "2/2", "6/8", "9/8", "12/8", "3/2"),
    2: ("2/4", "3/4", "4/4", "2/2", "3/2", "4/2", "4/8", "6/8", "9/8", "12/8", "6/4", "9/4"),
    3: ("2/2", "3/2", "4/2", "2/8", "4/8", "4/16", "6/4", "9/4", "12/4", "6/16", "9/16", "12/16", "9/8", "12/8"),
}
VALUE_NAMES = {1: "whole", 2: "half", 4: "quarter", 8: "eighth", 16: "sixteenth", 32: "thirty-second"}
DOTS = ("", "dotted ", "double-dotted ", "triple-dotted ")
TUPLETS = {1: ((3, 2),), 2: ((3, 2), (5, 4), (6, 4), (2, 3)), 3: ((5, 4), (7, 4), (4, 3), (2, 3), (9, 8), (5, 2))}


def meter_of_bar(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the meter of full bars; bars in any of the wrong meters last longer or shorter."""
    meter = _meter(rng.choice(METERS_AT[difficulty]))
    wrong = {name: _meter(name).duration for name in METERS if _meter(name).duration != meter.duration}
    near = sorted(wrong, key=lambda name: (abs(wrong[name] - meter.duration), name))
    count = rng.randrange(1, 4)
    stem = f"Which meter {'does this full bar' if count == 1 else 'do these full bars'} have?"
    return Draft(f"{stem}\n{_bars(meter, count, difficulty, rng, named=False)}", str(meter), near[: 10 - difficulty])


def meter_kind(rng: random.Random, difficulty: int) -> Draft:
    """Ask whether a meter is simple or compound, and how many beats its bar has."""
    meter = _meter(rng.choice(CLASSIFIED[difficulty]))
    names = [f"{kind} {beats}" for kind in ("simple", "compound") for beats in KINDS.values()]
    right = _kind(meter)
    if rng.random() < 0.1:
        return Draft(f"What kind of meter is {meter}?", right, some(names, right))
    stem = f"What kind of meter is this music in?\n{_bars(meter, rng.randrange(1, 3), difficulty, rng)}"
    return Draft(stem, right, some(names, right))


def beat_of_meter(rng: random.Random, difficulty: int) -> Draft:
    """Ask which note value is one main beat."""
    meter = _meter(rng.choice(CLASSIFIED[difficulty]))
    right = f"a {'dotted ' if meter.compound else ''}{VALUE_NAMES[_beat_unit(meter)]} note"
    wrong = [f"a {dot}{VALUE_NAMES[unit]} note" for dot in DOTS[:2] for unit in (2, 4, 8, 16)]
    fixed = [each.replace("a eighth", "an eighth") for each in (right, *wrong)]
    if rng.random() < 0.1:
        return Draft(f"Which note value is one main beat in {meter}?", fixed[0], some(fixed, fixed[0]))
    stem = f"Which note value is one main beat of this music?\n{_bars(meter, 1, difficulty, rng)}"
    return Draft(stem, fixed[0], some(fixed, fixed[0]))


def bar_completion(rng: random.Random, difficulty: int) -> Draft:
    """Ask which note fills a bar that lacks its last one."""
    meter = _meter(rng.choice(METERS_AT[difficulty]))
    last = rng.choice([value for value in NOTE_VALUES if value < meter.duration and value.denominator <= _grid(difficulty)])
    key, unit = random_key(rng, difficulty), rng.choice(UNITS[difficulty])
    events = melody(split_time(meter.duration - last, _values(difficulty), rng), key, rng)
    if rng.random() < 0.5:
        stem = f"This bar lacks its last note. Which note completes it?\n{sheet([write_bar(events, key, unit) + ' ...'], key, unit, meter)}"
        return Draft(stem, NOTE_VALUES[last], some(NOTE_VALUES.values(), NOTE_VALUES[last]))
    stem = f"Which ABC note in place of the dots completes this bar?\n{sheet([write_bar(events, key, unit) + ' ...'], key, unit, meter)}"
    head = rng.choice("GABcde")
    names = [head + length(value / unit) for value in NOTE_VALUES]
    right = head + length(last / unit)
    return Draft(stem, right, some(names, right))


def total_of_values(rng: random.Random, difficulty: int) -> Draft:
    """Ask how many short notes last as long as several longer ones."""
    share = rng.choice((8, 16)) if difficulty < 3 else rng.choice((16, 32))
    longer = {(unit, dots): _lasting(unit, dots) for unit in (1, 2, 4, 8, 16) for dots in range(difficulty)}
    fitting = [value for value in longer if (longer[value] * share).denominator == 1 and longer[value] * share > 1]
    values = [rng.choice(fitting) for _ in range(1 + difficulty + rng.randrange(2))]
    right = int(sum(longer[value] for value in values) * share)
    named = [f"{DOTS[dots]}{VALUE_NAMES[unit]}" for unit, dots in values]
    stem = f"How many {VALUE_NAMES[share]} notes last as long as these notes in a row: {', '.join(named)}?"
    return Draft(stem, str(right), numbers_around(right, rng, lowest=1))


def dotted_value(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the length of dotted notes, in shorter ones or as ABC writes it."""
    unit, dots = rng.choice((1, 2, 4, 8)), rng.randrange(1, 1 + difficulty)
    value = f"{DOTS[dots]}{VALUE_NAMES[unit]} note"
    if rng.random() < 0.5:
        share = drawn(lambda: rng.choice((4, 8, 16, 32)), lambda share: (_lasting(unit, dots) * share).denominator == 1)
        count = rng.randrange(1, 9)
        right = int(_lasting(unit, dots) * share * count)
        stem = f"How many {VALUE_NAMES[share]} notes last as long as {count} {value}{'s' if count > 1 else ''}?"
        return Draft(stem, str(right), numbers_around(right, rng, lowest=1))
    head, length_unit = rng.choice("CDEFGABcdefgab"), rng.choice(UNITS[3])
    options = [head + length(_lasting(each, dot) / length_unit) for each in (unit, unit * 2, unit / 2) for dot in range(4)]
    right_note = head + length(_lasting(unit, dots) / length_unit)
    stem = f"With L:{length_unit}, how does ABC write the note {head} as a {value}?"
    return Draft(stem, right_note, some(options, right_note))


