"""Copies, benchmark questions and broken characters: planted ones are found, others are left, and all are counted."""

import random
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musician.benchmarks.multiple_choice.question import Question
from musician.data.quality import duplicates
from musician.data.quality.filters import Quality
from musician.data.quality.repair import DOS, LEFT, MARK, MOJIBAKE, repair, repaired
from musician.data.quality.sketch import minhash
from musician.data.rendering.conversation import Document
from musician.data.sources.corpus import iter_tunes
from musician.data.sources.source import RowSource
from musician.data.store import shards
from musician.data.store.prepare import Recipe, content_key, prepare
from musician.data.store.prepared import PreparedData, read_meta
from musician.music.abc.reader import parse_tune
from musician.music.edit.transpose import transpose_by
from musician.runtime.errors import UserError

from .oracles import same_tune_in_g, tune_in_c, write_jsonl

WORDS = [f"word{number}" for number in range(400)]


def prose(seed, length=120):
    return random.Random(seed).choices(WORDS, k=length)


def dropped(rows, renderer, tmp_path, quality):
    """What is dropped of rows, by reason; every row is accounted for."""
    rows = [{"text": row} if isinstance(row, str) else row for row in rows]
    source = RowSource(write_jsonl(tmp_path / "rows.jsonl", rows))
    directory = prepare(source, renderer, Recipe(4096, quality=quality), tmp_path / "data")
    meta = read_meta(directory)
    assert meta["rows_in"] == len(rows) == meta["rows_out"] + sum(meta["dropped"].values())
    return meta["dropped"], PreparedData(directory, renderer.tokenizer).split("train")


def kept_texts(split, renderer):
    return [renderer.read_text(split.input_ids(number).tolist()) for number in range(len(split))]


# --- exact copies -----------------------------------------------------------------------------------------------------


def test_nothing_is_dropped_unless_asked_for(byte_renderer, tmp_path):
    assert dropped(["a", "a", "b"], byte_renderer, tmp_path, Quality())[0] == {}


def test_an_exact_copy_is_dropped_and_the_first_stays_in_its_place(byte_renderer, tmp_path):
    reasons, split = dropped(["a", "b", "a", "A", "a", ""], byte_renderer, tmp_path, Quality(exact=True))
    assert reasons == {"exact copy": 2, "empty text": 1}
    assert kept_texts(split, byte_renderer) == ["a", "b", "A"]


def test_a_conversation_is_a_copy_only_with_all_its_turns(byte_renderer, tmp_path):
    def chat(*turns):
        return {"messages": [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]}

    rows = [
        chat("q", "a"),
        chat("q", "b"),
        chat("q", "a", "q", "a"),
        chat("q", "a"),
        {"instruction": "q", "output": "a"},
    ]
    assert dropped(rows, byte_renderer, tmp_path, Quality(exact=True))[0] == {"exact copy": 2}


# --- copies of melodies -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus():
    """600 tunes of the corpus, those whose bodies are alike left out."""
    tunes = {tune.text.partition("K:")[2]: tune.text for tune in iter_tunes(["oneills1850"])}
    return list(tunes.values())[:600]


def higher(text, semitones):
    return transpose_by(parse_tune(text), semitones)


def rebarred(text):
    """No bar lines but repeats, one line of music; a tune with accidentals keeps its own: they would sound on."""
    if any(sign in text.partition("\nK:")[2] for sign in "^_="):
        return retitled(text, "Not re-barred")
    header, key, body = text.partition("\nK:")
    first, _, music = body.partition("\n")
    music = "".join(line.partition("%")[0] + " " for line in music.splitlines())
    return f"{header}{key}{first}\n" + music.replace("||", "|").replace("| ", "").replace(" |", " ") + "\n"


def retitled(text, name):
    return "\n".join(f"T:{name}" if line.startswith("T:") else line for line in text.splitlines()) + "\n"


def found_among(corpus, change, byte_renderer, tmp_path, quality):
    """Share of changed copies that are dropped, of originals that are."""
    rows = [{"text": text} for text in [*corpus, *map(change, corpus)]]
    source = RowSource(write_jsonl(tmp_path / "rows.jsonl", rows))
    directory = prepare(source, byte_renderer, Recipe(1 << 15, quality=quality), tmp_path / "data")
    texts = Counter(kept_texts(PreparedData(directory, byte_renderer.tokenizer).split("train"), byte_renderer))
    originals = sum(texts[text] > 0 for text in corpus)
    copies = sum(texts[change(text)] > (change(text) in corpus) for text in corpus)
    return 1 - copies / len(corpus), 1 - originals / len(corpus)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [lambda t: higher(t, 3), lambda t: higher(t, -2), rebarred, lambda t: retitled(t, "Another")],
    ids=["minor third up", "whole tone down", "re-barred", "retitled"],
)
def test_planted_copies_of_tunes_are_found(change, corpus, byte_renderer, tmp_path):
    recall, lost = found_among(corpus[:300], change, byte_renderer, tmp_path, Quality(melody=True))
    assert recall >= 0.99
    assert lost <= 0.03  # real twins: O'Neill has some of his own


