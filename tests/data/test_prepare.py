"""A prepared directory: named by its content, whole or absent, and read without copying."""

import errno
import json
import multiprocessing
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from musician.data.packing import pack
from musician.data.packing_plan import planned_rows
from musician.data.rendering.conversation import Conversation, Document, Message
from musician.data.rendering.render import Renderer
from musician.data.sources.source import RowSource, TuneSource
from musician.data.store import shards
from musician.data.store.prepare import Recipe, content_key, prepare
from musician.data.store.prepared import PreparedData, read_meta
from musician.runtime.errors import UserError
from musician.training.datamodule import TokenDataModule

from .oracles import same_tune_in_g, tune_in_c, write_jsonl

TEXTS = [f"X:{number}\nK:C\n" + "CDEF GABc|" * (number + 1) for number in range(12)]


def chat(question, answer):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def source(tmp_path):
    return RowSource(write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in TEXTS]))


def files_of(folder):
    return {file: (file.stat().st_mtime_ns, file.stat().st_ino) for file in Path(folder).rglob("*")}


def ids_of(split):
    return [split.input_ids(document).tolist() for document in range(len(split))]


# --- content addressed ------------------------------------------------------------------------------------------------


def test_the_same_inputs_give_the_same_directory_untouched(source, byte_renderer, tmp_path):
    first = prepare(source, byte_renderer, Recipe(64), tmp_path / "data")
    before = files_of(tmp_path / "data")
    again = prepare(RowSource(source.path), Renderer(byte_renderer.tokenizer), Recipe(64), tmp_path / "data")
    assert again == first
    assert files_of(tmp_path / "data") == before


def test_every_ingredient_has_its_part_in_the_key(source, byte_tokenizer, byte_renderer, mistral_tokenizer, tmp_path):
    """B14: data, tokenizer, template, policy and each part of the recipe."""
    other = RowSource(write_jsonl(tmp_path / "other.jsonl", [{"text": text} for text in TEXTS[1:]]))
    keys = [
        content_key(source, byte_renderer, Recipe(64)),
        content_key(other, byte_renderer, Recipe(64)),
        content_key(source, Renderer(mistral_tokenizer, add_bos=False), Recipe(64)),
        content_key(source, Renderer(byte_tokenizer, "chatmusician"), Recipe(64)),
        content_key(source, Renderer(byte_tokenizer, add_eos=False), Recipe(64)),
        content_key(source, byte_renderer, Recipe(65)),
        content_key(source, byte_renderer, Recipe(64, validation_fraction=0.1)),
        content_key(source, byte_renderer, Recipe(64, validation_fraction=0.1, split_seed=1)),
        content_key(source, byte_renderer, Recipe(64, text_field="abc")),
    ]
    assert len(set(keys)) == len(keys)
    assert content_key(source, byte_renderer, Recipe(64)) == keys[0]


def test_another_format_gives_another_key(source, byte_renderer, monkeypatch):
    """B14: the original went on using the ids of a function that had changed; see test_golden.py."""
    before = content_key(source, byte_renderer, Recipe(64))
    monkeypatch.setattr("musician.data.store.prepare.FORMAT", "musician-tokens-next")
    assert content_key(source, byte_renderer, Recipe(64)) != before


def test_a_directory_that_was_not_finished_is_not_taken_for_one(source, byte_renderer, tmp_path):
    root = tmp_path / "data"
    key = content_key(source, byte_renderer, Recipe(64))
    (root / f".{key}.1" / "train").mkdir(parents=True)  # what a killed process leaves
    directory = prepare(source, byte_renderer, Recipe(64), root)
    assert directory == root / key
    assert len(ids_of(PreparedData(directory, byte_renderer.tokenizer).split("train"))) >= len(TEXTS)


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_rows_in_are_rows_out_and_rows_dropped_with_the_reasons(byte_renderer, tmp_path):
    """B2, B18."""
    rows = [
        {"text": "fine"},
        {"text": " \n"},
        {"text": "x" * 100},
        chat("q", "a"),
        chat("q" * 100, "a"),
        chat("q", "a" * 100),
        chat("q", ""),
        {"messages": [{"role": "user", "content": "q"}]},
    ]
    directory = prepare(RowSource(write_jsonl(tmp_path / "r.jsonl", rows)), byte_renderer, Recipe(64), tmp_path / "d")
    meta = read_meta(directory)
    assert (meta["rows_in"], meta["rows_out"]) == (8, 5)
    assert meta["dropped"] == {"empty text": 1, "empty turn": 1, "does not end with an assistant turn": 1}
    assert meta["cuts"] == {"document": 1, "user text": 1, "answer": 1}
    assert set(meta["splits"]) == {"train"}
    split = PreparedData(directory, byte_renderer.tokenizer).split("train")
    assert len(split) == 6
    assert meta["splits"]["train"] == {
        "items": 6,
        "tokens": sum(map(len, ids_of(split))),
        "supervised_tokens": sum(int(split.supervised(document).sum()) for document in range(len(split))),
    }
    assert split.lengths.max() <= 64


