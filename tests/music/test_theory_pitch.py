"""Intervals, chords and scales against music21."""

import re
from functools import lru_cache
from itertools import pairwise

import pytest
from test_theory_oracle import alone, american, check, interval, key_shown, m21, names, parsed, pitch, pitches, rising

SCALES = {
    "major": "MajorScale", "natural minor": "MinorScale", "dorian": "DorianScale", "phrygian": "PhrygianScale",
    "lydian": "LydianScale", "mixolydian": "MixolydianScale", "locrian": "LocrianScale",
    "harmonic minor": "HarmonicMinorScale", "ascending melodic minor": "MelodicMinorScale",
}  # fmt: skip
POSITIONS = ("root position", "first inversion", "second inversion", "third inversion")
DEGREES = ("tonic", "supertonic", "mediant", "subdominant", "dominant", "submediant")


def between(question, abc):
    """The interval of the two notes of a question, upwards."""
    pair = pitches(abc) if abc else [m21.pitch.Pitch(name) for name in names(question)]
    low, high = sorted(pair, key=lambda each: each.diatonicNoteNum)
    return m21.interval.Interval(low, high)


def chord(question, abc):
    return m21.chord.Chord(pitches(abc) if abc else rising(question))


@lru_cache(maxsize=4096)
def scale(tonic, name):
    """Names of the seven notes of a scale."""
    made = getattr(m21.scale, SCALES[name])(tonic)
    return [each.name for each in made.getPitches(f"{tonic}4", f"{tonic}5")][:7]


def named_scale(question):
    found = re.search(rf"\b([A-G][#b]*) ({'|'.join(SCALES)}) scale", question)
    return scale(american(found[1]), found[2])


def scale_asked(question, abc):
    """The scale a question names, or that of the key of its music."""
    found = re.search(rf"the ({'|'.join(SCALES)}) scale (of the key|on ([A-G][#b]?))", question)
    if found is None:
        return named_scale(question)
    return scale(american(found[3]) if found[3] else key_shown(abc).tonic.name, found[1])


def test_interval_name():
    check("interval_name", lambda question, abc, option: between(question, abc).name == interval(option).name)


def test_interval_semitones():
    def fits(question, abc, option):
        named = re.search(r"interval of an? (\w+ \w+)(?: plus (\d) octave)?", question)
        if named:
            return int(option) == interval(named[1]).semitones + 12 * int(named[2] or 0)
        return int(option) == between(question, abc).semitones

    check("interval_semitones", fits)


def test_interval_inversion():
    def fits(question, abc, option):
        named = re.search(r"does an? (\w+ \w+) become", question)
        given = interval(named[1]) if named else between(question, abc)
        return given.complement.name == interval(option).name

    check("interval_inversion", fits)


def test_compound_interval():
    def fits(question, abc, option):
        given = between(question, abc)
        return interval(option).name == (given.simpleName if "reduce" in question else given.name)

    check("compound_interval", fits)


def test_transposed_note():
    def fits(question, abc, option):
        distance, way, given = re.search(r"lies an? (\w+ \w+) (above|below) (\S+)\?", question).groups()
        read = (lambda token: alone(token).pitch) if "ABC" in question else pitch
        step = interval(distance) if way == "above" else interval(distance).reverse()
        return step.transposePitch(read(given)).nameWithOctave == read(option).nameWithOctave

    check("transposed_note", fits)


def test_transposed_motif():
    def fits(question, abc, option):
        way, distance = re.search(r"moved (up|down) an? (\w+ \w+)\?", question).groups()
        step = interval(distance) if way == "up" else interval(distance).reverse()
        moved = [step.transposePitch(each).ps for each in pitches(abc)]
        return moved == [each.ps for each in pitches(f"L:1/8\nK:C\n| {option} |")]

    check("transposed_motif", fits)


def test_enharmonic():
    ordinals = ("first", "second", "third", "fourth", "fifth")

    def fits(question, abc, option):
        if abc:
            given = pitches(abc)[ordinals.index(re.search(r"as the (\w+) of", question)[1])]
        else:
            given = pitch(question.split()[-1].strip("?"))
        return pitch(option).ps == given.ps and pitch(option).nameWithOctave != given.nameWithOctave

    check("enharmonic", fits)