def shuffled(text, seed):
    """The notes of a tune in another order: alike in everything but the melody."""
    header, key, body = text.partition("\nK:")
    first, _, music = body.partition("\n")
    notes = music.split()
    random.Random(seed).shuffle(notes)
    return f"{header}{key}{first}\n{' '.join(notes)}\n"


@pytest.mark.slow
def test_shuffled_tunes_are_not_taken_for_copies(corpus, byte_renderer, tmp_path):
    """1,200 of 300 tunes, four orders of each."""
    rows = list(dict.fromkeys(shuffled(text, seed) for text in corpus[:300] for seed in range(4)))
    reasons, _ = dropped(rows, byte_renderer, tmp_path, Quality(melody=True, near_text=0.85))
    assert sum(reasons.values()) <= len(rows) / 1000


def test_a_copy_by_hand_is_found_and_words_around_a_tune_count(byte_renderer, tmp_path):
    tune = tune_in_c(1)
    copy = same_tune_in_g(tune, "Copy")
    rows = [tune, copy, f"A reel:\n\n{tune}", f"A reel:\n\n{copy}", f"A jig:\n\n{copy}", tune_in_c(2)]
    assert dropped(rows, byte_renderer, tmp_path, Quality(melody=True))[0] == {"copy of a melody": 2}


def test_melodies_too_short_to_prove_anything_are_left(byte_renderer, tmp_path):
    rows = ["X:1\nL:1/8\nK:C\nCDE|\n", "X:1\nL:1/8\nK:D\nDEF|\n"]
    assert dropped(rows, byte_renderer, tmp_path, Quality(melody=True))[0] == {}


# --- near copies of texts ---------------------------------------------------------------------------------------------


def runs(words):
    return {tuple(words[start : start + 5]) for start in range(max(1, len(words) - 4))}


def jaccard(one, other):
    return len(runs(one) & runs(other)) / len(runs(one) | runs(other))


def edited(words, changes, seed):
    words, rng = list(words), random.Random(seed)
    for place in rng.sample(range(len(words)), changes):
        words[place] = f"other{rng.random()}"
    return words


def test_minhash_estimates_the_jaccard_similarity():
    """Against the sets themselves."""
    pairs = [(prose(seed), edited(prose(seed), seed % 12, seed)) for seed in range(60)]
    values = minhash(" ".join(words) for pair in pairs for words in pair)
    estimates = (values[::2] == values[1::2]).mean(axis=1)
    errors = estimates - [jaccard(*pair) for pair in pairs]
    assert np.abs(errors).max() < 0.17  # four standard errors
    assert abs(errors.mean()) < 0.02


def test_planted_near_copies_are_found_and_others_left(byte_renderer, tmp_path):
    """A word of 120 changed: similarity 0.92. Twelve: below 0.6."""
    texts = [prose(seed) for seed in range(200)]
    near = [edited(words, 1, seed) for seed, words in enumerate(texts)]
    far = [edited(words, 12, seed) for seed, words in enumerate(texts)]
    assert min(map(jaccard, texts, near)) > 0.91
    assert max(map(jaccard, texts, far)) < 0.65
    reasons, _ = dropped(
        [" ".join(words) for words in (*texts, *near, *far)], byte_renderer, tmp_path, Quality(near_text=0.8)
    )
    assert set(reasons) == {"near copy of a text"}
    assert 198 <= reasons["near copy of a text"] <= 201


def test_case_punctuation_and_line_ends_do_not_hide_a_copy(byte_renderer, tmp_path):
    text = " ".join(prose(1))
    rows = [text, text.upper().replace(" ", ",\n"), " ".join(prose(2))]
    assert dropped(rows, byte_renderer, tmp_path, Quality(near_text=1.0))[0] == {"near copy of a text": 1}


