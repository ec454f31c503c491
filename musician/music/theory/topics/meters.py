"""Meter: reading it from bars, naming it, filling it."""

import random

from musician.music.abc.lexer import write_length
from musician.music.abc.meter import Meter, parse_meter
from musician.music.theory.draws import Draft, some, split_time
from musician.music.theory.notation import METERS, NOTE_VALUES, UNITS, VALUES, melody, random_bars, sheet, write_bar
from musician.music.theory.scale import random_key

METERS_AT = {1: (*METERS[:3], "3/8"), 2: (*METERS[:7], "3/2"), 3: METERS}
CLASSIFIED = {
    1: ("2/4", "3/4", "4/4", "2/2", "6/8", "9/8", "12/8", "3/2"),
    2: ("2/4", "3/4", "4/4", "2/2", "3/2", "4/2", "4/8", "6/8", "9/8", "12/8", "6/4", "9/4"),
    3: ("2/2", "3/2", "4/2", "2/8", "4/8", "4/16", "6/4", "9/4", "12/4", "6/16", "9/16", "12/16", "9/8", "12/8"),
}
"""Meters whose kind no book disputes, which leaves out 3/8."""
BEATS = {2: "duple", 3: "triple", 4: "quadruple"}
BEAT_VALUES = {2: "a half note", 4: "a quarter note", 8: "an eighth note", 16: "a sixteenth note"}


def meter_of_bar(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the meter of full bars; bars in any of the wrong meters last longer or shorter."""
    meter = _meter(rng.choice(METERS_AT[difficulty]))
    others = {name: _meter(name).duration for name in METERS if _meter(name).duration != meter.duration}
    near = sorted(others, key=lambda name: (abs(others[name] - meter.duration), name))
    count = rng.randrange(1, 4)
    stem = f"Which meter {'does this full bar' if count == 1 else 'do these full bars'} have?"
    return Draft(f"{stem}\n{_music(meter, count, difficulty, rng, named=False)}", str(meter), near[: 10 - difficulty])


def meter_kind(rng: random.Random, difficulty: int) -> Draft:
    """Ask whether a meter is simple or compound, and how many beats its bar has."""
    meter = _meter(rng.choice(CLASSIFIED[difficulty]))
    names = [f"{kind} {beats}" for kind in ("simple", "compound") for beats in BEATS.values()]
    right = f"compound {BEATS[meter.beats // 3]}" if meter.compound else f"simple {BEATS[meter.beats]}"
    if rng.random() < 0.1:
        return Draft(f"What kind of meter is {meter}?", right, some(names, right))
    music = _music(meter, rng.randrange(1, 3), difficulty, rng)
    return Draft(f"What kind of meter is this music in?\n{music}", right, some(names, right))


def beat_of_meter(rng: random.Random, difficulty: int) -> Draft:
    """Ask which note value is one main beat."""
    meter = _meter(rng.choice(CLASSIFIED[difficulty]))
    dotted = {unit: f"a dotted {name.split(' ', 1)[1]}" for unit, name in BEAT_VALUES.items()}
    right = dotted[meter.unit // 2] if meter.compound else BEAT_VALUES[meter.unit]
    wrong = some((*BEAT_VALUES.values(), *dotted.values()), right)
    if rng.random() < 0.1:
        return Draft(f"Which note value is one main beat in {meter}?", right, wrong)
    music = _music(meter, 1, difficulty, rng)
    return Draft(f"Which note value is one main beat of this music?\n{music}", right, wrong)


def bar_completion(rng: random.Random, difficulty: int) -> Draft:
    """Ask which note fills a bar that lacks its last one."""
    meter = _meter(rng.choice(METERS_AT[difficulty]))
    finest = max(value.denominator for value in VALUES[difficulty])
    fitting = [value for value in NOTE_VALUES if value < meter.duration and value.denominator <= finest]
    last = rng.choice(fitting)
    key, unit = random_key(rng, difficulty), rng.choice(UNITS[difficulty])
    events = melody(split_time(meter.duration - last, VALUES[difficulty], rng), key, rng)
    music = sheet([write_bar(events, key, unit) + " ..."], key, unit, meter)
    names = NOTE_VALUES
    if rng.random() < 0.5:
        head = rng.choice("GABcde")
        names = {value: head + write_length(value / unit) for value in NOTE_VALUES}
    stem = f"This bar lacks its last note. Which note in place of the dots completes it?\n{music}"
    return Draft(stem, names[last], some(names.values(), names[last]))


def _meter(name: str) -> Meter:
    meter = parse_meter(name)
    assert meter is not None
    return meter


def _music(meter: Meter, count: int, difficulty: int, rng: random.Random, named: bool = True) -> str:
    """Return full bars, with the meter above them if `named`."""
    key, unit = random_key(rng, difficulty), rng.choice(UNITS[difficulty])
    bars = random_bars(count, key, meter, difficulty, rng)
    return sheet([write_bar(bar, key, unit) for bar in bars], key, unit, meter if named else None)


TOPICS = (meter_of_bar, meter_kind, beat_of_meter, bar_completion)
