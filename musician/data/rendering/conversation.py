"""A row of training data as a document or as a list of chat messages, whichever schema it came in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from musician.runtime.errors import UserError

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; `content` is plain text, free of turn markup."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Document:
    """Running text, supervised as a whole."""

    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns of a chat; the assistant's are supervised."""

    messages: tuple[Message, ...]


Row = Document | Conversation

# MusicPile-sft writes the markup into its fields: "Human: ...", "... </s> ", "Assistant: ... </s> ".
_OPENING = re.compile(r"\A\s*(?:Human|Assistant):[ \t]?")
_CLOSING = re.compile(r"[ \t]*</s>\s*\Z")
_ALIASES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}


def strip_markup(text: str) -> str:
    """Remove one `Human:`/`Assistant:` at the start and `</s>` at the end; anything inside stays literal text."""
    return _CLOSING.sub("", _OPENING.sub("", text, count=1))


def read_row(row: Mapping[str, Any], text_field: str = "text") -> Row:
    """Understand one row by its columns.

    Recognised, in this order: `messages` (role/content, or ShareGPT's from/value), `instruction`/`input`/`output`
    (Alpaca and MusicPile-sft, with or without markup inside the fields), and `text_field` (MusicPile).

    Raises:
        UserError: none of these columns, or a value of the wrong type. The caller adds file and line.
    """
    if row.get("messages") is not None:
        return Conversation(tuple(_message(item) for item in _list(row["messages"])))
    if "instruction" in row and "output" in row:
        parts = [strip_markup(_text(row, name)) for name in ("instruction", "input") if row.get(name)]
        prompt = "\n".join(part for part in parts if part)
        return Conversation((Message("user", prompt), Message("assistant", strip_markup(_text(row, "output")))))
    if text_field in row:
        return Document(_text(row, text_field))
    raise UserError(
        f"no column '{text_field}', 'messages' or 'instruction'+'output'; found {sorted(map(str, row))}; "
        "name the text column with data.text_field"
    )


def defect(row: Row) -> str | None:
    """Why a row cannot be trained on (a reason to count it under), or None for a sound one."""
    if isinstance(row, Document):
        return None if row.text.strip() else "empty text"
    turns = [message for message in row.messages if message.role != "system"]
    if not turns or turns[-1].role != "assistant":
        return "does not end with an assistant turn"
    if any(message.role != ("user", "assistant")[index % 2] for index, message in enumerate(turns)):
        return "turns do not alternate"
    if any(message.role == "system" for message in row.messages[1:]):
        return "system message after the first turn"
    if not all(message.content.strip() for message in turns):
        return "empty turn"
    return None


def _message(item: Any) -> Message:
    if not isinstance(item, Mapping):
        raise UserError(f"a message must be a mapping with 'role' and 'content', found {type(item).__name__}")
    role = str(item.get("role") or item.get("from") or "").lower()
    role = _ALIASES.get(role, role)
    if role not in ROLES:
        raise UserError(f"unknown role '{role}' in messages; use system, user or assistant")
    content = item.get("content", item.get("value"))
    if not isinstance(content, str):
        raise UserError(f"a message's content must be text, found {type(content).__name__}")
    return Message(role, _unicode(content))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise UserError(f"'messages' must be a list, found {type(value).__name__}")
    return list(value)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"column '{name}' must hold text, found {type(value).__name__}")
    return _unicode(value)


def _unicode(text: str) -> str:
    """The text itself; half of a surrogate pair, which JSON can spell but no encoding holds, is refused."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the text is not valid Unicode at character {error.start}; correct or remove it") from error
    return text
