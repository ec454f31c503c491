"""Reading ABC: counting, finding, naming."""

import random
from fractions import Fraction
from itertools import product

from musician.music.abc.extract import count_notes as count_sounding
from musician.music.abc.key import Key
from musician.music.abc.meter import Meter
from musician.music.abc.pitch import ACCIDENTALS, Pitch
from musician.music.theory.draws import ORDINALS, Draft, numbers_around
from musician.music.theory.notation import UNITS, VALUES, Event, melody, random_bars, sheet, write_bar, write_pitches
from musician.music.theory.scale import random_key

METERS = {1: (Meter(4, 4), Meter(3, 4)), 2: (Meter(4, 4), Meter(3, 4), Meter(6, 8)), 3: (Meter(9, 8), Meter(5, 4))}


def count_notes(rng: random.Random, difficulty: int) -> Draft:
    """Ask how many notes sound; from difficulty 2 on there are rests, at 3 chords too."""
    key, unit, meter = _frame(rng, difficulty)
    bars = random_bars(rng.randrange(2, 3 + difficulty), key, meter, difficulty, rng)
    written = [write_bar([_rested(event, rng, difficulty) for event in bar], key, unit) for bar in bars]
    if difficulty == 3:
        place = rng.randrange(len(written))
        written[place] = f"{_chord(key, rng)} {written[place]}"
        meter_shown = None
    else:
        meter_shown = meter
    music = sheet(written, key, unit, meter_shown)
    right = count_sounding(music)
    rule = " Each note of a chord counts, rests do not." if difficulty == 3 else " Rests do not count."
    return Draft(f"How many notes are in this music?{rule}\n{music}", str(right), numbers_around(right, rng, lowest=1))


def wrong_bar(rng: random.Random, difficulty: int) -> Draft:
    """Ask which bar does not fit the meter."""
    key, unit, meter = _frame(rng, difficulty)
    count = 2 + 2 * difficulty
    bars = random_bars(count, key, meter, difficulty, rng)
    place = rng.randrange(count)
    bars[place] = _damaged(bars[place], difficulty, rng)
    music = sheet([write_bar(bar, key, unit) for bar in bars], key, unit, meter)
    wrong = [f"bar {other + 1}" for other in range(count) if other != place]
    return Draft(f"Which bar of this music is too long or too short?\n{music}", f"bar {place + 1}", wrong)


def nth_note(rng: random.Random, difficulty: int) -> Draft:
    """Ask for the name of a note, with its octave, as the signature has it."""
    key, unit, meter = _frame(rng, difficulty)
    bar = [_rested(event, rng, difficulty) for event in random_bars(1, key, meter, difficulty, rng)[0]]
    notes = [pitch for pitch, _ in bar if pitch]
    if not notes:
        return nth_note(rng, difficulty)
    place = rng.randrange(min(len(notes), len(ORDINALS)))
    right = notes[place]
    near = [Pitch(right.place + step, alter) for step in (-7, -1, 0, 1, 7) for alter in (right.alter, 0, 1, -1)]
    question = f"What is the {ORDINALS[place]} note (rests do not count), if C is C4 and c is C5?"
    wrong = [pitch.full_name for pitch in near if pitch.midi != right.midi]
    return Draft(f"{question}\n{sheet([write_bar(bar, key, unit)], key, unit, meter)}", right.full_name, wrong)


def accidental_in_bar(rng: random.Random, difficulty: int) -> Draft:
    """Ask how a note sounds after accidentals and, at 2 and 3, bar lines; they hold to the end of the bar."""
    key = random_key(rng, difficulty)
    place = rng.randrange(1, 10)
    letter = Pitch(place).letter
    own = key.alterations.get(letter, 0)
    marks = [rng.choice([alter for alter in (-1, 0, 1) if alter != own]) for _ in range(difficulty)]
    bars = [_around(Pitch(place), ACCIDENTALS[mark], key, rng) for mark in marks]
    sounding = marks[-1]
    if difficulty > 1 and rng.random() < 0.5:
        bars.append(" ".join(write_pitches([*_others(Pitch(place), key, rng), Pitch(place, own)], key)))
        sounding = own
    music = sheet(bars, key, rng.choice(UNITS[difficulty]))
    stem = f"Accidentals hold to the end of their bar. What is the last note of this music?\n{music}"
    right = Pitch(place, sounding).name
    step = rng.choice((-1, 1))
    names = [Pitch(place, alter).name for alter in (-1, 0, 1)] + [Pitch(place + step, sounding).name]
    return Draft(stem, right, [name for name in names if name != right])


def abc_spelling(rng: random.Random, difficulty: int) -> Draft:
    """Ask how ABC writes a named note under a key signature; its accidental and its octave are put in doubt."""
    key = random_key(rng, difficulty)
    pitch = Pitch(rng.randrange(-7, 15), rng.choice((-1, 0, 1)))
    alter = rng.choice([alter for alter in (-1, 0, 1) if alter != pitch.alter])
    place = pitch.place + rng.choice((-7, 7))
    right, *wrong = (_alone(Pitch(*parts), key) for parts in product((pitch.place, place), (pitch.alter, alter)))
    stem = f"How is the note {pitch.full_name} (C4 is middle C, ABC's C) written in ABC under K:{key.abc}?"
    return Draft(stem, right, wrong)


def _frame(rng: random.Random, difficulty: int) -> tuple[Key, Fraction, Meter]:
    return random_key(rng, difficulty), rng.choice(UNITS[difficulty]), rng.choice(METERS[difficulty])


def _rested(event: Event, rng: random.Random, difficulty: int) -> Event:
    """Silence some events from difficulty 2 on."""
    return (None, event[1]) if difficulty > 1 and rng.random() < 0.2 else event


def _chord(key: Key, rng: random.Random) -> str:
    notes = [pitch for pitch, _ in melody([Fraction(1, 8)], key, rng) if pitch]
    stack = [Pitch(notes[0].place + step) for step in (0, 2, 4)[: rng.randrange(2, 4)]]
    return "[" + "".join(pitch.abc_letter for pitch in stack) + "]"


def _damaged(bar: list[Event], difficulty: int, rng: random.Random) -> list[Event]:
    """Return the bar with one duration changed by the difficulty's shortest value or twice that."""
    place = rng.randrange(len(bar))
    pitch, time = bar[place]
    step = min(VALUES[difficulty])
    change = rng.choice([change for change in (-2 * step, -step, step, 2 * step) if time + change > 0])
    return [*bar[:place], (pitch, time + change), *bar[place + 1 :]]


def _others(pitch: Pitch, key: Key, rng: random.Random) -> list[Pitch]:
    """Return one to three notes of the key near a note but on other letters."""
    places = [pitch.place + step for step in (-3, -2, -1, 1, 2, 3)]
    chosen = [Pitch(place) for place in rng.sample(places, rng.randrange(1, 4))]
    return [each.altered(key.alterations.get(each.letter, 0)) for each in chosen]


def _around(pitch: Pitch, mark: str, key: Key, rng: random.Random) -> str:
    """Return a bar where a note carries an accidental, others follow, and the note comes again without."""
    before, between = (" ".join(write_pitches(_others(pitch, key, rng), key)) for _ in range(2))
    return f"{before} {mark}{pitch.abc_letter} {between} {pitch.abc_letter}"


def _alone(pitch: Pitch, key: Key) -> str:
    return write_pitches([pitch], key)[0]


TOPICS = (count_notes, wrong_bar, nth_note, accidental_in_bar, abc_spelling)
