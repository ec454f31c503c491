import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musician.data.sources.corpus import iter_tunes
from musician.music.abc.reader import parse_tune
from musician.music.analysis.family import families, fingerprint

SHARP_NAMES = ["C", "^C", "D", "^D", "E", "F", "^F", "G", "^G", "A", "^A", "B"]
EVENTS = st.lists(st.tuples(st.integers(50, 80), st.sampled_from([1, 2, 3, 4, 6])), min_size=2, max_size=60)


def spelled(midi: int) -> str:
    octave, place = divmod(midi, 12)
    name = SHARP_NAMES[place]
    name = name if name.startswith("^") else "=" + name
    return name + ("'" * (octave - 5) if octave > 5 else "," * (5 - octave))


def written(events: list[tuple[int, int]], *, up: int = 0, unit: int = 8, title: str = "A", per_bar: int = 4) -> str:
    """Spell (pitch, eighths) as ABC by a route that shares nothing with the reader: every pitch has its accidental."""
    notes = [f"{spelled(midi + up)}{eighths * unit // 8}" for midi, eighths in events]
    bars = [" ".join(notes[start : start + per_bar]) for start in range(0, len(notes), per_bar)]
    return f"X:1\nT:{title}\nL:1/{unit}\nK:C\n" + "|\n".join(bars) + "|"


@settings(deadline=None)
@given(EVENTS, st.integers(-12, 12), st.sampled_from([8, 16, 32]), st.integers(1, 9))
def test_key_unit_title_and_bars_leave_no_trace(
    events: list[tuple[int, int]], up: int, unit: int, per_bar: int
) -> None:
    assert fingerprint(written(events)) == fingerprint(written(events, up=up, unit=unit, title="B", per_bar=per_bar))


@settings(deadline=None)
@given(EVENTS, st.data())
def test_another_melody_has_another_fingerprint(events: list[tuple[int, int]], data: st.DataObject) -> None:
    place = data.draw(st.integers(1, len(events) - 1))
    changed = [*events[:place], (events[place][0] + 1, events[place][1]), *events[place + 1 :]]
    assert fingerprint(written(events)) != fingerprint(written(changed))


def test_real_tunes_keep_their_fingerprint(corpus_sample: list[str]) -> None:
    for text in corpus_sample[::5]:
        retitled = re.sub(r"(?m)^T:.*$", "T:Another Name", text)
        assert fingerprint(text) == fingerprint(retitled) == fingerprint(retitled.replace("|\n", "|"))


@given(st.text())
def test_any_text_has_a_fingerprint(text: str) -> None:
    assert re.fullmatch("[0-9a-f]{32}", fingerprint(text))


def test_text_without_notes_is_named_by_its_words() -> None:
    assert fingerprint("???  !!") == fingerprint("??? !!\n") != fingerprint("???")


def test_a_planted_transposed_copy_joins_its_tune(corpus_sample: list[str]) -> None:
    texts = corpus_sample[:60]
    for source in (3, 17, 41):
        notes = [note for note in parse_tune(texts[source]).notes if note.midi is not None and not note.stacked]
        events = [(note.midi or 0, int(note.duration * 96)) for note in notes][2:60]
        texts = [*texts, written(events, up=5, title="Planted").replace("L:1/8", "L:1/96")]
        keys = families(texts)
        assert keys[-1] == keys[source]


def test_families_do_not_depend_on_order(corpus_sample: list[str]) -> None:
    order = list(range(len(corpus_sample)))
    random.Random(1).shuffle(order)
    keys = families(corpus_sample)
    assert families([corpus_sample[place] for place in order]) == [keys[place] for place in order]
    assert families([]) == []


@pytest.mark.slow
def test_the_default_corpus_falls_into_many_small_families() -> None:
    keys = families([tune.text for tune in iter_tunes()])
    sizes = Counter(keys).values()
    assert max(sizes) < 0.02 * len(keys)
    assert 3000 < len(sizes) < 4000
