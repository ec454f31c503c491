import shutil

import pytest

from musician.music.abc.reader import parse_tune
from musician.music.analysis.measures import first_tune, measure_format, measure_tune
from musician.music.sound.abc2midi import Abc2midi

HEADER = "X:1\nM:4/4\nL:1/8\nK:G\n"

#: What each text is: extracted by the original's pattern, header, strict, share of right bars.
TEXTS = {
    "one voice": (HEADER + "GABc dedB|dedB dedB|c2ec B2dB|A2F2 G4|]\n", 1, 1, 1, 1.0),
    "pick-up": (HEADER + "D2|GABc dedB|dedB d2:|\n", 1, 1, 1, 1.0),
    "endings": (HEADER + "|:GABc dedB|1 d8:|2 G8|]\n", 1, 1, 1, 1.0),
    "tuplets and broken rhythm": (HEADER + "(3GAB c2 d>edB|d<e dB d4|]\n", 1, 1, 1, 1.0),
    "inline meter": (HEADER + "GABc dedB|[M:3/4]d2 e2 d2|[M:4/4]G8|]\n", 1, 1, 1, 1.0),
    "two voices": (HEADER + "V:1\nG8|A8|]\nV:2\nB8|c8|]\n", 1, 1, 1, 1.0),
    "short bar": (HEADER + "GABc dedB|dedB d2|c2ec B2dB|A2F2 G4|]\n", 1, 1, 0, 0.75),
    "one-line header": ("X:1 L:1/8 M:4/4 K:G GABc dedB|dedB dedB|]", 0, 1, 1, 1.0),
    "no bar line": (HEADER + "G2Bc dedB\n", 1, 0, 0, 1.0),
    "text around": (f"Here it is:\n\n{HEADER}GABc dedB|G8|]\n\nI hope you like it.", 1, 1, 1, 1.0),
    "two tunes": (f"{HEADER}G8|A8|]\n\n{HEADER}G2|]\n", 1, 1, 1, 1.0),
    "X twice": (f"X:1\n{HEADER}G8|A8|]\n", 1, 1, 1, 1.0),
    "unreadable meter": (HEADER.replace("4/4", "four") + "G8|A8|]\n", 1, 0, 0, None),
    "no key": ("X:1\nM:4/4\nL:1/8\nG8|A8|]\n", 1, 0, 0, 1.0),
}


@pytest.mark.parametrize("name", TEXTS)
def test_levels_and_bars_of_known_texts(name):
    text, extracted, header, strict, right = TEXTS[name]
    levels = measure_format(text)
    assert levels == {"format/extracted": extracted, "format/header": header, "format/strict": strict}
    assert measure_tune(first_tune(text)).get("bars/right") == right


@pytest.mark.parametrize("text", ["", "A fine day.", "X:1\nK:C\n", "X:1\nK:C\nzzzz|\n"])
def test_without_notes_there_is_no_tune(text):
    assert first_tune(text) is None
    assert measure_format(text)["format/strict"] == 0


def test_repetition_signs_phrases_and_loops():
    abab = measure_tune(parse_tune(HEADER + "G8|A8|B8|c8|G8|A8|B8|c8|]\n"))
    assert abab["repetition/signs"] == 0
    assert abab["repetition/written_2"] == 0.5
    assert abab["repetition/written_4"] == 0.5
    assert abab["repetition/longest_run"] == 1
    assert "repetition/written_8" not in abab
    loop = measure_tune(parse_tune(HEADER + "|:GABc dedB:|" + "GABc dedB|" * 199))
    assert loop["repetition/signs"] == 1
    assert loop["repetition/longest_run"] == 200
    assert loop["repetition/written_8"] == 0.96
    fresh = measure_tune(parse_tune(HEADER + "G8|A8|B8|c8|d8|e8|f8|g8|]\n"))
    assert fresh["repetition/written_2"] == fresh["repetition/written_4"] == 0


def test_notes_outside_the_key_signature():
    assert measure_tune(parse_tune(HEADER + "^F2 F2 =F2 ^G2|"))["key/outside"] == 0.5
    assert measure_tune(parse_tune("X:1\nM:4/4\nL:1/8\nK:D\nF2 =c2 [K:C]c2 ^c2|"))["key/outside"] == 0.5


needs_abc2midi = pytest.mark.skipif(shutil.which("abc2midi") is None, reason="no abc2midi; apt install abcmidi")


@needs_abc2midi
def test_abc2midi_agrees_on_what_is_plain():
    second = Abc2midi.installed()
    good = second.report(TEXTS["one voice"][0])
    assert (good.errors, good.bar_warnings, good.notes) == ((), (), True)
    short = second.report(TEXTS["short bar"][0])
    assert not short.errors
    assert len(short.bar_warnings) == 1
    assert second.report("no music").notes is False
    assert measure_format(TEXTS["short bar"][0], second)["format/abc2midi"] == 1


@needs_abc2midi
@pytest.mark.parametrize(
    "bomb",
    [
        HEADER + "C999999999|\n",
        "X:1\nP:" + "(" * 500 + "A" + ")9" * 500 + "\nK:C\nP:A\nC|\n",
        HEADER + "Z9999999|\n",
        HEADER + "C" * 2_000_000 + "|\n",
        "%%abc-include /etc/passwd\n" + HEADER + "[I:abc-include /etc/passwd]G8|\n",
    ],
)
def test_bombs_end_soon_and_include_nothing(bomb):
    report = Abc2midi.installed().report(bomb)
    assert not any("root" in line for line in (*report.errors, *report.bar_warnings))
