"""Text to ids as fast as the libraries allow: the tokenizer's own ids, without its cost per text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musician.data.rendering.sentencepiece_model import PROBES, agrees, open_model
from musician.data.rendering.tokenizer import smallest_dtype

Encode = Callable[[Sequence[str]], list[list[int]]]


class _Pieces:
    """sentencepiece itself, on one thread; its arrays are made without a Python number for each id."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        return list(self._model.encode(list(texts), num_threads=1))

    def arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        return list(self._model.encode(list(texts), num_threads=1, return_type="numpy"))


class Encoder:
    """Encodes texts without special tokens; special tokens spelled out in a text stay plain text (B8).

    The fastest way that gives the tokenizer's ids of every probe text is taken, in this order: sentencepiece on the
    `tokenizer.model` that the tokenizer was read from, `encode_batch_fast` of the tokenizers library, the tokenizer.

    Args:
        tokenizer: a fast tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._encode: Encode | None = None

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        return self._chosen()(texts) if texts else []

    def arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of each text as an array of integers: `[length]`."""
        encode = self._chosen()
        if isinstance(encode, _Pieces):
            return encode.arrays(texts)
        dtype = smallest_dtype(len(self.tokenizer))
        return [np.asarray(ids, dtype) for ids in self(texts)]

    def __getstate__(self) -> dict[str, Any]:
        # The choice holds a C++ object; another process chooses anew.
        return {"tokenizer": self.tokenizer, "_encode": None}

    def reference(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text as transformers gives them."""
        encoded = self.tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
        )
        return list(encoded["input_ids"])

    def _chosen(self) -> Encode:
        if self._encode is None:
            self._encode = self._fastest()
        return self._encode

    def _fastest(self) -> Encode:
        model_file = Path(str(self.tokenizer.name_or_path)) / "tokenizer.model"
        pieces = open_model(model_file, needed=False) if model_file.is_file() else None
        if pieces is not None and agrees(self.tokenizer, pieces):
            return _Pieces(pieces)
        return self._batch_fast if self._batch_fast(PROBES) == self.reference(PROBES) else self.reference

    def _batch_fast(self, texts: Sequence[str]) -> list[list[int]]:
        backend = self.tokenizer.backend_tokenizer
        # What an earlier call of the tokenizer left behind; it sets its own again on the next.
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True
        return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
