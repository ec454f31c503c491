"""Compressed files and archives: the rows of what they hold, in bounded memory, never unpacked to disk."""

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
import tarfile
import zipfile
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musician.data.sources import archives, json_array
from musician.data.sources.source import RowSource
from musician.runtime.errors import UserError

TUNES = "X:1\nT:One\nK:C\nCDE|\n\nX:2\nT:Twö\nK:G\nGAB|\n"
#: What an archive holds, and the texts that come out of it.
FILES = {
    "a/rows.jsonl": '{"text": "one"}\n{"text": "zwö"}\n'.encode(),
    "a/rows.json": b'[{"text": "three"}]',
    "b/tunes.abc": TUNES.encode(),
    "b/prose.txt": b"\xef\xbb\xbfplain",
    "b/table.csv": b"text\nfour\n",
    "b/packed.jsonl.gz": gzip.compress(b'{"text": "five"}\n'),
    "b/README.md": b"not data",
    "b/nested.zip": b"PK",
}
TEXTS = ["one", "zwö", "three", "X:1\nT:One\nK:C\nCDE|", "X:2\nT:Twö\nK:G\nGAB|", "plain", "four", "five"]


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


def pack(file, files):
    """Write an archive of the format that the name of the file says."""
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return str(file)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    content = stream.getvalue()
    suffix = {".tgz": ".gz"}.get(file.suffix, file.suffix)
    file.write_bytes(COMPRESS.get(suffix, bytes)(content))
    return str(file)


def texts(path, **arguments):
    return [row.values["text"].rstrip("\n") for row in RowSource(str(path), **arguments).rows()]


def complaint(path):
    with pytest.raises(UserError) as error:
        texts(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["c.zip", "c.tar", "c.tar.gz", "c.TGZ", "c.tar.bz2", "c.tar.xz", "c.tar.zst"])
def test_an_archive_is_the_files_it_holds_in_its_order(name, tmp_path):
    path = pack(tmp_path / name.lower(), FILES)
    source = RowSource(str((tmp_path / name.lower()).rename(tmp_path / name)) if name.lower() != name else path)
    assert [row.values["text"].rstrip("\n") for row in source.rows()] == TEXTS
    assert source.describe()["ignored_files"] == {".md": 1, ".zip": 1}
    wheres = [row.where for row in source.rows()]
    assert wheres[1] == f"{source.path}:a/rows.jsonl line 2"
    assert source.describe()["ignored_files"] == {".md": 1, ".zip": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("name", ["r.jsonl", "r.json", "r.csv", "r.abc"])
def test_a_compressed_file_has_the_rows_of_the_plain_one(name, suffix, tmp_path):
    content = {
        "r.jsonl": b'{"text": "X:1\\nK:C\\nC|"}\n{"text": "b"}\n',
        "r.json": b'[{"text": "a"},\n {"text": "b"}]',
        "r.csv": b'text,more\n"a\nb",c\n',
        "r.abc": TUNES.encode(),
    }[name]
    (tmp_path / name).write_bytes(content)
    packed = COMPRESS[suffix](content)
    (tmp_path / f"{name}{suffix}").write_bytes(packed)
    assert texts(tmp_path / f"{name}{suffix}") == texts(tmp_path / name)
    assert len(texts(tmp_path)) == 2 * len(texts(tmp_path / name))


def test_files_of_a_folder_that_are_not_read_are_counted(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"text": "a"}\n')
    for name in ("a.md", "b.md", "c"):
        (tmp_path / name).write_text("x")
    source = RowSource(str(tmp_path))
    list(source.rows())
    assert source.describe()["ignored_files"] == {".md": 2, "no suffix": 1}


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["b.jsonl.gz", "b.zip", "b.tar.gz", "b.jsonl.xz", "b.jsonl.zst"])
def test_a_bomb_is_refused_before_it_goes_off(name, tmp_path, monkeypatch):
    """16 MB of one letter in some 16 kB."""
    monkeypatch.setattr(archives, "FREE", 1 << 20)
    line = b'{"text": "' + b"x" * 4000 + b'"}\n'
    content = line * 4000
    if name in ("b.zip", "b.tar.gz"):
        pack(tmp_path / name, {"r.jsonl": content})
    else:
        (tmp_path / name).write_bytes(COMPRESS[name[name.rindex(".") :]](content))
    read = 0

    def explode():
        nonlocal read
        for row in RowSource(str(tmp_path / name)).rows():
            read += len(row.values["text"])

    with pytest.raises(UserError, match="200 times"):
        explode()
    assert read < 250 * (tmp_path / name).stat().st_size + (2 << 20)


