"""A folder with a SentencePiece `tokenizer.model`: the ids must be those of sentencepiece itself.

transformers 5.23 converts a bare model with two faults: it lists the BPE merges in the order of ids, while
sentencepiece applies them by piece score (of 3,189 tunes 1,401 came out with other ids, Llama-2 vocabulary), and it
leaves out the blank that sentencepiece puts before a text which itself begins with one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from musician.runtime.errors import UserError

#: Texts on which a conversion is compared with sentencepiece; each has gone wrong in one tokenizer or another.
PROBES = (
    "",
    " ",
    "  two  blanks  ",
    "\n\n\tmixed \r\n blank\n",
    "naïve ♯4 F♮ 五度圏 🎵 e\u0301 \ufb01 \uff21\u00a0x\u200d\u2028\ufeff",
    "<s> </s> <unk> [INST] <0x0A>",
    "X:1\nT:The 3rd  Reel\nL:1/8\nM:6/8\nK:Emin\n|: B2E G2A | BAB d2e | {/c}B2E (3GFE !trill!D4 :|]\n",
    'D2|"Em"EBBA B2 EB|B2 AB dBAG|"D"FDAD BDAD|FDAD dAFD|^F,=C\'_b3/2>a//',
    "A minor scale, harmonised in thirds, doesn't modulate.",
    "C,,," * 40 + " " * 40,
)


def read_as_sentencepiece(tokenizer: Any, directory: Path) -> Any:
    """Mend a tokenizer that was converted from a bare `tokenizer.model`; any other comes back as it is.

    Args:
        tokenizer: what transformers made of the directory.
        directory: where it came from.

    Raises:
        UserError: a bare model and no sentencepiece to read it with; a conversion that still differs from it;
            a `tokenizer.json` beside the model that has its merges in another order than the model's scores.
    """
    model_file = directory / "tokenizer.model"
    if not model_file.is_file():
        return tokenizer
    bare = not (directory / "tokenizer.json").is_file()
    pieces = open_model(model_file, needed=bare)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    if pieces is None or backend["model"].get("type") != "BPE":
        return _checked(tokenizer, pieces, directory) if bare else tokenizer
    score = {pieces.id_to_piece(index): pieces.get_score(index) for index in range(pieces.get_piece_size())}
    merges = sorted(backend["model"]["merges"], key=lambda pair: -score.get(pair[0] + pair[1], float("-inf")))
    if not bare:
        if merges != backend["model"]["merges"]:
            raise UserError(
                f"tokenizer {directory}: tokenizer.json does not order its merges by the scores of tokenizer.model, so "
                "the two give different ids; remove tokenizer.json to read tokenizer.model"
            )
        return tokenizer
    backend["model"]["merges"] = merges
    if (backend["pre_tokenizer"] or {}).get("type") == "Metaspace" and backend["normalizer"] is None:
        backend["normalizer"] = {"type": "Replace", "pattern": {"Regex": "\\A[ ▁]"}, "content": "▁▁"}
    return _checked(_generic(tokenizer, backend), pieces, directory)


def agrees(tokenizer: Any, pieces: Any) -> bool:
    """Whether a tokenizer gives sentencepiece's ids of every probe."""
    found = tokenizer(list(PROBES), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return bool(found == [list(pieces.encode(text)) for text in PROBES])


def _checked(tokenizer: Any, pieces: Any, directory: Path) -> Any:
    if not agrees(tokenizer, pieces):
        raise UserError(
            f"tokenizer {directory}: transformers reads tokenizer.model unlike sentencepiece; "
            "put the model's own tokenizer.json beside it"
        )
    return tokenizer


def _generic(tokenizer: Any, backend: dict[str, Any]) -> Any:
    """The backend in transformers' plain class: the model's own would rebuild its parts whenever it is loaded."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    specials = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    generic = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)),
        model_max_length=tokenizer.model_max_length,
        clean_up_tokenization_spaces=False,
        **specials,
    )
    generic.name_or_path = tokenizer.name_or_path
    generic.chat_template = tokenizer.chat_template
    return generic


def open_model(model_file: Path, needed: bool) -> Any:
    """The model as sentencepiece reads it; None where that is not installed and need not be."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        if not needed:
            return None
        raise UserError(
            f"tokenizer {model_file.parent}: a bare tokenizer.model needs sentencepiece to be read right; "
            "run `pip install 'musician[sentencepiece]'`"
        ) from error
    return SentencePieceProcessor(model_file=str(model_file))
