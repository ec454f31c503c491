"""What the tests hold the code against; nothing here calls `musician.data`, except for the types of its arguments."""

from __future__ import annotations

import json
import random
from bisect import bisect_left, insort

from hypothesis import strategies as st

from musician.data.rendering.conversation import Conversation, Message

# --- tokens to bytes -----------------------------------------------------------------------------------------------


def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the rest for the characters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTE = _byte_of_character()


def _is_sentencepiece(tokenizer) -> bool:
    return tokenizer.backend_tokenizer.token_to_id("<0x0A>") is not None


def without_unknown_bytes(tokenizer, text: str) -> bytes:
    """What a tokenizer can say of a text: SmolLM2's has no token for some rare bytes, and drops them."""
    if _is_sentencepiece(tokenizer):
        return text.encode()
    known = {
        byte for character, byte in _BYTE.items() if tokenizer.backend_tokenizer.token_to_id(character) is not None
    }
    return bytes(byte for byte in text.encode() if byte in known)


def spell(tokenizer, ids) -> list[bytes | int]:
    """The bytes of each token, by the rules of byte-level BPE or SentencePiece; special tokens stay ids."""
    sentencepiece = _is_sentencepiece(tokenizer)
    spelled: list[bytes | int] = []
    for index, token in zip(ids, tokenizer.convert_ids_to_tokens([int(i) for i in ids]), strict=True):
        if int(index) in tokenizer.all_special_ids:
            spelled.append(int(index))
        elif not sentencepiece:
            spelled.append(bytes(_BYTE[character] for character in token))
        elif len(token) == 6 and token.startswith("<0x"):
            spelled.append(bytes([int(token[3:5], 16)]))
        else:
            spelled.append(token.replace("▁", " ").encode())
    return spelled


# --- the templates, spelled out -------------------------------------------------------------------------------------

BOS, EOS = "bos", "eos"


def layout(template: str, messages, starts_with_bos: bool) -> list[tuple[str | None, str, bool]]:
    """(special token, text, supervised) of each part of a rendered conversation."""
    parts: list[tuple[str | None, str, bool]] = [(BOS, "", False)] if starts_with_bos else []
    for place, (role, text) in enumerate((m.role, m.content) for m in messages):
        continues = place > 0 and messages[place - 1].role == "assistant"
        parts += _turn(template, role, text, continues)
    return parts


def _turn(template: str, role: str, text: str, continues: bool) -> list[tuple[str | None, str, bool]]:
    answers = role == "assistant"
    if template == "human_assistant":
        name = {"user": " Human:", "assistant": " Assistant:", "system": ""}[role]
        return [(None, name, False), (None, f" {text}", answers), (EOS, "", answers)]
    if template == "chatmusician":
        if role == "system":
            return [(None, text, False), (EOS, "", False), (None, " ", False)]
        name = {"user": " Human:", "assistant": " Assistant:"}[role]
        before = [(None, " ", False)] if continues else []
        after = [] if answers else [(None, " ", False)]
        return [*before, (None, name, False), (None, f" {text} ", answers), (EOS, "", answers), *after]
    before = [(None, "\n", False)] if continues else []
    after = [] if answers else [(None, "\n", False)]
    opening = [(BOS, "", False), (None, f"{role}\n", False)]
    return [*before, *opening, (None, text, answers), (EOS, "", answers), *after]


def flatten_layout(parts, tokenizer) -> list[tuple[int, bool]]:
    """One (byte, supervised) for each byte of text, one (-1 - id, supervised) for each special token."""
    flat: list[tuple[int, bool]] = []
    for special, text, supervised in parts:
        if special is None:
            flat += [(byte, supervised) for byte in without_unknown_bytes(tokenizer, text)]
        else:
            flat.append((-1 - (tokenizer.bos_token_id if special == BOS else tokenizer.eos_token_id), supervised))
    return flat


def flatten_tokens(spelled, supervised) -> list[tuple[int, bool]]:
    flat: list[tuple[int, bool]] = []
    for token, wanted in zip(spelled, supervised, strict=True):
        flat += [(-1 - token, bool(wanted))] if isinstance(token, int) else [(byte, bool(wanted)) for byte in token]
    return flat


# --- conversations --------------------------------------------------------------------------------------------------

TRICKY = (
    "",
    " ",
    "\n",
    "</s>",
    "</s> Assistant:",
    " Human: hi </s>",
    "<s>",
    "<unk>",
    "<|im_end|>",
    "<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>",
    "{content}",
    "{eos}",
    "{bos}",
    "X:1\nL:1/8\nM:6/8\nK:Emin\n|: B2E G2A | BAB d2e :|\n",
    "  two blanks before, two after  ",
    "\n\n\tmixed \r\n blank\n",
    "C , D . don 't e . g .",
    "Lydian ♯4, F♮, 五度圏, naïve e\u0301, 🎵",
)

#: U+2581 is how SentencePiece writes a blank, so it cannot be told from one.
_any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=20)
contents = st.one_of(
    st.sampled_from(TRICKY),
    _any_text,
    st.builds("".join, st.lists(st.one_of(st.sampled_from(TRICKY), _any_text), max_size=3)),
)


@st.composite
def conversations(draw, content=contents, max_exchanges: int = 3, system: bool = True):
    """A conversation that ends with an answer, with or without a system message."""
    messages = [Message("system", draw(content))] if system and draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, max_exchanges))):
        messages += [Message("user", draw(content)), Message("assistant", draw(content))]
    return Conversation(tuple(messages))


# --- packing --------------------------------------------------------------------------------------------------------


def best_fit_decreasing(lengths, capacity: int) -> list[list[int]]:
    """The textbook algorithm, one item at a time: lengths of the items of each row."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free, row), sorted
    for length in sorted(lengths, reverse=True):
        place = bisect_left(room, (length, -1))
        if place == len(room):
            rows.append([])
            free, row = capacity, len(rows) - 1
        else:
            free, row = room.pop(place)
        rows[row].append(length)
        insort(room, (free - length, row))
    return rows


# --- tunes ----------------------------------------------------------------------------------------------------------

_SCALE = "CDEFGABcdefgab"


def tune_in_c(seed: int) -> str:
    """Eight bars of notes of the scale of C, different for each seed."""
    rng = random.Random(seed)
    bars = [" ".join(rng.choice(_SCALE[:8]) + rng.choice(("", "2")) for _ in range(4)) for _ in range(8)]
    return f"X:1\nT:Tune {seed}\nL:1/8\nM:none\nK:C\n" + " | ".join(bars) + " |]\n"


def same_tune_in_g(tune: str, title: str) -> str:
    """A fifth up: each letter moves four places, and the key signature sees to the sharp; another title and layout."""
    header, body = tune.split("K:C\n")
    higher = "".join(_SCALE[_SCALE.index(letter) + 4] if letter in _SCALE else letter for letter in body)
    number = header.split("\n")[0]
    return f"{number}\nT:{title}\nC:someone else\nL:1/8\nM:none\nK:G\n" + higher.replace(" | ", "|\n")


def write_jsonl(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)
