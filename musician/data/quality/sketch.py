"""Small numbers of each row, by which copies and benchmark questions are found without holding the rows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from musician.data.quality.filters import Quality
from musician.data.quality.known_questions import FEWEST_STEPS, KnownQuestions, words
from musician.data.rendering.conversation import Document, Row, defect
from musician.data.sources.files import SourceRow
from musician.data.store.shards import Recipe, understand
from musician.data.store.splits import text_of
from musician.music.abc.extract import split_music
from musician.music.abc.reader import parse_tune
from musician.music.analysis.family import Step, melody
from musician.runtime.atomic import write_directory
from musician.runtime.errors import UserError

#: MinHash values of a row: `BANDS` bands of `BAND`. Rows of similarity 0.7 agree in a whole band with a probability of
#: 0.9998, of 0.5 with 0.87; what agrees in a band is then compared in all values.
BANDS, BAND = 32, 4
SEED = 20240225
#: Words of a run.
RUN = 5

_TITLE = re.compile(r"\s*[TCORSZNB]:")


class Sketcher:
    """Writes the sketches of a shard's rows; built anew in each process.

    Args:
        recipe: how rows are understood, and what is asked of them.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @cached_property
    def _known(self) -> list[KnownQuestions]:
        return [KnownQuestions(each) for each in self.recipe.quality.known_questions().values()]

    def __call__(self, rows: Sequence[SourceRow], directory: Path) -> None:
        """Sketch the rows of one shard into a directory that is complete or absent.

        It holds `[num_rows]` arrays: `sound` (fit for training), `exact` and `melody` (64-bit names; melody 0: none),
        `question` (0, or one more than the place of the benchmark it holds a question of), and for near copies
        `minhash` `[num_rows, BANDS * BAND]`.

        Raises:
            UserError: columns that are not understood, named by where the row stands; rensa is not installed.
        """
        quality = self.recipe.quality
        understood = [understand(found, self.recipe)[0] for found in rows]
        made = [self._sketch(row, quality) for row in understood]
        arrays = {
            "sound": np.array([defect(row) is None for row in understood]),
            "exact": np.array([each[0] for each in made], np.uint64),
            "melody": np.array([each[1] for each in made], np.uint64),
            "question": np.array([each[2] for each in made], np.uint8),
        }
        if quality.near_text:
            arrays["minhash"] = minhash(map(text_of, understood))

        def fill(folder: Path) -> None:
            for name, values in arrays.items():
                np.save(folder / f"{name}.npy", values)

        write_directory(directory, fill)

    def _sketch(self, row: Row, quality: Quality) -> tuple[int, int, int]:
        text = text_of(row)
        if not (quality.melody or quality.benchmarks()):
            return _exact(row), 0, 0
        prose, tunes = split_music(text)
        melodies = [melody(parse_tune(tune)) for tune in tunes]
        return _exact(row), _melodic(prose, melodies), self._held(words(prose), melodies, quality)

    def _held(self, said: list[str], melodies: list[list[Step]], quality: Quality) -> int:
        for place, known in enumerate(self._known):
            shares = known.find(said, melodies).values()
            if any(share >= quality.share for by_question in shares for share in by_question.values()):
                return place + 1
        return 0


def _name(*parts: object) -> int:
    """64 bits; of 5 million texts two have the same by chance once in a million times."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def _exact(row: Row) -> int:
    if isinstance(row, Document):
        return _name("document", row.text)
    return _name("conversation", *(part for message in row.messages for part in (message.role, message.content)))


def _melodic(prose: str, melodies: Sequence[Sequence[Step]]) -> int:
    """Name of a row's words and melodies; 0 where no melody is long enough to prove anything."""
    if max(map(len, melodies), default=0) < FEWEST_STEPS:
        return 0
    said = words("\n".join(line for line in prose.splitlines() if not _TITLE.match(line)))
    spelled = (";".join(f"{interval},{ratio}" for interval, ratio in steps) for steps in melodies)
    return _name(" ".join(said), *spelled)


def minhash(texts: Iterable[str]) -> np.ndarray:
    """MinHash values of the runs of five words of each text: `[num_texts, BANDS * BAND]`, uint32.

    Raises:
        UserError: rensa is not installed.
    """
    try:
        from rensa import RMinHash
    except ImportError as error:
        raise UserError("data.quality.near_text needs rensa: pip install 'musician[quality]'") from error
    matrix = RMinHash.digest_matrix_from_token_sets(list(map(_runs, texts)), BANDS * BAND, SEED)
    return np.array(matrix.to_rows(), np.uint32).reshape(-1, BANDS * BAND)


def _runs(text: str) -> list[str]:
    said = words(text)
    return sorted({" ".join(said[start : start + RUN]) for start in range(max(1, len(said) - RUN + 1))})
