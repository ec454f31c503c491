"""Sound as it is measured, files as others read them, and the bombs that music.md names."""

import io
import os
import subprocess
import time
import wave

import numpy as np
import pytest

from musician.music.sound.engrave import engrave
from musician.music.sound.render import TooLong, midi, wav
from musician.music.sound.timbre import BELL, BOWED, FLUTE, ORGAN, PIANO, PLUCKED, RATE, REED, find_timbre, tone
from musician.runtime.errors import UserError
from musician.web.limits import Limits

from .conftest import Scripted, serving

mido = pytest.importorskip("mido")
LIMITS = Limits()
TIMBRES = [PIANO, PLUCKED, BELL, FLUTE, BOWED, REED, ORGAN]
JIG = "X:1\nT:J\nM:6/8\nL:1/8\nQ:3/8=60\nK:D\n|:d2f afd|e3 d3:|\n"


def samples(content):
    """Samples of a WAV file between -1 and 1, and its rate."""
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768, file.getframerate()


def strongest(sound, rate, start=0.0, end=None):
    """The strongest frequency of a stretch, in hertz, by interpolation between bins."""
    part = sound[int(start * rate) : int(end * rate) if end else None]
    size = 1 << 19
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), size))
    return float(spectrum.argmax() * rate / size)


@pytest.fixture(scope="module")
def page():
    with serving(Scripted("x")) as client:
        yield client


@pytest.mark.parametrize("name", ["acoustic_grand_piano", "flute", "violin", "accordion", "church_organ", "harp"])
@pytest.mark.parametrize(
    ("note", "hertz"), [("A4", 440), ("C4", 261.626), ("Bb3", 233.082), ("A5", 880), ("C#5", 554.365)]
)
def test_a_note_has_its_pitch(page, name, note, hertz):
    response = page.get(f"/sound/{name}-mp3/{note.replace('#', '%23')}.mp3")
    assert response.headers["content-type"] == "audio/wav"
    sound, rate = samples(response.content)
    assert strongest(sound, rate) == pytest.approx(hertz, abs=1)
    assert len(sound) / rate == pytest.approx(3, abs=0.01)
    assert 0.2 < np.abs(sound).max() < 0.95


def test_notes_are_kept_by_the_browser(page):
    assert "max-age" in page.get("/sound/flute/A4.wav").headers["cache-control"]


@pytest.mark.parametrize(
    "path",
    [
        "piano/H4.wav",
        "piano/A9.wav",
        "piano/A4.exe",
        "piano/A4",
        "theremin/A4.wav",
        "percussion-mp3/C4.mp3",
        "piano/G0.wav",
    ],
)
def test_what_does_not_sound_is_not_found(page, path):
    response = page.get(f"/sound/{path}")
    assert response.status_code == 404
    assert list(response.json()) == ["error"]


@pytest.mark.parametrize("timbre", TIMBRES)
@pytest.mark.parametrize("pitch", [21, 60, 108])
def test_a_tone_is_never_too_loud_and_begins_without_a_click(timbre, pitch):
    sound = tone(timbre, pitch, 1.5)
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() <= 1
    assert np.abs(sound[:8]).max() < 0.1