@pytest.mark.parametrize(("topic", "what"), [("triad_quality", "triad"), ("seventh_quality", "chord")])
def test_quality(topic, what):
    check(topic, lambda question, abc, option: chord(question, abc).commonName == f"{option} {what}")


def test_triad_inversion():
    def fits(question, abc, option):
        found = chord(question, abc)
        root, kind, position = re.fullmatch(r"(\S+) (\w+), (.+)", option).groups()
        says = (american(root), f"{kind} triad", position)
        return says == (found.root().name, found.commonName, POSITIONS[found.inversion()])

    check("triad_inversion", fits)


def test_seventh_inversion():
    check("seventh_inversion", lambda question, abc, option: POSITIONS[chord(question, abc).inversion()] == option)


def test_chord_root():
    check("chord_root", lambda question, abc, option: chord(question, abc).root().name == american(option))


def test_chord_spelling():
    def fits(question, abc, option):
        pattern = r"(?:the) ([A-G][#b]*) (\S+) (triad|seventh)(?: in (\w+ \w+))?\?"
        root, kind, size, position = re.search(pattern, question).groups()
        under = re.search(r"K:(\S+),", question)
        found = m21.chord.Chord(alone(option, under[1]).pitches if under else rising(option))
        if found.commonName != (f"{kind} triad" if size == "triad" else f"{kind} seventh chord"):
            return False
        return (found.root().name, found.inversion()) == (american(root), POSITIONS.index(position or POSITIONS[0]))

    check("chord_spelling", fits)


def test_mode_of_scale():
    def fits(question, abc, option):
        shown = [each.name for each in pitches(abc)] if abc else names(question.split(": ")[1])
        shown = shown if "upwards" in question else shown[::-1]
        return shown == [*scale(shown[0], option), shown[0]]

    check("mode_of_scale", fits)


def test_scale_spelling():
    def fits(question, abc, option):
        under = re.search(r"K:(\S+),", question)
        shown = [each.name for each in pitches(f"L:1/8\nK:{under[1]}\n| {option} |")] if under else names(option)
        return shown == named_scale(question)

    check("scale_spelling", fits)


def test_scale_degree():
    def fits(question, abc, option):
        notes = scale_asked(question, abc)
        titles = [*DEGREES, "leading note" if "major" in question else "subtonic"]
        asked = re.search(r"is the note (\S+) called", question)
        if asked:
            return option in titles and notes[titles.index(option)] == american(asked[1])
        title = re.search(r"which note is the ([\w ]+)\?", question)[1]
        return american(option) == notes[titles.index(title)]

    check("scale_degree", fits)


def test_next_in_scale():
    def fits(question, abc, option):
        shown = [each.name for each in pitches(abc)] if abc else names(question.split(": ")[1])
        notes = named_scale(question)
        places = [notes.index(name) for name in shown]
        step = places[1] - places[0] if abs(places[1] - places[0]) == 1 else (places[0] - places[1]) // 6
        assert all((right - left - step) % 7 == 0 for left, right in pairwise(places))
        return american(option) == notes[(places[-1] + step) % 7]

    check("next_in_scale", fits)


def test_diatonic_note():
    def fits(question, abc, option):
        sounding = {m21.pitch.Pitch(name).pitchClass for name in scale_asked(question, abc)}
        return (pitch(option).pitchClass in sounding) == ("does not" not in question)

    check("diatonic_note", fits)


def test_abc_spelling():
    def fits(question, abc, option):
        asked, under = re.search(r"the note (\S+) \(.*K:(\S+)\?", question).groups()
        return alone(option, under).pitch.nameWithOctave == american(asked)

    check("abc_spelling", fits)


def test_nth_note_and_accidentals():
    ordinals = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]

    def nth(question, abc, option):
        place = ordinals.index(re.search(r"the (\w+) note", question)[1])
        return pitches(abc)[place].nameWithOctave == american(option)

    check("nth_note", nth)
    check("accidental_in_bar", lambda question, abc, option: parsed(abc)[-1].pitch.name == american(option))