def test_what_is_read_back_is_what_was_rendered(byte_renderer, tmp_path):
    """Ids and masks, over more rows than one batch of the tokenizer holds."""
    rows = [{"text": f"X:{n}\nK:C\nC{n}|"} if n % 3 else chat(f"q{n}", f"a{n} " * (n % 7)) for n in range(1, 1300)]
    rows = [row for row in rows if "text" in row or row["messages"][1]["content"]]
    directory = prepare(RowSource(write_jsonl(tmp_path / "r.jsonl", rows)), byte_renderer, Recipe(2048), tmp_path / "d")
    split = PreparedData(directory, byte_renderer.tokenizer).split("train")
    assert len(split) == len(rows)
    for document, row in enumerate(rows):
        if "text" in row:
            parsed = Document(row["text"])
        else:
            parsed = Conversation(tuple(Message(m["role"], m["content"]) for m in row["messages"]))
        (item,) = byte_renderer.render(parsed)
        assert np.array_equal(split.input_ids(document), item.input_ids)
        assert np.array_equal(split.supervised(document), item.supervised)
    counts = [int(split.supervised(document).sum()) for document in range(len(split))]
    assert split.supervised_counts().tolist() == counts


@pytest.mark.parametrize(("size", "dtype"), [(1_000, "uint16"), (65_537, "uint32")])
def test_ids_are_stored_in_the_smallest_type_that_holds_the_vocabulary(size, dtype, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"</s>": 0} | {f"w{number}": number for number in range(1, size)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="</s>")
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", [{"text": f"w1 w{size - 1}"}]))
    split = PreparedData(prepare(source, Renderer(tokenizer), Recipe(8), tmp_path / "d"), tokenizer).split("train")
    assert split.input_ids(0).dtype == dtype
    assert split.input_ids(0).tolist() == [1, size - 1, 0]


# --- splits -----------------------------------------------------------------------------------------------------------


def numbers_in(split, tokenizer):
    texts = [tokenizer.decode(ids) for ids in ids_of(split)]
    return [int(re.search(r"T:\D*(\d+)", text).group(1)) for text in texts]


@pytest.mark.parametrize("through", ["rows", "tunes"])
def test_no_family_is_on_both_sides(through, byte_renderer, byte_tokenizer, tmp_path):
    """B13: of each tune a copy was planted, a fifth higher, under another title; neither is split from the other."""
    tunes = [tune_in_c(seed) for seed in range(60)]
    copies = [same_tune_in_g(tune, f"Copy {seed}") for seed, tune in enumerate(tunes)]
    if through == "rows":
        rows = [{"text": text} for text in [*tunes, *reversed(copies)]]
        source = RowSource(write_jsonl(tmp_path / "r.jsonl", rows))
    else:
        (tmp_path / "abc").mkdir()
        (tmp_path / "abc" / "all.abc").write_text("\n".join([*tunes, *reversed(copies)]))
        source = TuneSource(root=str(tmp_path / "abc"))
    directory = prepare(source, byte_renderer, Recipe(2048, validation_fraction=0.3), tmp_path / "d")
    data = PreparedData(directory, byte_tokenizer)
    train, validation = (numbers_in(data.split(name), byte_tokenizer) for name in ("train", "validation"))
    assert len(train) + len(validation) == 120
    assert set(train).isdisjoint(validation)
    assert sorted([*train, *validation]) == sorted([*range(60), *range(60)])
    assert len(validation) >= 10, "the share held out is near what was asked for"


def test_pieces_of_one_document_stay_on_one_side(byte_renderer, byte_tokenizer, tmp_path):
    tunes = [tune_in_c(seed) for seed in range(40)]
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", [{"text": tune} for tune in tunes]))
    data = PreparedData(prepare(source, byte_renderer, Recipe(32, 0.5), tmp_path / "d"), byte_tokenizer)
    written = {}
    for name in ("train", "validation"):
        pieces = [byte_tokenizer.decode(ids) for ids in ids_of(data.split(name))]
        written[name] = [text for text in "".join(pieces).split("</s>") if text]
    assert sorted([*written["train"], *written["validation"]]) == sorted(tunes)


def test_nothing_held_out_is_no_validation_split(source, byte_renderer, byte_tokenizer, tmp_path):
    """B13: never the training data under another name."""
    directory = prepare(source, byte_renderer, Recipe(64, validation_fraction=0.0), tmp_path / "d")
    assert PreparedData(directory, byte_tokenizer).split("validation") is None
    assert not (directory / "validation").exists()


# --- from preprocess to train -----------------------------------------------------------------------------------------


