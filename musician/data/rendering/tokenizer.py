"""Load a tokenizer, as it is: no token is ever added to it here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from musician.data.rendering.sentencepiece_model import read_as_sentencepiece
from musician.runtime.errors import UserError
from musician.runtime.pretrained import locate


def load_tokenizer(name_or_path: str, trust_remote_code: bool = False) -> Any:
    """Load a fast tokenizer from a hub id, a local directory or a GGUF file.

    A missing padding token is set to the end-of-sequence token, never added: labels and lengths carry the mask, so the
    padding id means nothing, and an added row would leave the embedding smaller than the tokenizer (B9).

    Raises:
        UserError: nothing loadable there, or a tokenizer without an end-of-sequence token.
    """
    if name_or_path == "bytes":
        return byte_tokenizer()
    from transformers import AutoTokenizer

    path = locate(name_or_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"tokenizer {name_or_path}: cannot be loaded ({reason}); give a directory or a hub id"
        ) from error
    if not tokenizer.is_fast:
        raise UserError(
            f"tokenizer {name_or_path}: only fast tokenizers are supported; save a tokenizer.json beside it"
        )
    if tokenizer.eos_token_id is None:
        raise UserError(f"tokenizer {name_or_path}: has no end-of-sequence token, so no document or turn could end")
    tokenizer = read_as_sentencepiece(tokenizer, Path(path))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def byte_tokenizer() -> Any:
    """A tokenizer of the 256 bytes and `<s>`, `</s>`, `<unk>`; needs no file. For tests and random tiny models."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<unk>", "<s>", "</s>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate([*specials, *alphabet])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash of everything that decides which ids a text gets (vocabulary, merges, normaliser, special tokens)."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["padding"] = backend["truncation"] = None  # call-time state, not identity
    specials = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    text = json.dumps([backend, specials], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer itself puts its beginning-of-sequence token before a text."""
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


def smallest_dtype(vocabulary_size: int) -> str:
    """Name of the smallest unsigned integer type that holds every id."""
    return "uint16" if vocabulary_size <= 1 << 16 else "uint32"