@settings(deadline=None, max_examples=60)
@given(data=st.data(), least=st.sampled_from([0.7, 0.9]))
def test_near_copies_are_those_of_all_pairs(data, least):
    """Against every pair compared; rows that are out of the comparison join nothing."""
    kinds = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=14))
    among = np.array(data.draw(st.lists(st.booleans(), min_size=len(kinds), max_size=len(kinds))))
    values = np.stack([np.random.default_rng(kind).integers(2**32, size=128, dtype=np.uint32) for kind in kinds])
    for row, changes in enumerate(
        data.draw(st.lists(st.sampled_from([0, 4, 10, 16]), min_size=len(kinds)))[: len(kinds)]
    ):
        values[row, :changes] = np.random.default_rng(1000 + row).integers(2**32, size=changes, dtype=np.uint32)
    found = set(duplicates._near(values, among, least).tolist())
    groups = {row: row for row in np.flatnonzero(among).tolist()}
    for one in groups:
        for other in groups:
            if one < other and np.mean(values[one] == values[other]) >= least:
                old, new = groups[other], groups[one]
                groups = {row: new if group == old else group for row, group in groups.items()}
    expected = set(groups) - {min(r for r in groups if groups[r] == group) for group in set(groups.values())}
    assert found == expected


# --- benchmark questions ----------------------------------------------------------------------------------------------

TUNE = "X:1\nL:1/8\nM:6/8\nK:D\nd2e fgf|e2d B2A|d2e f2a|g2f e3|a2f dfa|gfe d2c|\n"


class Quiz:
    name = "quiz"

    def __init__(self, *stems):
        self.stems = stems

    def questions(self):
        return [Question("s", i, stem, ("one", "two", "three", "four"), 0) for i, stem in enumerate(self.stems)]


def test_rows_that_hold_a_question_are_dropped(byte_renderer, tmp_path):
    question = "Which of these old masters wrote a set of twenty four caprices for the violin alone?"
    quiz = Quiz(question, f"Which key is this jig in?\n{TUNE}")
    rows = ["harmless", f"Quiz night. {question.upper()}", f"Some tune\n{higher(TUNE, 2)}", "harmless too"]
    for against in ([quiz], {"quiz": quiz}):
        reasons, split = dropped(rows, byte_renderer, tmp_path, Quality(against=against))
        assert reasons == {"holds a question of quiz": 2}
        assert kept_texts(split, byte_renderer) == ["harmless", "harmless too"]


def test_other_questions_or_settings_make_another_directory(byte_renderer, tmp_path):
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", [{"text": "a"}]))
    asked = [
        Quality(),
        Quality(exact=True),
        Quality(melody=True),
        Quality(near_text=0.8),
        Quality(near_text=0.9),
        Quality(repair=True),
        Quality(against=[Quiz("one")]),
        Quality(against=[Quiz("two")]),
        Quality(against=[Quiz("two")], share=0.6),
    ]
    keys = [content_key(source, byte_renderer, Recipe(64, quality=quality)) for quality in asked]
    assert len(set(keys)) == len(keys)


class Silent:
    name = "silent"

    def questions(self):
        return []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"near_text": 0.3}, "near_text=0.3"),
        ({"near_text": 1.5}, "near_text=1.5"),
        ({"share": 0}, "share=0"),
        ({"against": [Silent()]}, "asks no questions"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        Quality(**arguments)


# --- characters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "sound", "fault"),
    [
        ("na\u00c3\u00afve caf\u00c3\u00a9", "naïve café", MOJIBAKE),
        ("T: M\x84dchen und M\x94rder\nN: \x84hnlich", "T: Mädchen und Mörder\nN: ähnlich", DOS),
        ("S: Volkslieder \x84lterer Zeit", "S: Volkslieder älterer Zeit", DOS),
        ("T: Liebchen, \x94ffne", "T: Liebchen, öffne", DOS),
        ("he said \x84yes\x93 and don\x92t", "he said „yes“ and don’t", MOJIBAKE),
        ("Stra\u00c3\u009fe", "Straße", MOJIBAKE),
        ("Stra\x9een", "Stra\x9een", LEFT),
        ("T: \x8egypten", "T: \x8egypten", LEFT),
        ("\ufeffX:1\nT:é", "X:1\nT:é", MARK),
        ("x\x81 = y \u00e9", "x\x81 = y é", LEFT),
    ],
)
def test_broken_characters_are_mended_and_named(broken, sound, fault):
    row, faults = repaired(Document(broken))
    assert (row.text, faults) == (sound, {fault})