def test_the_printed_path_is_accepted_verbatim(source, byte_renderer, tmp_path):
    """B12: and gives the batches that preparing on the way gives."""
    printed = str(prepare(source, byte_renderer, Recipe(128, 0.3), tmp_path / "d"))
    by_path = TokenDataModule(byte_renderer, path=printed, max_length=128)
    on_the_way = TokenDataModule(
        byte_renderer, source=source, root=tmp_path / "d", max_length=128, validation_fraction=0.3
    )
    batches = []
    for module in (by_path, on_the_way):
        module.prepare_data()
        module.setup("fit")
        batches.append([batch["input_ids"].tolist() for batch in module.train_dataloader()])
        assert module.path == printed
    assert batches[0] == batches[1]
    assert sum(len(batch) for batch in batches[0]) == len(by_path.train_rows)


def test_longer_rows_than_prepared_for_are_fine_and_shorter_ones_refused(source, byte_renderer, tmp_path):
    """B6: no batch exceeds max_length."""
    path = str(prepare(source, byte_renderer, Recipe(64), tmp_path / "d"))
    TokenDataModule(byte_renderer, path=path, max_length=100).setup()
    with pytest.raises(UserError, match=r"64 tokens.*max_length=63"):
        TokenDataModule(byte_renderer, path=path, max_length=63).setup()


def test_another_tokenizer_is_refused_at_load(source, byte_renderer, mistral_tokenizer, tmp_path):
    path = str(prepare(source, byte_renderer, Recipe(64), tmp_path / "d"))
    with pytest.raises(UserError, match="another tokenizer"):
        TokenDataModule(Renderer(mistral_tokenizer), path=path, max_length=64).setup()


def test_another_template_is_refused_at_load(source, byte_renderer, byte_tokenizer, tmp_path):
    path = str(prepare(source, byte_renderer, Recipe(64), tmp_path / "d"))
    with pytest.raises(UserError, match="another template"):
        TokenDataModule(Renderer(byte_tokenizer, "chatmusician"), path=path, max_length=64).setup()


def test_neither_path_nor_source_is_an_error(byte_renderer):
    with pytest.raises(UserError, match=r"data\.path.*data\.source"):
        TokenDataModule(byte_renderer).prepare_data()


def test_a_folder_that_was_not_prepared_is_refused(byte_renderer, tmp_path):
    with pytest.raises(UserError, match=r"no meta\.json"):
        TokenDataModule(byte_renderer, path=str(tmp_path)).setup()
    (tmp_path / "meta.json").write_text(json.dumps({"format": "musician-tokens-0"}))
    with pytest.raises(UserError, match="musician-tokens-0"):
        TokenDataModule(byte_renderer, path=str(tmp_path)).setup()


