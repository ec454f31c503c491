"""Text that was decoded in the wrong character set, repaired where the signs of it are clear, and counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from musician.data.rendering.conversation import Conversation, Document, Row
from musician.runtime.errors import UserError

#: Control characters that no text has on purpose: bytes of DOS or Windows read as Latin-1.
_CONTROL = re.compile("[\x80-\x9f]")
_LETTER = "[A-Za-zß-ÿ]"
#: Signs that a text is from DOS: a letter of its set inside a word (but for the place of Windows' apostrophe), or at
#: the start of one where Windows has a closing sign, or an opening quotation mark that nothing closes.
_FROM_DOS = re.compile(
    f"(?<={_LETTER})[\x80-\x91\x93-\x9a](?={_LETTER})"
    f"|(?<!{_LETTER})[\x81\x94\x99](?={_LETTER})"
    f"|\\A[^\x93\x94]*(?<!{_LETTER})\x84(?={_LETTER})[^\x93\x94]*\\Z"
)
_BESIDE = re.compile(f"(?<={_LETTER})[\x80-\x9a]|[\x80-\x9a](?={_LETTER})")
#: Where Windows has a letter, if it is no part of a character of UTF-8: it may as well be from DOS or elsewhere.
_UNCLEAR = re.compile("(?<![\xc2-\xf4\x80-\xbf])[\x8a\x8e\x9a\x9e\x9f]")

MARK, DOS, MOJIBAKE, LEFT = "byte order mark", "letters of DOS", "mojibake", "control characters left as they are"


def repaired(row: Row) -> tuple[Row, frozenset[str]]:
    """Return a row with its characters repaired, and what was wrong with them.

    Raises:
        UserError: ftfy is not installed.
    """
    faults: set[str] = set()
    if isinstance(row, Document):
        return Document(repair(row.text, faults.add)), frozenset(faults)
    messages = tuple(replace(each, content=repair(each.content, faults.add)) for each in row.messages)
    return Conversation(messages), frozenset(faults)


def repair(text: str, count: Callable[[str], object]) -> str:
    """Repair one text.

    UTF-8 that was read as another set is undone by ftfy (`naÃ¯ve`). Letters of DOS code page 437 that were read as
    Latin-1 (`M\\x84dchen`, as in the Essen collection) become letters again; ftfy would make quotation marks of them.
    Other control characters are left, and counted.

    Args:
        text: any text.
        count: called with the name of each fault.
    """
    if text.isascii():
        return text
    if text.startswith("\ufeff"):
        count(MARK)
        text = text.removeprefix("\ufeff")
    if _FROM_DOS.search(text):
        count(DOS)
        text = _BESIDE.sub(lambda found: found[0].encode("latin-1").decode("cp437"), text)
    fixed = text if _UNCLEAR.search(text) else _undone(text)
    if fixed != text:
        count(MOJIBAKE)
    if _CONTROL.search(fixed):
        count(LEFT)
    return fixed


def _undone(text: str) -> str:
    try:
        import ftfy
    except ImportError as error:
        raise UserError("data.quality.repair needs ftfy: pip install 'musician[quality]'") from error
    return ftfy.fix_encoding(text, fix_c1_controls=False, restore_byte_a0=False)
