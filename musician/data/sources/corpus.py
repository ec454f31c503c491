"""The tunes one can train on without a download: music21's corpus files, or any directory of `.abc` and MIDI files."""

import importlib.util
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from musician.music.abc.reader import split_tunes
from musician.runtime.errors import UserError, nearest

MIDI = (".mid", ".midi")
"""Files that are transcribed, where a folder of the user's own has them."""
_NO_LINE = "no licence line in the files; distributed with music21 with the encoders' permission"


@dataclass(frozen=True)
class Collection:
    """A folder of music21's corpus: what is known of its licence, and whether one has to ask for it by name."""

    licence: str
    opt_in: bool = False


@dataclass(frozen=True)
class CorpusTune:
    """One tune: its collection, the file (POSIX path relative to the collections' root), its index there, its ABC."""

    collection: str
    file: str
    index: int
    text: str


COLLECTIONS: dict[str, Collection] = {
    "airdsAirs": Collection(f"{_NO_LINE}; transcribed by Jack Campin, 2009"),
    "essenFolksong": Collection("status unclear; permission for non-commercial use in music21", opt_in=True),
    "josquin": Collection("GPL-2 or later (Laura Conrad, 1999)", opt_in=True),
    "miscFolk": Collection(f"{_NO_LINE}; transcribed by Jack Campin and others"),
    "nottingham-dataset": Collection("GPL-3 where the full set is published", opt_in=True),
    "oneills1850": Collection(f"{_NO_LINE}; transcribers credited in Z: fields"),
    "ryansMammoth": Collection(f"{_NO_LINE}; contributed by John Chambers, 2001-2008"),
}


def default_collections() -> tuple[str, ...]:
    """Return the names of the collections that need no opting in, sorted: 4,433 tunes in music21 10.5."""
    return tuple(sorted(name for name, collection in COLLECTIONS.items() if not collection.opt_in))


def iter_tunes(
    collections: Iterable[str] | None = None, root: Path | None = None, counts: Counter[str] | None = None
) -> Iterator[CorpusTune]:
    """Yield the tunes of the collections, ordered by collection as given, then file, then position in the file.

    Without `root` collections are those of music21's corpus (None: `default_collections()`); its files are read
    without importing it. With `root` they are its subfolders (None: every file below it, whose collection is its first
    folder, or the root's own name), and MIDI files are tunes too, titled by their names. A MIDI file that cannot be
    written as ABC is left out and counted in `counts`, as are those that were, notes of percussion left out, and
    files of ABC that are not UTF-8.

    Raises:
        UserError: music21 is not installed, a collection does not exist, or no tune is found.
    """
    where = _music21_corpus() if root is None else _directory(root)
    if collections is None and root is None:
        collections = default_collections()
    files = _files(where, collections, (".abc", *MIDI) if root else (".abc",))
    found = False
    counts = Counter() if counts is None else counts
    for collection, path in files:
        for index, text in enumerate(_texts(path, counts)):
            found = True
            yield CorpusTune(collection, path.relative_to(where).as_posix(), index, text)
    if not found:
        raise UserError(f"no tune found in {where}: expected .abc files in which a line begins with 'X:', or MIDI")


def _texts(path: Path, counts: Counter[str]) -> list[str]:
    """Return the tunes of a file as ABC."""
    if path.suffix.lower() not in MIDI:
        return split_tunes(_decoded(path.read_bytes(), counts))
    from musician.music.convert.transcribe import transcribe

    if importlib.util.find_spec("mido") is None:
        raise UserError(f"{path}: reading MIDI needs mido: pip install 'musician[music]'")
    try:
        found = transcribe(path.read_bytes(), path.stem)
    except UserError as error:
        counts[f"MIDI files left out: {error}"] += 1
        return []
    counts["MIDI files written as ABC"] += 1
    if found.percussion:
        counts["notes of percussion left out"] += found.percussion
    return [found.text]


def _decoded(content: bytes, counts: Counter[str]) -> str:
    """The text of a file in UTF-8, or in Latin-1 as older programs wrote it, which is counted."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        counts["ABC files that are not UTF-8, read as Latin-1"] += 1
        return content.decode("latin-1")


def _music21_corpus() -> Path:
    """Locate the corpus of the installed music21 without importing it, which takes seconds."""
    spec = importlib.util.find_spec("music21")
    if spec is None or spec.origin is None:
        raise UserError("the tunes come with music21, which is not installed: pip install 'musician[demo]'")
    corpus = Path(spec.origin).parent / "corpus"
    if not corpus.is_dir():
        raise UserError(f"this music21 comes without its corpus ({corpus}): pip install 'musician[demo]'")
    return corpus


def _directory(root: Path) -> Path:
    if not root.is_dir():
        raise UserError(f"no such directory of tunes: {root}")
    return root


def _files(where: Path, collections: Iterable[str] | None, endings: tuple[str, ...]) -> list[tuple[str, Path]]:
    """Return (collection, file) in the order they are read."""
    found = [path for path in where.rglob("*.*") if path.suffix.lower() in endings and path.is_file()]
    found.sort(key=lambda path: path.relative_to(where).parts)
    folders: dict[str, list[Path]] = {}
    pairs: list[tuple[str, Path]] = []
    for path in found:
        folder = path.relative_to(where).parts[0] if path.parent != where else None
        pairs.append((folder or where.resolve().name, path))
        if folder:
            folders.setdefault(folder, []).append(path)
    if collections is None:
        return pairs
    names = [collections] if isinstance(collections, str) else list(collections)
    for name in names:
        if name not in folders:
            known = ", ".join(folders) or "none"
            raise UserError(f"no collection '{name}' in {where}{nearest(name, folders)}; there are: {known}")
    return [(name, path) for name in names for path in folders[name]]
