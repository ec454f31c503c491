"""A directory of tokenised data as `musician.data.store.prepare` makes it.

meta.json      format, key, tokenizer hash, template, max_length, counts of rows in, out, cut and dropped
train/         arrays as `musician.data.store.split` describes them, and beside them
    rows-2048/     which documents are together in rows of 2048 tokens
validation/    the same, of other tune families; absent when nothing is held out
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from musician.data.rendering.tokenizer import tokenizer_hash
from musician.data.store.split import PreparedSplit
from musician.runtime.errors import UserError

FORMAT = "musician-tokens-3"
"""Part of every cache key. Raise the number whenever the same rows give other content: other ids, masks, splits, drops,
repairs, tasks made from tunes. `tests/data/test_golden.py` fails when that happens and this was forgotten."""


class PreparedData:
    """A prepared directory, checked against the tokenizer that will read it.

    Args:
        directory: what `python -m musician.preprocess` printed.
        tokenizer: the model's tokenizer.

    Raises:
        UserError: not a prepared directory, one that was not finished, or one made with another tokenizer.
    """

    def __init__(self, directory: str | Path, tokenizer: Any) -> None:
        self.directory = Path(directory)
        self.meta = read_meta(self.directory)
        if self.meta["tokenizer_hash"] != tokenizer_hash(tokenizer):
            raise UserError(
                f"data {self.directory}: was tokenised with another tokenizer ({self.meta['tokenizer']}); "
                "run musician.preprocess again with this model"
            )
        self.pad_id = int(tokenizer.pad_token_id)

    @property
    def key(self) -> str:
        """Content address of the data."""
        return str(self.meta["key"])

    def split(self, name: str) -> PreparedSplit | None:
        """The split `train` or `validation`; None when nothing was held out."""
        return PreparedSplit(self.directory / name, self.pad_id) if self.meta["splits"].get(name) else None


def is_prepared(path: str | Path) -> bool:
    """Return whether a path is a directory that `musician.preprocess` wrote."""
    return Path(path, "meta.json").is_file()


def read_meta(directory: Path) -> dict[str, Any]:
    """Read `meta.json` of a prepared directory.

    Raises:
        UserError: there is none, or it is of another format.
    """
    file = directory / "meta.json"
    if not file.is_file():
        raise UserError(
            f"data {directory}: not a prepared data directory (no meta.json); make one with "
            "musician.preprocess, or read your own files with data=files"
        )
    meta = json.loads(file.read_text())
    if meta.get("format") != FORMAT:
        raise UserError(
            f"data {directory}: format '{meta.get('format')}' is not '{FORMAT}'; run musician.preprocess again"
        )
    return meta
