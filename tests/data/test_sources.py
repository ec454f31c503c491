"""Files, folders and tunes as rows; every fault is one line that names the place, before any work (B15, B16)."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musician.data.sources.files import READERS
from musician.data.sources.instructions import TuneTaskSource
from musician.data.sources.source import RowSource, TuneSource
from musician.data.store.held_out import split_tunes
from musician.data.store.prepare import Recipe, read_rows
from musician.data.store.splits import is_held_out
from musician.music.abc.reader import parse_tune
from musician.music.sound.sounding import to_midi
from musician.runtime.errors import UserError

from .oracles import same_tune_in_g, tune_in_c, write_jsonl

ROWS = [{"text": 'X:1\nK:C\n"Am" C,D;\tE|'}, {"text": "naïve ♯, 五度"}, {"text": "last"}]


def write(file, rows):
    match file.suffix:
        case ".jsonl":
            write_jsonl(file, rows)
        case ".json":
            file.write_text(json.dumps(rows, indent=1))
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), file)
        case ".csv" | ".tsv":
            with file.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, list(rows[0]), delimiter="," if file.suffix == ".csv" else "\t")
                writer.writeheader()
                writer.writerows(rows)
    return str(file)


def complaint(source, recipe=Recipe()):  # noqa: B008 - frozen
    """What is said of a source on reading it whole: one line."""
    with pytest.raises(UserError) as error:
        (source.identity(), list(read_rows(source, recipe)))
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet", "rows.csv", "rows.tsv", "ROWS.JSONL"])
def test_every_table_format_gives_the_same_rows(name, tmp_path):
    """B11."""
    file = write((tmp_path / name.lower()), ROWS)
    source = RowSource(str((tmp_path / name.lower()).rename(tmp_path / name)) if name.isupper() else file)
    assert [dict(row.values) for row in source.rows()] == ROWS
    assert all(name in row.where for row in source.rows())


def test_a_json_file_may_hold_lines(tmp_path):
    write_jsonl(tmp_path / "rows.json", ROWS)
    assert [dict(row.values) for row in RowSource(str(tmp_path / "rows.json")).rows()] == ROWS


def test_nested_messages_come_through_json_and_parquet_alike(tmp_path):
    rows = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]
    for name in ("m.jsonl", "m.json", "m.parquet"):
        source = RowSource(write(tmp_path / name, rows))
        assert [len(row.messages) for _, row in read_rows(source, Recipe())] == [2], name


def test_a_text_file_is_one_document_and_an_abc_file_one_a_tune(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.abc").write_text("X:1\nT:One\nK:C\nCDE|\n\nX:2\nT:Two\nK:G\nGAB|\n")
    assert [row.values["text"] for row in RowSource(str(tmp_path / "a.txt")).rows()] == ["one\n\ntwo\n"]
    tunes = [row.values["text"] for row in RowSource(str(tmp_path / "b.abc")).rows()]
    assert ["T:One" in tune for tune in tunes] == [True, False]
    assert ["GAB" in tune for tune in tunes] == [False, True]


def test_a_folder_is_its_files_by_name_whatever_their_format(tmp_path):
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "b.parquet", [{"text": "second"}])
    write(tmp_path / "a.jsonl", [{"text": "first"}])
    write(tmp_path / "deeper" / "c.csv", [{"text": "third"}])
    (tmp_path / "README.md").write_text("not data")
    assert [row.values["text"] for row in RowSource(str(tmp_path)).rows()] == ["first", "second", "third"]


def test_a_limit_stops_reading_before_later_rows(tmp_path):
    """The second line is broken, and never met."""
    (tmp_path / "r.jsonl").write_text('{"text": "fine"}\nbroken\n')
    assert len(list(RowSource(str(tmp_path / "r.jsonl"), limit=1).rows())) == 1


def test_where_is_the_line_of_the_file_blank_lines_counted(tmp_path):
    (tmp_path / "r.jsonl").write_text('\n{"text": "a"}\n\n\n{"text": "b"}\n')
    assert [row.where.split()[-1] for row in RowSource(str(tmp_path / "r.jsonl")).rows()] == ["2", "5"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_byte_order_mark_is_no_part_of_a_column_name(suffix, tmp_path):
    (tmp_path / f"r{suffix}").write_bytes(b"\xef\xbb\xbftext\nhello\n")
    assert [row.values for row in RowSource(str(tmp_path / f"r{suffix}")).rows()] == [{"text": "hello"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [("r.abc", b"X:1\nT:a\nK:C\nCDE|\n"), ("r.txt", b"X:1\nT:a\nK:C\nCDE|\n"), ("r.json", b'[\n{"text": "X:1"}\n]')],
)
def test_a_byte_order_mark_is_no_part_of_a_text(name, content, tmp_path):
    """An .abc file that begins with one loses its first tune without a word."""
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
    assert [row.values["text"][:3] for row in RowSource(str(tmp_path / name)).rows()] == ["X:1"]


# --- identity ---------------------------------------------------------------------------------------------------------


def test_identity_is_that_of_the_content_wherever_it_stands(tmp_path):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / "r.jsonl", ROWS)
    here, there = (RowSource(str(tmp_path / folder)) for folder in ("here", "there"))
    assert here.identity() == there.identity()
    write_jsonl(tmp_path / "there" / "r.jsonl", ROWS[:2])
    assert here.identity() != there.identity()


def test_identity_follows_limit_and_a_file_more(tmp_path):
    """B14."""
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    one = RowSource(str(tmp_path)).identity()
    limited = RowSource(str(tmp_path), limit=2).identity()
    write_jsonl(tmp_path / "b.jsonl", ROWS)
    assert len({one, limited, RowSource(str(tmp_path)).identity()}) == 3


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "place", "what"),
    [
        ("r.jsonl", b'{"text": "a"}\n{"text": \n', "r.jsonl line 2", "not valid JSON"),
        ("r.jsonl", b'{"text": "a"}\n[1]\n', "r.jsonl line 2", "found list"),
        ("r.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "r.jsonl line 2", "not valid JSON"),
        ("r.jsonl", b'{"text": "a"}\n{"body": "b"}\n', "r.jsonl line 2", "found ['body']"),
        ("r.json", b'[{"text": "a"}, ', "r.json", "not valid JSON"),
        ("r.json", b'[{"text": "a"}, 7]', "r.json item 1", "found int"),
        ("r.json", b'[{"text": "a"}, {"text": 7}]', "r.json item 1", "found int"),
        ("r.parquet", b"PAR1 but not really", "r.parquet", "not readable as Parquet"),
        ("r.csv", b'text\nfine\n"never closed\n', "r.csv line 3", "not readable as CSV"),
        ("r.csv", b"text\nfine\n\xff\xfe\n", "r.csv line", "not readable as CSV"),
        ("r.csv", b"body\tmore\nx\ty\n", "r.csv line 2", "found ['body\\tmore']"),
        ("r.txt", b"caf\xe9", "r.txt", "not UTF-8 text (byte 3)"),
        ("r.abc", b"X:1\nT:caf\xe9\n", "r.abc", "not UTF-8 text (byte 9)"),
        ("r.jsonl", b"", "r.jsonl", "empty"),
        ("r.docx", b"PK", "r.docx", "unknown format '.docx'"),
    ],
)
def test_a_fault_is_one_line_that_names_the_place(name, content, place, what, tmp_path):
    (tmp_path / name).write_bytes(content)
    message = complaint(RowSource(str(tmp_path / name)))
    assert place in message
    assert what in message


@pytest.mark.parametrize("path", ["no/such/folder", "/no/such/file.jsonl", "missing.parquet", "./owner/name", "word"])
def test_a_missing_path_is_named(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert complaint(RowSource(path)).startswith(f"data {path}: no such file or folder")


def test_a_folder_without_data_lists_what_it_looked_for(tmp_path):
    (tmp_path / "notes.md").write_text("x")
    message = complaint(RowSource(str(tmp_path)))
    assert str(tmp_path) in message
    assert all(suffix in message for suffix in READERS)


def test_a_hub_id_without_a_network_fails_at_once_and_says_what_to_do():
    message = complaint(RowSource("m-a-p/MusicPile-of-no-one"))
    assert "m-a-p/MusicPile-of-no-one" in message
    assert "data=files data.path=" in message


def test_a_name_that_is_a_local_folder_is_not_looked_up_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    write_jsonl(tmp_path / "owner" / "name" / "r.jsonl", ROWS)
    assert len(list(RowSource("owner/name").rows())) == len(ROWS)


def test_a_damaged_page_of_parquet_is_named(tmp_path):
    """The footer is sound, a page is not; prepare() would blame the directory it writes to."""
    file = tmp_path / "r.parquet"
    texts = [str(number) * 20 for number in np.random.default_rng(0).random(2000)]
    pq.write_table(pa.table({"text": texts}), file, compression="snappy")
    content = bytearray(file.read_bytes())
    content[200:400] = bytes(range(200))
    file.write_bytes(content)
    assert "r.parquet" in complaint(RowSource(str(file)))


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    file = tmp_path / "r.jsonl"
    write_jsonl(file, ROWS)

    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(file), "open", refuse)  # chmod does not stop root
    assert "r.jsonl" in complaint(RowSource(str(file)))


# --- tunes ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tune_folder(tmp_path_factory):
    """40 tunes in C in one file, each a fifth higher under another name in a second."""
    folder = tmp_path_factory.mktemp("tunes")
    tunes = [tune_in_c(seed) for seed in range(40)]
    (folder / "originals.abc").write_text("\n".join(tunes))
    (folder / "copies.abc").write_text("\n".join(same_tune_in_g(t, f"Copy {i}") for i, t in enumerate(tunes)))
    return str(folder)


def number_of(text):
    return int(next(line for line in text.splitlines() if line.startswith("T:")).split()[-1])


def test_a_tune_and_its_transposed_retitled_copy_are_one_family(tune_folder):
    """B13."""
    families = {}
    for row in TuneSource(root=tune_folder).rows():
        families.setdefault(number_of(row.values["text"]), []).append(row.family)
    assert [len(pair) for pair in families.values()] == [2] * 40
    assert all(pair[0] == pair[1] for pair in families.values())
    assert len({pair[0] for pair in families.values()}) == 40


def test_midi_files_are_tunes_and_what_became_of_them_is_said(tmp_path, capsys):
    pytest.importorskip("mido")
    to_midi(parse_tune("X:1\nM:3/4\nL:1/4\nK:G\nGAB|c2d|G3|]"), tmp_path / "Slow Waltz.MID")
    (tmp_path / "broken.midi").write_bytes(b"MThd")
    source = TuneSource(root=str(tmp_path))
    (tune,) = (tune for tune in source.tunes() if tune.file == "Slow Waltz.MID")
    assert "T:Slow Waltz\n" in tune.text
    assert [note.midi for note in parse_tune(tune.text).notes] == [67, 69, 71, 72, 74, 67]
    assert source.num_rows() == 1
    assert source.describe()["files"]["MIDI files written as ABC"] == 1
    said = capsys.readouterr().err
    assert "1 MIDI files written as ABC" in said
    assert "1 MIDI files left out: no MIDI file" in said


def test_held_out_tunes_are_those_that_training_on_the_same_folder_leaves_out(tune_folder):
    """Benchmarks made of them ask nothing that was trained on."""
    held_out = split_tunes(root=tune_folder, validation_fraction=0.3, split_seed=1)
    trained = [
        row.values["text"]
        for row in TuneSource(root=tune_folder).rows()
        if not is_held_out(row.family, fraction=0.3, seed=1)
    ]
    assert 0 < len(held_out) < 80
    assert len(held_out) + len(trained) == 80
    assert split_tunes(False, root=tune_folder, validation_fraction=0.3, split_seed=1) == trained
    assert {number_of(text) for text in held_out}.isdisjoint({number_of(text) for text in trained})


def test_tasks_of_a_tune_belong_to_its_family(tune_folder):
    tunes = {row.where: row.family for row in TuneSource(root=tune_folder).rows()}
    tasks = list(TuneTaskSource(root=tune_folder).rows())
    assert len(tasks) > 80
    assert all(task.family == tunes[task.where.rpartition(" task ")[0]] for task in tasks)
    assert {len(task.values["messages"]) for task in tasks} == {2}


def test_tasks_can_be_chosen_by_name(tune_folder):
    names = {task.where.split()[-1] for task in TuneTaskSource(root=tune_folder).rows()}
    chosen = sorted(names)[0]
    kept = {task.where.split()[-1] for task in TuneTaskSource(root=tune_folder, tasks=[chosen]).rows()}
    assert len(names) > 1
    assert kept == {chosen}


def test_identity_of_made_data_follows_texts_tasks_and_seed(tune_folder):
    """B14."""
    sources = [
        TuneSource(root=tune_folder),
        TuneSource(root=tune_folder, limit=10),
        TuneTaskSource(root=tune_folder),
        TuneTaskSource(root=tune_folder, seed=1),
        TuneTaskSource(root=tune_folder, tasks=["form"]),
    ]
    assert len({source.identity() for source in sources}) == len(sources)
    assert TuneSource(root=tune_folder).identity() == sources[0].identity()