def test_members_of_a_zip_that_share_their_bytes_are_refused(tmp_path):
    """A bomb without a high ratio: each entry points to the same bytes."""
    file = tmp_path / "b.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("0.txt", bytes(range(256)) * 40)
        first = archive.filelist[0]
        for number in range(1, 30):
            entry = zipfile.ZipInfo(f"{number}.txt")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(entry, name, getattr(first, name))
            archive.filelist.append(entry)
            archive.NameToInfo[entry.filename] = entry
    assert "overlap" in complaint(file).lower()


@pytest.mark.parametrize("name", ["d.zip", "d.tar", "d.tar.gz", "d.jsonl.gz", "d.jsonl.xz", "d.jsonl.bz2"])
def test_a_damaged_archive_is_named(name, tmp_path):
    content = b"".join(b'{"text": "%d"}\n' % (number * 7919 % 10007) for number in range(4000))
    if "jsonl" in name:
        (tmp_path / name).write_bytes(COMPRESS[name[name.rindex(".") :]](content))
    else:
        pack(tmp_path / name, {"r.jsonl": content})
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    message = complaint(tmp_path / name)
    assert name in message
    assert "unpacked" in message or "JSON" in message


def test_what_only_looks_like_an_archive_is_named(tmp_path):
    for name in ("r.zip", "r.tar.gz", "r.jsonl.gz", "r.jsonl.zst"):
        (tmp_path / name).write_bytes(b"nothing of the kind" * 9)
        assert name in complaint(tmp_path / name)


def test_parquet_in_a_packed_stream_is_refused(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "r.parquet")
    pack(tmp_path / "c.zip", {"r.parquet": (tmp_path / "r.parquet").read_bytes()})
    assert "unpack it" in complaint(tmp_path / "c.zip")


# --- JSON arrays ------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(items=st.lists(JSON, max_size=6), indent=st.sampled_from([None, 1]), chunk=st.integers(1, 40))
def test_an_array_read_in_pieces_is_what_json_reads(items, indent, chunk):
    text = json.dumps(items, indent=indent, ensure_ascii=chunk % 2 == 0)  # no surrogates: st.text has none
    default, json_array.CHUNK = json_array.CHUNK, chunk
    try:
        assert list(json_array.ArrayReader(io.BytesIO(text.encode()))) == items
    finally:
        json_array.CHUNK = default


@settings(deadline=None, max_examples=300)
@given(text=st.text(alphabet='[]{},:"ab1 ', max_size=14))
def test_what_json_refuses_is_refused(text):
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    try:
        found = list(json_array.ArrayReader(io.BytesIO(text.encode())))
    except ValueError:
        found = None
    assert found == (expected if isinstance(expected, list) else None)


def test_a_fault_early_in_a_long_array_is_found_without_reading_on():
    class Counted(io.BytesIO):
        taken = 0

        def read(self, size=-1):
            found = super().read(size)
            self.taken += len(found)
            return found

    stream = Counted(b'[{"text": "a"}, {"text": b}, ' + b'{"text": "more"}, ' * 100_000)
    with pytest.raises(ValueError, match="Expecting"):
        list(json_array.ArrayReader(stream))
    assert stream.taken <= 2 * json_array.CHUNK


# --- memory -----------------------------------------------------------------------------------------------------------

#: Reads a source whole; prints rows and how far the peak of resident memory moved, in MiB.
READ = """
import resource, sys, tarfile, gzip, bz2, lzma, zipfile
from musician.data.sources.source import RowSource
warm = sum(1 for row in RowSource(sys.argv[1]).rows())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for row in RowSource(sys.argv[2]).rows())
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r.json", "r.json.gz", "r.zip", "r.tar.gz"])
def test_memory_does_not_grow_with_the_file(name, tmp_path):
    """64 MB in one array, or in 20,000 members; a small file of the kind is read first."""
    (tmp_path / "small").mkdir()
    randbytes = Random(0).randbytes
    for folder, rows in ((tmp_path / "small", 20), (tmp_path, 20_000)):
        items = (json.dumps({"text": randbytes(1600).hex()}).encode() for _ in range(rows))
        if "json" in name:
            content = b"[" + b",\n".join(items) + b"]"
            (folder / name).write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
        else:
            pack(folder / name, {f"{number}.jsonl": item for number, item in enumerate(items)})
    done = subprocess.run(
        [sys.executable, "-c", READ, tmp_path / "small" / name, tmp_path / name],
        capture_output=True,
        text=True,
        check=True,
    )
    count, grown = done.stdout.split()
    assert int(count) == 20_000
    assert float(grown) < 24
