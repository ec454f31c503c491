"""Keys, harmony, meter and note values against music21; real tunes against a recount."""

import re
from fractions import Fraction
from functools import lru_cache

from test_theory_oracle import (
    VALUES,
    alone,
    american,
    bars,
    check,
    field,
    key,
    key_shown,
    m21,
    parsed,
    pitches,
    rising,
    signature,
    total,
    value,
)

CADENCES = {
    "authentic cadence": {("V", "I")},
    "plagal cadence": {("IV", "I"), ("iv", "I")},
    "half cadence": {(before, "V") for before in ("I", "ii", "iv", "IV", "vi", "VI")},
    "deceptive cadence": {("V", "vi"), ("V", "VI")},
}
FUNCTIONS = {"dominant": "V vii", "subdominant": "IV ii", "tonic": "I"}


def about(question, abc):
    """The key a question is about."""
    named = re.search(r"\b([A-G][#b]? (?:major|minor))\b", question)
    return key_shown(abc) if "this music" in question or not named else key(named[1])


@lru_cache(maxsize=4096)
def numeral(figure, tonic, mode):
    """Root and quality of a Roman numeral."""
    found = m21.roman.RomanNumeral(figure.replace("°", "o"), m21.key.Key(tonic, mode))
    return found.root().name, found.quality


def in_key(figure, where):
    return numeral(figure, where.tonic.name, where.mode)


def triad(words):
    """Root and quality of `Bb minor`."""
    root, kind = words.split()
    return american(root), kind


def sounding(chord):
    return chord.root().name, chord.quality


def test_signatures():
    def key_fits(question, abc, option):
        shown = re.search(r"a signature of (.*)\?", question)
        return key(option).sharps == (signature(shown[1]) if shown else key_shown(abc).sharps)

    check("key_from_signature", key_fits)

    def signature_fits(question, abc, option):
        named = re.search(r"signature of ([A-G]\S* \w+)\?", question)
        return signature(option) == (key(named[1]) if named else key_shown(abc)).sharps

    check("signature_from_key", signature_fits)


def test_relatives():
    check("relative_key", lambda question, abc, option: key(option) == about(question, abc).relative)

    def parallel(question, abc, option):
        right = about(question, abc).parallel
        return signature(option) == right.sharps if "signature" in question else key(option) == right

    check("parallel_key", parallel)


def test_circle():
    def close(question, abc, option):
        return abs(key(option).sharps - about(question, abc).sharps) <= 1 and key(option) != about(question, abc)

    check("closely_related_key", close)

    def steps(question, abc, option):
        mode, count, way = re.search(r"the (\w+) key (\d) steps? (counter-)?clockwise", question).groups()
        size = m21.interval.Interval("-P5" if way else "P5")
        tonic = about(question, abc).tonic
        for _ in range(int(count)):
            tonic = size.transposePitch(tonic)
        return key(option) == m21.key.Key(tonic.name, mode)

    check("circle_of_fifths", steps)


def test_roman_numerals():
    def numeral_fits(question, abc, option):
        named = re.search(r"does the (\S+ \w+) triad have in ([A-G]\S* \w+)\?", question)
        where = key(re.search(r"in ([A-G]\S* (?:major|minor))", question)[1])
        shown = triad(named[1]) if named else sounding(parsed(abc)[0])
        return in_key(option, where) == shown

    check("roman_numeral", numeral_fits)

    def chord_fits(question, abc, option):
        figure = re.search(r"which triad is ([ivIV°]+)\?", question)[1]
        return triad(option) == in_key(figure, about(question, abc))

    check("chord_of_numeral", chord_fits)

    def dominant(question, abc, option):
        figure = re.search(r"secondary dominant (V/\w+°?)", question)[1]
        return triad(option) == in_key(figure, about(question, abc))

    check("secondary_dominant", dominant)


