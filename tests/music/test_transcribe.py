"""MIDI performances as ABC, read back by abc2midi and music21, which share nothing with the writer."""

import contextlib
import io
import random
from collections import Counter
from fractions import Fraction

import pytest
from abc_readers import abc2midi_complaints, abc2midi_notes, music21_heard
from hypothesis import given, settings
from hypothesis import strategies as st

from musician.data.sources.corpus import COLLECTIONS, iter_tunes
from musician.music.abc.key import named_key
from musician.music.abc.meter import Meter
from musician.music.abc.reader import parse_tune
from musician.music.abc.repeats import playing_order
from musician.music.analysis.check import check_bars
from musician.music.convert.beats import ScoreNote, quantise
from musician.music.convert.induction import Bars, find_bars, find_key
from musician.music.convert.notate import notate, spelled
from musician.music.convert.performance import read_midi
from musician.music.convert.transcribe import transcribe
from musician.music.sound.sounding import sounding, to_midi
from musician.runtime.errors import UserError

mido = pytest.importorskip("mido")
from played import humanise  # noqa: E402

PART = (0, 0)
SIZE = 150


def midi(*notes, ticks=480, meter=None, channel=0):
    """A file of one track: (onset, pitch, length) in quarters."""
    file = mido.MidiFile(ticks_per_beat=ticks)
    track = mido.MidiTrack()
    if meter:
        track.append(mido.MetaMessage("time_signature", numerator=meter[0], denominator=meter[1]))
    events = [(round(onset * ticks), 64, pitch) for onset, pitch, _ in notes]
    events += [(round((onset + length) * ticks), 0, pitch) for onset, pitch, length in notes]
    now = 0
    for time, velocity, pitch in sorted(events):
        track.append(mido.Message("note_on", channel=channel, note=pitch, velocity=velocity, time=time - now))
        now = time
    file.tracks.append(track)
    written = io.BytesIO()
    file.save(file=written)
    return written.getvalue()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Tunes of all collections as MIDI, with their notes in quarters as the reader has them."""
    path = tmp_path_factory.mktemp("midi") / "tune.mid"
    found = []
    for tune in random.Random(11).sample(list(iter_tunes(list(COLLECTIONS))), SIZE):
        read = parse_tune(tune.text)
        to_midi(read, path, graces=False)
        notes = [note for order in playing_order(read).values() for note in sounding(order.bars)]
        found.append((path.read_bytes(), [(note.onset * 4, note.midi, note.duration * 4) for note in notes]))
    return found


def from_first(notes):
    """Notes timed from the first."""
    first = min(onset for onset, _, _ in notes)
    return Counter((near(onset - first), pitch, near(length)) for onset, pitch, length in notes)


def near(time):
    """In 1/96 of a quarter: abc2midi ends a note one of its 480 ticks early where its pitch comes again."""
    return round((Fraction(time) + Fraction(1, 960)) * 96)


def recovered(read, meant):
    return (from_first(read) & from_first(meant)).total()


def rate(rendered, folder, played):
    total = right = wrong_bars = 0
    for number, (data, meant) in enumerate(rendered):
        text = transcribe(played(data, number)).text
        wrong_bars += bool(check_bars(parse_tune(text)))
        right += recovered(abc2midi_notes(text, folder), meant)
        total += len(meant)
    assert wrong_bars == 0
    return right / total


def test_of_what_is_rendered_abc2midi_plays_all_notes_again(rendered, tmp_path):
    share = rate(rendered, tmp_path, lambda data, _: data)
    print(f"plain: {share:.4f} of the notes exactly")
    assert share >= 0.99


@pytest.mark.slow
def test_of_what_is_played_by_hand_nearly_all_notes(rendered, tmp_path):
    """Starts and ends off by up to 20 ms, tempo swinging by 5 %."""
    share = rate(rendered, tmp_path, humanise)
    print(f"humanised: {share:.4f} of the notes exactly")
    assert share >= 0.9


@pytest.mark.slow
def test_music21_reads_the_same_notes(rendered):
    total = right = 0
    for data, meant in rendered[::5]:
        right += recovered(music21_heard(transcribe(data).text), meant)
        total += len(meant)
    print(f"music21: {right / total:.4f}")
    assert right >= 0.99 * total


@pytest.mark.slow
def test_a_tempo_the_file_does_not_know_is_found_up_to_a_factor(rendered):
    right = total = 0
    for number, (data, meant) in enumerate(rendered[:40]):
        slower = random.Random(number).uniform(0.75, 1.4)
        notes = quantise(read_midi(humanise(data, number, tempo=slower)))
        scales = map(Fraction, ("1", "2", "1/2", "3/2", "2/3", "4/3", "3/4"))
        right += max(
            recovered([(note.onset * by, note.midi, note.duration * by) for note in notes], meant) for by in scales
        )
        total += len(meant)
    print(f"free tempo, up to a factor: {right / total:.4f}")
    assert right >= 0.7 * total


def test_a_broken_reading_would_be_seen(rendered, tmp_path):
    """The measure itself: one semitone or a quarter of a beat off is not recovered."""
    _, meant = rendered[0]
    assert recovered(meant, meant) == len(meant)
    assert recovered([(onset, pitch + 1, length) for onset, pitch, length in meant], meant) < len(meant) / 2
    assert recovered([(onset, pitch, length + Fraction(1, 4)) for onset, pitch, length in meant], meant) == 0


def times(odd):
    return st.builds(Fraction, st.integers(1, 24), st.sampled_from([1, 2, 4, odd, 2 * odd]))


def steps(odd):
    pitches = st.sets(st.integers(30, 100), min_size=1, max_size=3)
    return st.lists(st.tuples(times(odd), times(odd), pitches), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 3, 5, 7]).flatmap(steps),
    st.sampled_from([Meter(4, 4), Meter(6, 8), Meter(3, 4), Meter(7, 8), Meter(2, 2)]),
    st.integers(0, 5),
    st.integers(-6, 6),
)
def test_whatever_the_times_bars_add_up_and_the_notes_are_there(steps, meter, pickup, sharps):
    notes, now = [], Fraction(0)
    for gap, length, pitches in steps:
        notes += [ScoreNote(now, length, pitch, PART) for pitch in pitches]
        now += gap
    key = named_key({0: "C", 1: "G", 2: "D", 3: "A", 4: "E", 5: "B", 6: "F#"}.get(sharps, "Bb"))
    tune = parse_tune(notate(notes, Bars(meter, Fraction(pickup, 2) % (meter.duration * 4)), key))
    assert check_bars(tune) == []
    heard = {(n.onset * 4, n.midi, n.duration * 4) for bars in tune.voices.values() for n in sounding(bars)}
    assert heard == {(note.onset, note.midi, note.duration) for note in notes}


def test_the_writing_itself(tmp_path):
    notes = [(0, 67, 1), (1, 69, 3), (4, 66, 3), (7, 72, Fraction(1, 3)), (Fraction(22, 3), 71, Fraction(1, 3))]
    notes += [(Fraction(23, 3), 69, Fraction(1, 3)), (8, 67, 3), (8, 71, 3)]
    text = transcribe(midi(*notes, ticks=960, meter=(3, 4)), "A  title").text
    assert abc2midi_complaints(text, tmp_path) == []
    assert "T:A title\n" in text
    assert "(3" in text
    assert "[GB]" in text


def test_two_hands_are_two_voices_and_held_notes_are_tied():
    text = transcribe(midi((0, 72, 6), (0, 48, 2), (2, 50, 2), (4, 52, 2), (6, 76, 2), (6, 48, 2), meter=(4, 4))).text
    tune = parse_tune(text)
    assert len(tune.voices) == 2
    assert all(sum(bar.duration for bar in bars) == 2 for bars in tune.voices.values())
    assert any(note.tie for note in tune.notes)


@pytest.mark.parametrize(
    ("pitch", "tonic", "mode", "written"),
    [(66, "G", "maj", "F"), (66, "C", "maj", "F"), (70, "C", "maj", "B"), (63, "E", "min", "D"), (68, "A", "min", "G")],
)
def test_notes_are_spelled_by_the_key(pitch, tonic, mode, written):
    found = spelled(pitch, named_key(tonic, mode))
    assert found.letter == written
    assert found.midi == pitch


@given(st.integers(0, 127), st.sampled_from(["C", "F#", "Gb", "Bb", "A"]), st.sampled_from(["maj", "min", "dor"]))
def test_every_spelling_sounds_as_it_should(pitch, tonic, mode):
    found = spelled(pitch, named_key(tonic, mode))
    assert found.midi == pitch
    assert abs(found.alter) <= 2


def test_key_and_bars_are_found_more_often_than_not(corpus_sample):
    """Whole tunes with their repeats; where no time signature says so, the rest is a guess (docs/abc.md)."""
    keys = bars = metered = 0
    tunes = [parse_tune(text) for text in corpus_sample[::3]]
    for tune in tunes:
        order = next(iter(playing_order(tune).values())).bars
        notes = [ScoreNote(n.onset * 4, n.duration * 4, n.midi, PART) for n in sounding(order)]
        keys += find_key(notes).sharps == tune.key.sharps
        if tune.meter and all(bar.meter == tune.meter for bar in tune.bars):
            first = tune.bars[0].duration
            metered += 1
            bars += find_bars(notes, tune.meter).pickup == (first * 4 if first < tune.meter.duration else 0)
    print(f"key signature: {keys} of {len(tunes)}; first bar line: {bars} of {metered}")
    assert keys >= 0.7 * len(tunes)
    assert bars >= 0.65 * metered


@pytest.mark.parametrize("data", [b"", b"MThd", b"no midi at all", b"MThd" + bytes(40), midi(), midi((0, 60, 1))[:30]])
def test_what_is_no_music_is_refused(data):
    with pytest.raises(UserError):
        transcribe(data)


def test_percussion_is_counted_and_bombs_are_refused():
    assert "percussion" in Counter(transcribe(midi((0, 60, 1)))._fields)
    with pytest.raises(UserError, match="no note"):
        transcribe(midi((0, 36, 1), channel=9))
    with pytest.raises(UserError, match="too long"):
        transcribe(midi((0, 60, 1), (50_000, 60, 1)))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 120))
def test_no_bytes_raise_anything_else(noise, place):
    whole = midi((0, 60, 1), (1, 62, 1), (2, 64, 2))
    with contextlib.suppress(UserError):
        transcribe(whole[:place] + noise + whole[place + len(noise) :])