def test_a_struck_tone_dies_away_and_a_blown_one_does_not():
    def level(timbre, second):
        return np.sqrt(np.mean(tone(timbre, 69, 3)[int(second * RATE) :][: RATE // 2] ** 2))

    assert level(PIANO, 2.2) < 0.3 * level(PIANO, 0.1)
    assert level(FLUTE, 2.2) == pytest.approx(level(FLUTE, 0.6), rel=0.1)


def test_a_tune_sounds_in_time_and_in_tune():
    """A quarter note a second: A4, then C5 for two."""
    sound, rate = samples(wav("X:1\nL:1/4\nM:3/4\nQ:1/4=60\nK:C\nA c2|", 0, None, FLUTE, LIMITS))
    assert len(sound) / rate == pytest.approx(3, abs=0.2)
    assert strongest(sound, rate, 0.1, 0.9) == pytest.approx(440, abs=1.5)
    assert strongest(sound, rate, 1.2, 2.9) == pytest.approx(523.25, abs=1.5)


def test_tempo_and_transposition_are_heard():
    text = "X:1\nL:1/4\nM:2/4\nK:C\nAA|"
    sound, rate = samples(wav(text, 12, 60, FLUTE, LIMITS))
    assert len(sound) / rate == pytest.approx(2, abs=0.2)
    assert strongest(sound, rate, 0.1, 0.9) == pytest.approx(880, abs=2)
    assert len(samples(wav(text, 0, None, FLUTE, LIMITS))[0]) / rate == pytest.approx(1, abs=0.2)


def test_grace_notes_changes_of_tempo_and_da_capo_are_heard():
    """Four quarters at 60, two at 30 and the first bar again: 12 seconds; a grace note before the fourth."""
    text = "X:1\nL:1/4\nM:4/4\nQ:1/4=60\nK:C\nAAA{e}A!fine!|[Q:1/4=30]c2!D.C.!|]"
    sound, rate = samples(wav(text, 0, None, FLUTE, LIMITS))
    assert len(sound) / rate == pytest.approx(12, abs=0.2)
    assert strongest(sound, rate, 3.01, 3.12) == pytest.approx(659, abs=8)
    assert strongest(sound, rate, 3.3, 3.9) == pytest.approx(440, abs=2)
    assert strongest(sound, rate, 4.2, 7.8) == pytest.approx(523.25, abs=1)
    file = mido.MidiFile(file=io.BytesIO(midi(text, 0, None, LIMITS)))
    assert file.length == pytest.approx(12, abs=0.01)
    assert mido.MidiFile(file=io.BytesIO(midi(text, 0, 120, LIMITS))).length == pytest.approx(6, abs=0.01)


def test_many_notes_together_are_not_clipped():
    chord = "X:1\nL:1/1\nM:4/4\nK:C\n" + "[" + "CDEFGABcdefgab" * 2 + "]|"
    sound, _ = samples(wav(chord, 0, None, ORGAN, LIMITS))
    assert 0.5 < np.abs(sound).max() < 0.9


def test_a_wav_lasts_as_long_as_the_midi_file():
    """mido reads the length of the one, the other is measured: repeats are played in both."""
    file = mido.MidiFile(file=io.BytesIO(midi(JIG, 0, None, LIMITS)))
    sound, rate = samples(wav(JIG, 0, None, PIANO, LIMITS))
    assert file.length == pytest.approx(8, abs=0.01)
    assert len(sound) / rate == pytest.approx(file.length, abs=0.2)


def test_a_midi_file_has_the_notes(page):
    response = page.post("/api/midi", json={"abc": JIG, "transpose": 2})
    assert response.headers["content-disposition"] == 'attachment; filename="tune.mid"'
    file = mido.MidiFile(file=io.BytesIO(response.content))
    played = [event.note for track in file.tracks for event in track if event.type == "note_on" and event.velocity]
    assert played == [pitch + 2 for pitch in (74, 78, 81, 78, 74, 76, 74)] * 2


def test_the_text_can_be_had_transposed(page):
    response = page.post("/api/abc", json={"abc": JIG, "transpose": 3})
    assert response.headers["content-disposition"] == 'attachment; filename="tune.abc"'
    assert response.text == JIG.replace("K:D", "K:F").replace("d2f afd|e3 d3", "f2a c'af|g3 f3").rstrip("\n")
    assert page.post("/api/abc", json={"abc": JIG, "tempo": 3}).status_code == 422


def test_musicxml_is_read_by_music21(page):
    converter = pytest.importorskip("music21.converter")
    response = page.post("/api/musicxml", json={"abc": JIG})
    assert response.status_code == 200
    read = converter.parse(response.text, format="musicxml")
    assert [pitch.midi for pitch in read.flatten().pitches] == [74, 78, 81, 78, 74, 76, 74]


BOMBS = {
    "a long note": "X:1\nL:1/1\nK:C\nC999999999|",
    "many long notes": "X:1\nL:1/1\nK:C\n" + "C9999|" * 300,
    "a slow tempo": "X:1\nL:1/4\nQ:1/4=4\nK:C\n" + "C4|" * 200,
    "a slow tempo within": "X:1\nL:1/4\nK:C\nC|" + "[Q:1/4=4]C4|" * 200,
    "grace notes": "X:1\nL:1/4\nK:C\n" + "{cdefgab}C|" * 1500,
    "a slower one": "X:1\nL:1/4\nQ:1/4=5\nK:C\nC2000|",
    "nested parts": "X:1\nP:((((((((A)9)9)9)9)9)9)9)9\nL:1/8\nK:C\nP:A\n" + "cdef|" * 40,
    "nested parts of rests": "X:1\nP:((((((((A)9)9)9)9)9)9)9)9\nL:1/8\nK:C\nP:A\n" + "z/64" * 4000 + "c|",
    "deep parentheses": "X:1\nP:" + "(" * 900 + "A" + ")9" * 900 + "\nK:C\nP:A\nc|",
    "a line without end": "X:1\nK:C\n" + "C" * 19_000,
    "repeats": "X:1\nL:1/64\nK:C\n|:" + "cdef" * 400 + ":::::::::::::::::|" * 50,
    "a wide chord": "X:1\nL:1/1\nK:C\n" + ("[" + "CDEFGABcdefgab" * 6 + "]30|") * 20,
    "a long rest": "X:1\nK:C\nc Z9999|",
    "long overlays": "X:1\nL:1/1\nK:C\n" + "C100&" * 400 + "C100|",
}


@pytest.mark.parametrize("kind", ["wav", "midi", "musicxml"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_any_work(page, kind, name):
    start = time.process_time()
    response = page.post(f"/api/{kind}", json={"abc": BOMBS[name]})
    assert response.status_code == 413, response.text[:200]
    assert "\n" not in response.json()["error"]
    assert time.process_time() - start < 3  # seconds of CPU, the server's included: it runs in this process


@pytest.mark.parametrize("tempo", ["1/4=1", "1/128=1", "1/4=0", "1/4=99999999"])
def test_a_tempo_beyond_sense_is_refused(page, tempo):
    response = page.post("/api/wav", json={"abc": f"X:1\nQ:{tempo}\nK:C\nC|"})
    assert response.status_code == 422
    assert "tempo" in response.json()["error"]


@pytest.mark.parametrize("text", ["", "X:1\nK:C\n", "????", "X:1\nK:C\nz8|", "\0\0", "%%abc-include /etc/passwd"])
@pytest.mark.parametrize("kind", ["wav", "midi", "musicxml"])
def test_silence_is_refused(page, kind, text):
    response = page.post(f"/api/{kind}", json={"abc": text})
    assert response.status_code == 422
    assert "no note" in response.json()["error"]


@pytest.mark.parametrize("body", [{"abc": "C", "transpose": 99}, {"abc": "C", "tempo": 0}, {"abc": 3}, {}])
def test_what_is_out_of_range_is_refused(page, body):
    assert page.post("/api/wav", json=body).status_code == 422


def test_an_instrument_that_is_none_is_refused(page):
    assert page.post("/api/wav", json={"abc": JIG, "instrument": "theremin"}).status_code == 404


def test_the_caps_are_those_of_the_configuration():
    small = Limits(notes=6)
    assert wav("X:1\nK:C\ncdefga|", 0, None, PIANO, small)
    with pytest.raises(TooLong, match="6 notes"):
        wav("X:1\nK:C\ncdefgab|", 0, None, PIANO, small)
    with pytest.raises(TooLong, match="6 notes"):
        wav("X:1\nK:C\n|:cdef:|", 0, None, PIANO, small)
    with pytest.raises(TooLong, match="2 seconds"):
        wav("X:1\nL:1/4\nQ:1/4=60\nK:C\nc3|", 0, None, PIANO, Limits(sound_seconds=2))
    with pytest.raises(UserError, match="more than 0"):
        Limits(notes=0)


def test_directives_reach_no_file_and_no_tool(page, tmp_path, monkeypatch):
    """Neither a process is started nor a file read that the text names; what is made says nothing of either."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    asks = f"%%abc-include {secret}\n%%format {secret}\n"
    text = f"{asks}X:1\nI:abc-include {secret}\n%%MIDI program 5\n{asks}K:C\n{asks}CDEF|\n[I:abc-include {secret}]G|"

    started, really = [], subprocess.Popen.__init__

    def watch(self, command, *arguments, **options):
        started.append(command)
        really(self, command, *arguments, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", watch)
    monkeypatch.setenv("MUSICIAN_PASSWORD", "hidden")
    for kind in ("midi", "wav", "musicxml"):
        response = page.post(f"/api/{kind}", json={"abc": text})
        assert response.status_code == 200, response.text
        assert b"secret" not in response.content
    assert [command[1:] for command in started] == [
        ["-m", "musician.music.sound.engrave", "20"]
    ]  # no tool but our own Python


def test_what_music21_cannot_write_is_refused(page):
    response = page.post("/api/musicxml", json={"abc": "X:1\nM:4/4\nL:1/8\nK:C\n" + "c3/7d5/11e7/13f2/9" * 40})
    assert response.status_code == 422
    assert "music21 cannot write" in response.json()["error"]


def test_music21_is_ended_when_it_takes_too_long():
    """600 notes of 1/1024 keep it busy for some 40 CPU-seconds."""
    before = sum(os.times()[2:4])
    with pytest.raises(UserError, match="took over 2 CPU-seconds"):
        engrave("X:1\nM:4/4\nL:1/8\nK:C\n" + "c/128" * 600, cpu_seconds=2)
    assert 1 < sum(os.times()[2:4]) - before < 6


ATTACKS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "]]><script>alert(1)</script>",
    "--><script>",
    "&lt;&#60;script>",
    '"><svg onload=alert(1)>',
    "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;",
    "javascript:alert(1)",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_title_is_text(page, attack):
    from xml.etree import ElementTree

    body = {"abc": f"X:1\nT:{attack}\nC:{attack}\nK:C\nCDEF|"}
    written = page.post("/api/musicxml", json=body)
    assert written.status_code == 200
    tags = {element.tag for element in ElementTree.fromstring(written.content).iter()}
    assert not tags & {"script", "img", "svg"}
    checked = page.post("/api/check", json=body)
    assert checked.headers["content-type"] == "application/json"
    assert checked.json()["tunes"][0]["title"] == attack


def test_instruments_have_the_sound_of_their_kind():
    names = {"acoustic_grand_piano": PIANO, "violin": BOWED, "flute": FLUTE, "accordion": REED, "music_box": BELL}
    assert {name: find_timbre(name) for name in names} == names