@settings(max_examples=200)
@given(text=st.text(st.sampled_from("abcß éäü\n|:♯五「")))
def test_sound_text_is_left_alone(text):
    faults = []
    assert repair(text, faults.append) == text
    assert faults == []


@settings(max_examples=200)
@given(words=st.lists(st.text(st.sampled_from("abcdeéäüöñ"), min_size=3, max_size=9), min_size=2))
def test_text_read_as_latin_1_by_mistake_comes_back_or_stays(words):
    """ftfy changes what it is sure of only; it never makes a third text."""
    text = " ".join(words)
    assert repair(text.encode().decode("latin-1"), lambda fault: None) in (text, text.encode().decode("latin-1"))


def test_repairs_are_counted_once_a_row(byte_renderer, tmp_path):
    rows = [{"text": "na\u00c3\u00afve caf\u00c3\u00a9"}, {"text": "sound"}, {"text": " "}]
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", rows))
    directory = prepare(source, byte_renderer, Recipe(64, quality=Quality(repair=True)), tmp_path / "d")
    assert read_meta(directory)["repairs"] == {MOJIBAKE: 1}


def test_files_in_another_character_set_are_read_when_it_is_named(byte_renderer, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.abc").write_bytes("X:1\nT:Märchen\nK:C\nCDE|\n\nX:2\nT:b\nK:C\nE|\n".encode("latin-1"))
    (folder / "b.txt").write_bytes("naïve".encode("utf-16"))
    (folder / "c.txt").write_bytes("naïve".encode())
    with pytest.raises(UserError, match="fallback_encoding=latin-1"):
        list(RowSource(str(folder)).rows())
    with pytest.raises(UserError, match="no such character set"):
        RowSource(str(folder), fallback_encoding="latin-99")
    source = RowSource(str(folder), fallback_encoding="latin-1")
    assert [row.values["text"].split("\n")[:2][-1] for row in source.rows()] == ["T:Märchen", "T:b", "naïve", "naïve"]
    directory = prepare(source, byte_renderer, Recipe(64), tmp_path / "d")
    assert read_meta(directory)["repairs"] == {"read as iso8859-1": 2, "read as UTF-16": 1}


# --- kept columns -----------------------------------------------------------------------------------------------------


def test_licence_and_language_stand_beside_each_document(byte_renderer, tmp_path, monkeypatch):
    """Also of a document in pieces, over shards, and where a row has none."""
    monkeypatch.setattr(shards, "SHARD_ROWS", 3)
    rows = [{"text": f"{n} " + "x" * (90 * (n % 4 == 0)), "licence": f"L{n}", "other": n} for n in range(9)]
    del rows[4]["licence"]
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", rows))
    directory = prepare(source, byte_renderer, Recipe(64, keep=("licence", "language")), tmp_path / "d")
    split = PreparedData(directory, byte_renderer.tokenizer).split("train")
    kept = pq.read_table(directory / "train" / "kept.parquet").to_pylist()
    assert len(kept) == len(split) == 12
    assert [row["licence"] for row in kept] == [
        "L0", "L0", "L1", "L2", "L3", None, None, "L5", "L6", "L7", "L8", "L8",
    ]  # fmt: skip
    assert {frozenset(row) for row in kept} == {frozenset({"licence"})}


def test_rows_without_such_columns_cost_nothing(byte_renderer, tmp_path):
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", [{"text": "a"}]))
    directory = prepare(source, byte_renderer, Recipe(64, keep=("licence",)), tmp_path / "d")
    assert list(directory.rglob("kept*")) == []


# --- shards, processes ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_shards_and_processes_change_nothing(byte_renderer, tmp_path, monkeypatch):
    texts = [" ".join(prose(seed)) for seed in range(60)]
    rows = [{"text": text} for text in [*texts, *texts[:7], *(text + " more" for text in texts[5:25]), "tail"]]
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", rows))
    recipe = Recipe(1024, 0.2, quality=Quality(exact=True, near_text=0.85))
    whole = read_meta(prepare(source, byte_renderer, recipe, tmp_path / "whole"))
    monkeypatch.setattr(shards, "SHARD_ROWS", 13)
    one, two = (prepare(source, byte_renderer, recipe, tmp_path / str(n), num_proc=n) for n in (1, 2))
    files = [file.relative_to(one) for file in sorted(one.rglob("*")) if file.is_file()]
    assert files == [file.relative_to(two) for file in sorted(two.rglob("*")) if file.is_file()]
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)
    assert read_meta(one)["dropped"] == whole["dropped"] == {"exact copy": 7, "near copy of a text": 20}