# --- faults -----------------------------------------------------------------------------------------------------------


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "target",
    [
        "pyarrow.parquet.write_table",
        "numpy.save",
        "pathlib.Path.write_text",
        "pathlib.Path.rename",
        "os.fsync",
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing_behind(target, source, byte_renderer, tmp_path, monkeypatch):
    source.identity()
    monkeypatch.setattr(target, full_disk)
    with pytest.raises(UserError) as error:
        prepare(source, byte_renderer, Recipe(64, keep=("licence",)), tmp_path / "data")
    message = str(error.value)
    assert str(tmp_path / "data") in message
    assert "No space left on device" in message
    assert "free some space" in message
    assert "\n" not in message
    assert list((tmp_path / "data").iterdir()) == []


def test_after_a_full_disk_the_next_try_succeeds(source, byte_renderer, byte_tokenizer, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full_disk)
        with pytest.raises(UserError):
            prepare(source, byte_renderer, Recipe(64), tmp_path / "data")
    directory = prepare(source, byte_renderer, Recipe(64), tmp_path / "data")
    assert PreparedData(directory, byte_tokenizer).key == directory.name


def test_a_root_that_cannot_be_a_folder_is_named(source, byte_renderer, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file/data.*cannot be written.*data\.root"):
        prepare(source, byte_renderer, Recipe(64), tmp_path / "file" / "data")


def test_an_unreadable_row_leaves_nothing_behind(byte_renderer, tmp_path):
    (tmp_path / "r.jsonl").write_text('{"text": "fine"}\n{"body": "not"}\n')
    with pytest.raises(UserError, match=r"r\.jsonl line 2: no column 'text'"):
        prepare(RowSource(str(tmp_path / "r.jsonl")), byte_renderer, Recipe(64), tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_nothing_to_train_on_says_why(byte_renderer, tmp_path):
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", [{"text": ""}, {"text": " "}, chat("q", "")]))
    with pytest.raises(UserError, match=r"3 rows read: 2 empty text, 1 empty turn"):
        prepare(source, byte_renderer, Recipe(64), tmp_path / "data")


def test_everything_held_out_is_said_to_be_that(source, byte_renderer, tmp_path):
    with pytest.raises(UserError, match=r"held out|validation"):
        prepare(source, byte_renderer, Recipe(64, validation_fraction=1.0), tmp_path / "data")


def test_text_that_is_no_unicode_is_named_by_its_line(byte_renderer, tmp_path):
    r"""JSON can spell half of a surrogate pair, `\ud800`, and scraped data does."""
    (tmp_path / "r.jsonl").write_text('{"text": "fine"}\n{"text": "a\\ud800b"}\n')
    with pytest.raises(UserError, match=r"r\.jsonl line 2"):
        prepare(RowSource(str(tmp_path / "r.jsonl")), byte_renderer, Recipe(64), tmp_path / "data")


def test_a_row_that_cannot_be_shortened_is_named_by_its_line(byte_renderer, tmp_path):
    rows = [chat("fine", "fine"), {"messages": [{"role": "system", "content": "s" * 99}, *chat("q", "a")["messages"]]}]
    with pytest.raises(UserError, match=r"r\.jsonl line 2"):
        prepare(RowSource(write_jsonl(tmp_path / "r.jsonl", rows)), byte_renderer, Recipe(64), tmp_path / "data")


@pytest.mark.slow
def test_two_processes_at_once_make_one_directory(source, byte_renderer, byte_tokenizer, tmp_path):
    """Two ranks prepare the same data; one does the work, both use it."""
    context = multiprocessing.get_context("spawn")
    arguments = (source.path, byte_renderer, tmp_path / "data")
    both = [context.Process(target=prepare_file, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    (directory,) = (tmp_path / "data").iterdir()
    assert len(PreparedData(directory, byte_tokenizer).split("train")) > 0


def prepare_file(path, renderer, root):
    prepare(RowSource(path), renderer, Recipe(64), root)


# --- reading no more than is asked for --------------------------------------------------------------------------------


def test_documents_are_those_that_numpy_reads(byte_renderer, byte_tokenizer, tmp_path, monkeypatch):
    """The lines of docs/data.md, over several shards; and ids cannot be written to by accident."""
    monkeypatch.setattr(shards, "SHARD_ROWS", 5)
    rows = [{"text": text} for text in TEXTS] + [chat(f"q{number}", "a" * number) for number in range(1, 9)]
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", rows))
    directory = prepare(source, byte_renderer, Recipe(64), tmp_path / "d")
    split = PreparedData(directory, byte_tokenizer).split("train")

    (lines,) = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "data.md").read_text(), re.S)
    for document in range(len(split)):
        found = {"folder": str(directory / "train"), "i": document}
        exec(lines, found)
        assert split.input_ids(document).tolist() == found["document"].tolist()
        assert split.supervised(document).tolist() == (found["labels"] != -100).tolist()
        assert not split.input_ids(document).flags.writeable
        assert split.lengths[document] == len(found["document"])
        assert split.supervised_counts()[document] == (found["labels"] != -100).sum()


def test_a_plan_is_kept_and_is_that_of_packing(source, byte_renderer, byte_tokenizer, tmp_path):
    """Planned while preparing for `max_length`, and kept when first asked for another capacity."""
    split = PreparedData(prepare(source, byte_renderer, Recipe(64), tmp_path / "d"), byte_tokenizer).split("train")
    for capacity in (64, 100):
        for rows in (planned_rows(split, capacity), planned_rows(split, capacity)):
            expected = pack(split.lengths, capacity)
            assert np.array_equal(rows.documents, expected.documents)
            assert np.array_equal(rows.offsets, expected.offsets)
            assert np.array_equal(rows.supervised, expected.sums(split.supervised_counts()))
        assert isinstance(rows.documents, np.memmap)


def test_a_split_travels_to_a_loader_process_as_a_name_not_as_its_data(byte_renderer, byte_tokenizer, tmp_path):
    """Worker processes are spawned: what is pickled for them must not grow with the corpus."""
    sizes = []
    for count in (10, 1000):
        rows = [{"text": f"{number} " + "C" * 100} for number in range(count)]
        source = RowSource(write_jsonl(tmp_path / f"{count}.jsonl", rows))
        directory = prepare(source, byte_renderer, Recipe(128), tmp_path / "d")
        sizes.append(len(pickle.dumps(PreparedData(directory, byte_tokenizer).split("train"))))
    assert sizes[1] < 2 * sizes[0] + 4096


def test_rows_planned_on_stored_lengths_hold_every_token(source, byte_renderer, byte_tokenizer, tmp_path):
    split = PreparedData(prepare(source, byte_renderer, Recipe(64), tmp_path / "d"), byte_tokenizer).split("train")
    rows = pack(split.lengths, 64)
    assert rows.sums(split.lengths).sum() == sum(len(text.encode()) + 1 for text in TEXTS)
