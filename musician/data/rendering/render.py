"""The one renderer: a document or a conversation becomes token ids and a mask of what is supervised.

Preprocessing, training, benchmarks in chat form and generation all call it, so a prompt that is served is, id for id, a
prefix of what was trained: `prompt_ids(conversation[:-1])` is a prefix of `render(conversation).input_ids`.

This holds by construction for every tokenizer: each segment of a template is tokenised on its own, never joined to its
neighbours first (the original joined them differently in training and serving, and the ids differed: B1).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import Any

import numpy as np

from musician.data.rendering.conversation import ROLES, Conversation, Document, Message, Row
from musician.data.rendering.encode import Encoder
from musician.data.rendering.template import CONTENT, ChatTemplate, find_template
from musician.data.rendering.tokenizer import adds_bos, smallest_dtype, tokenizer_hash
from musician.runtime.errors import UserError


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids of one document or conversation.

    Attributes:
        input_ids: `[length]`, the smallest unsigned type that holds the vocabulary.
        supervised: boolean mask `[length]` of the tokens whose prediction is trained.
        cuts: what was cut to fit, in order: `user text`, `answer`, `turns`, `document` (a piece of a longer one).
    """

    input_ids: np.ndarray
    supervised: np.ndarray
    cuts: tuple[str, ...] = ()