def test_chord_function():
    def fits(question, abc, option):
        where = about(question, abc)
        name = re.search(r"has (\w+)", question)[1]
        root, _ = triad(option)
        degree = where.getScaleDegreeFromPitch(m21.pitch.Pitch(root), comparisonAttribute="step")
        served = ("I", "i", "ii", "ii°", "IV", "iv", "V", "VI", "vi", "vii°")
        assert any(triad(option) == in_key(each, where) for each in served)
        return ("I", "ii", "iii", "IV", "V", "vi", "vii")[degree - 1] in FUNCTIONS[name].split()

    check("chord_function", fits)


def test_cadence_type():
    def fits(question, abc, option):
        where = key(re.search(r"in ([A-G]\S* \w+) end", question)[1])
        if abc:
            chords = [sounding(chord) for chord in parsed(abc)]
        else:
            chords = [triad(words) for words in question.split(": ")[1].strip("?").split(", ")]
        ends = [
            tuple(each.replace("I", "i") if each == "I" and where.mode == "minor" else each for each in end)
            for end in CADENCES[option]
        ]
        ends += [("ii°", "V")] if option == "half cadence" and where.mode == "minor" else []
        return any([in_key(before, where), in_key(last, where)] == chords[-2:] for before, last in ends)

    check("cadence_type", fits)


def test_meter():
    def meter_fits(question, abc, option):
        return all(total(bar) == m21.meter.TimeSignature(option).barDuration.quarterLength for bar in bars(abc))

    check("meter_of_bar", meter_fits)

    def shown(question, abc):
        return m21.meter.TimeSignature(field(abc, "M") if abc else question.rstrip("?").split()[-1])

    check("meter_kind", lambda question, abc, option: shown(question, abc).classification.lower() == option)
    check("beat_of_meter", lambda q, abc, option: shown(q, abc).beatDuration.quarterLength == value(option))


def test_bars():
    def completes(question, abc, option):
        abc_note = len(option.split()) == 1
        unit = field(abc, "L")
        last = Fraction(alone(option, unit=unit).quarterLength) if abc_note else value(option)
        bar = m21.meter.TimeSignature(field(abc, "M")).barDuration.quarterLength
        return total(abc.replace(" ...", "")) + last == bar

    check("bar_completion", completes)

    def off(question, abc, option):
        bar = bars(abc)[int(option.split()[1]) - 1]
        return total(bar) != m21.meter.TimeSignature(field(abc, "M")).barDuration.quarterLength

    check("wrong_bar", off)
    check("count_notes", lambda question, abc, option: len(pitches(abc)) == int(option))


def test_values():
    def sums(question, abc, option):
        share, listed = re.search(r"many (\S+) notes .* row: (.*)\?", question).groups()
        return int(option) * VALUES[share] == sum(value(each) for each in listed.split(", "))

    check("total_of_values", sums)

    def dotted(question, abc, option):
        counted = re.search(r"many (\S+) notes last as long as (\d+) (.*)\?", question)
        if counted:
            return int(option) * VALUES[counted[1]] == int(counted[2]) * value(counted[3])
        unit, words = re.search(r"With L:(\S+), how .* as a (.*)\?", question).groups()
        return Fraction(alone(option, unit=unit).quarterLength) == value(words)

    check("dotted_value", dotted)

    def tuplet(question, abc, option):
        asked = total(abc) if "whole tuplet" in question else Fraction(parsed(abc)[0].quarterLength)
        return asked.limit_denominator(64) == 4 * Fraction(option)

    check("tuplet_duration", tuplet)

    def broken(question, abc, option):
        return parsed(abc)[0 if "first" in question else 1].quarterLength == 4 * Fraction(option)

    check("broken_rhythm", broken)


def test_key_of_real_tunes(corpus_sample):
    """Recounted from the letters alone: the notes written out fit the key named and contradict the others."""

    def fits(question, abc, option):
        heads = re.findall(r"([_^]?)([A-Ga-g])", abc.partition("\n| ")[2])
        written = {letter.upper() + {"^": "#", "_": "-", "": ""}[mark] for mark, letter in heads}
        assert len({name[0] for name in written}) == 7
        altered = {each.name for each in key(option).alteredPitches}
        return written == {each.name for each in rising("C D E F G A B") if each.step not in "".join(altered)} | altered

    check("key_of_tune", fits, corpus_sample)