class Renderer:
    """Turns rows into token ids with one tokenizer and one template.

    Args:
        tokenizer: a fast tokenizer with an end-of-sequence token.
        template: a `ChatTemplate` or the name of one.
        add_bos: put the beginning-of-sequence token first; None does what the tokenizer itself does.
        add_eos: end a document with the end-of-sequence token.
        max_prompt_share: an over-long prompt is cut to this share of `max_length` (1536 of 2048 in the original).

    Raises:
        UserError: unknown template, or one that needs a special token that the tokenizer lacks.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str | ChatTemplate = "human_assistant",
        add_bos: bool | None = None,
        add_eos: bool = True,
        max_prompt_share: float = 0.75,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template = find_template(template) if isinstance(template, str) else template
        self._encoder = Encoder(tokenizer)
        self.add_bos = adds_bos(tokenizer) if add_bos is None else add_bos
        self.add_eos = add_eos
        self.max_prompt_share = max_prompt_share
        self.dtype = smallest_dtype(len(tokenizer))
        self._specials = {"{bos}": tokenizer.bos_token_id, "{eos}": tokenizer.eos_token_id}
        needed = {
            s for turn in (template.user, template.assistant, template.system) for s in turn if s in self._specials
        }
        needed |= {"{bos}"} if self.add_bos else set()
        for name in sorted(needed):
            if self._specials[name] is None:
                raise UserError(
                    f"template '{template.name}' needs the token {name}, which this tokenizer does not have"
                )
        self._bos: list[int] = [self._specials["{bos}"]] if self.add_bos else []
        self._eos: list[int] = [self._specials["{eos}"]] if add_eos else []
        self._sentinel = "\n" if self._has_dummy_prefix() else ""
        self._sentinel_ids = self._encoder([self._sentinel])[0] if self._sentinel else []
        self._separator = self._marker_ids(template.separator)
        self._frames = {role: self._frame(getattr(template, role)) for role in ROLES}

    @cached_property
    def tokenizer_hash(self) -> str:
        """Hash of everything in the tokenizer that decides an id."""
        return tokenizer_hash(self.tokenizer)

    def identity(self) -> str:
        """Hash of the template and the policies, for cache keys and for what a checkpoint promises."""
        policy = [asdict(self.template), self.add_bos, self.add_eos, self.max_prompt_share]
        return hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).hexdigest()[:16]

    def render(self, row: Row, max_length: int | None = None) -> list[Rendered]:
        """Render one row: a conversation gives one item, a document longer than `max_length` gives several."""
        return self.render_batch([row], max_length)[0]

    def render_batch(self, rows: Sequence[Row], max_length: int | None = None) -> list[list[Rendered]]:
        """Render many rows with one call of the tokenizer."""
        documents = iter(self._encoder.arrays([row.text for row in rows if isinstance(row, Document)]))
        contents = iter(
            self._encode([text for row in rows if isinstance(row, Conversation) for text in self._contents(row)])
        )
        return [
            self._document(next(documents), max_length)
            if isinstance(row, Document)
            else [self._conversation(row, list(islice(contents, len(row.messages))), max_length)]
            for row in rows
        ]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Ids after which the assistant's answer begins: every turn so far and the opening of the assistant's.

        Args:
            messages: the conversation so far; the last turn is the user's (or the system's).
        """
        conversation = Conversation(tuple(messages))
        turns = self._turns(conversation, self._encode(self._contents(conversation)))
        return [token for ids, _ in turns for token in ids] + self._frames["assistant"][0]

    def read_answer(self, ids: Iterable[int]) -> str:
        """Text of an answer that the model wrote after `prompt_ids`; what the template adds around it is removed."""
        text = self.read_text(ids)
        before, _, after = self.template.assistant[-2].partition(CONTENT)
        return text.removeprefix(before).removesuffix(after)

    def read_text(self, ids: Iterable[int]) -> str:
        """Text of ids that continue some text, up to the first end-of-sequence token."""
        ids = list(ids)
        if self.tokenizer.eos_token_id in ids:
            ids = ids[: ids.index(self.tokenizer.eos_token_id)]
        text = self.tokenizer.decode([*self._sentinel_ids, *ids], skip_special_tokens=False)
        return text.removeprefix(self._sentinel)

    def read_parts(self, ids: np.ndarray, supervised: np.ndarray) -> list[tuple[bool, str]]:
        """Text of rendered ids, special tokens too, part by part: whether it is supervised, and how it reads."""
        starts = [0, *(np.flatnonzero(np.diff(supervised)) + 1).tolist(), len(ids)]
        return [
            (bool(supervised[start]), self.tokenizer.decode(ids[start:end].tolist(), skip_special_tokens=False))
            for start, end in pairwise(starts)
        ]

    # --- documents -------------------------------------------------------------------------------------------------

    def _document(self, ids: np.ndarray, max_length: int | None) -> list[Rendered]:
        ids = np.concatenate([self._bos, ids, self._eos], dtype=self.dtype, casting="unsafe")
        if max_length is None or len(ids) <= max_length:
            return [_piece(ids, ())]
        cuts = self._bar_ends(ids)
        pieces, start = [], 0
        while start < len(ids):
            end = _cut(start, len(ids), max_length, cuts)
            pieces.append(_piece(ids[start:end], ("document",)))
            start = end
        return pieces

    def _bar_ends(self, ids: np.ndarray) -> np.ndarray:
        """Positions after a token that ends a line or a bar."""
        tokens = self.tokenizer.convert_ids_to_tokens(ids.tolist())
        ends = [i + 1 for i, token in enumerate(tokens) if token[-1:] in ("|", "\n", "Ċ") or token == "<0x0A>"]
        return np.asarray(ends, dtype=np.int64)

    # --- conversations ---------------------------------------------------------------------------------------------

    def _conversation(self, row: Conversation, contents: list[list[int]], max_length: int | None) -> Rendered:
        cuts: list[str] = []
        messages = list(row.messages)
        turns = self._turns(row, contents)
        if max_length is not None:
            while _length(turns) > max_length and sum(m.role == "user" for m in messages) > 1:
                messages, contents = messages[:-2], contents[:-2]
                turns = self._turns(Conversation(tuple(messages)), contents)
                cuts += [] if "turns" in cuts else ["turns"]
            if _length(turns) > max_length:
                turns, more = self._shorten(Conversation(tuple(messages)), contents, max_length)
                cuts += more
        return _assemble(turns, self.dtype, tuple(cuts))

    def _shorten(self, row: Conversation, contents: list[list[int]], max_length: int) -> tuple[list[Turn], list[str]]:
        """Fit one exchange: the middle of the user's text goes first, then the end of the answer, with its EOS.

        Turn markers and both ends of the user's text stay (B3), and an answer that was cut has no EOS (B2).
        """
        cuts = []
        turns = self._turns(row, contents)
        user = max(index for index, message in enumerate(row.messages) if message.role == "user")
        prompt = _length(turns[:-1]) + len(self._frames["assistant"][0])
        excess = min(prompt - int(max_length * self.max_prompt_share), _length(turns) - max_length)
        kept = len(contents[user]) - excess
        if excess > 0 and kept >= 2:  # a question too short to lose that much stays complete
            contents = list(contents)
            contents[user] = contents[user][: (kept + 1) // 2] + contents[user][len(contents[user]) - kept // 2 :]
            turns = self._turns(row, contents)
            cuts.append("user text")
        excess = _length(turns) - max_length
        if excess > 0:
            ids, supervised = turns[-1]
            if supervised <= excess:
                raise UserError(f"max_length={max_length} leaves no room for an answer beside the prompt; raise it")
            turns[-1] = (ids[:-excess], supervised - excess)
            cuts.append("answer")
        return turns, cuts

    def _turns(self, row: Conversation, contents: list[list[int]]) -> list[Turn]:
        """Ids of each turn and how many of its last are supervised; separators belong to the turn they precede."""
        turns: list[Turn] = []
        for index, (message, content) in enumerate(zip(row.messages, contents, strict=True)):
            before, _, after = self._frames[message.role]
            ids = before + content + after
            if index == 0 and before[:1] != self._bos:
                ids = self._bos + ids
            elif index and row.messages[index - 1].role == "assistant":
                ids = self._separator + ids
            turns.append((ids, len(content) + 1 if message.role == "assistant" else 0))
        return turns

    # --- fragments -------------------------------------------------------------------------------------------------

    def _contents(self, row: Conversation) -> list[str]:
        """The segment with the content of each message, filled in."""
        return [self._frames[message.role][1].replace(CONTENT, message.content) for message in row.messages]

    def _frame(self, segments: Sequence[str]) -> tuple[list[int], str, list[int]]:
        """Ids before the content of a turn, the segment with the content, and ids after it."""
        place = next(index for index, segment in enumerate(segments) if CONTENT in segment)
        return self._marker_ids(segments[:place]), segments[place], self._marker_ids(segments[place + 1 :])

    def _marker_ids(self, segments: Iterable[str]) -> list[int]:
        specials = self._specials
        ids = [[specials[each]] if each in specials else self._encode([each])[0] for each in segments]
        return [token for part in ids for token in part]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts as they read in running text; special tokens spelled out in them stay plain text (B8)."""
        encoded = self._encoder([self._sentinel + text for text in texts])
        return [self._without_sentinel(ids, text) for ids, text in zip(encoded, texts, strict=True)]

    def _without_sentinel(self, ids: list[int], text: str) -> list[int]:
        count = len(self._sentinel_ids)
        # Only a vocabulary with a piece that joins a newline with text gets the plain ids.
        return ids[count:] if ids[:count] == self._sentinel_ids else self._encoder([text])[0]

    def _has_dummy_prefix(self) -> bool:
        """Whether the tokenizer puts a blank before any text, as SentencePiece does, which a fragment must not get."""
        first = self.tokenizer.convert_ids_to_tokens(self._encoder(["a"])[0])[0]
        return first.startswith("▁")


#: Token ids of a turn, and how many of its last ones are supervised.
Turn = tuple[list[int], int]


def _length(turns: Sequence[Turn]) -> int:
    return sum(len(ids) for ids, _ in turns)


def _piece(ids: np.ndarray, cuts: tuple[str, ...]) -> Rendered:
    # The first token has nothing before it to be predicted from.
    return Rendered(ids, np.arange(len(ids)) > 0, cuts)


def _assemble(turns: Sequence[Turn], dtype: str, cuts: tuple[str, ...]) -> Rendered:
    """Join turns; their tails are supervised."""
    ids = np.asarray([token for turn, _ in turns for token in turn], dtype)
    runs = [length for turn, supervised in turns for length in (len(turn) - supervised, supervised)]
    return Rendered(ids, np.repeat([False, True] * len(turns), runs), cuts)


def _cut(start: int, total: int, max_length: int, ends: np.ndarray) -> int:
    """End of the piece that begins at `start`: the last bar or line end that fits, if it fills half the room."""
    limit = start + max_length
    if limit >= total:
        return total
    position = int(np.searchsorted(ends, limit, side="right")) - 1
    if position >= 0 and ends[position] > start + max_length // 2:
        return int(ends[position])
    return limit
