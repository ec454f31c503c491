"""Items of a JSON array of any size, read piece by piece."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

#: Bytes read at once, at first; as many again as the item that does not fit, so that the work stays linear.
CHUNK = 1 << 18
#: An item longer than this is refused.
LONGEST = 1 << 28

_BLANK = re.compile(r"[ \t\n\r]*")
#: What the decoder makes of the last so many characters may change with those that follow.
_WORD = 16


class ArrayReader:
    """Iterates over the items of one JSON array; holds an item and a chunk at a time.

    Args:
        stream: its bytes, UTF-8 with or without a byte order mark.

    Raises:
        ValueError: not one array of valid JSON; from the iteration, after the items before the fault.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._place, self._ended = "", 0, False
        self._scan = json.JSONDecoder().raw_decode

    def __iter__(self) -> Iterator[Any]:
        if self._take() != "[":
            raise ValueError("expected an array")
        after = self._take() if self._next() == "]" else ","
        while after == ",":
            yield self._item()
            after = self._take()
        if after != "]":
            raise ValueError(f"expected ',' or ']' after an item, found {after!r}" if after else "ends in an array")
        if self._next():
            raise ValueError("more text after the array")

    def _take(self) -> str:
        """The next character that is not blank; nothing at the end."""
        found = self._next()
        self._place += len(found)
        return found

    def _next(self) -> str:
        """The next character that is not blank, which stays; nothing at the end."""
        while True:
            self._place = _BLANK.match(self._text, self._place).end()  # type: ignore[union-attr]
            if self._place < len(self._text):
                return self._text[self._place]
            if self._ended:
                return ""
            self._more()

    def _item(self) -> Any:
        while True:
            self._next()
            try:
                item, end = self._scan(self._text, self._place)
            except json.JSONDecodeError as error:
                if self._ended or self._is_final(error):
                    raise ValueError(error.msg) from error
            except RecursionError as error:
                raise ValueError("nested too deeply") from error
            else:
                if self._ended or end + _WORD < len(self._text):  # a number may go on: 1.5e+
                    self._place = end
                    return item
            self._more()

    def _is_final(self, error: json.JSONDecodeError) -> bool:
        """Whether more text would not help."""
        if len(self._text) - self._place > LONGEST:
            return True
        return not error.msg.startswith("Unterminated") and error.pos < len(self._text.rstrip()) - _WORD

    def _more(self) -> None:
        held = self._text[self._place :]
        read = self._stream.read(max(CHUNK, len(held)))
        self._ended = not read
        self._text, self._place = held + self._decoder.decode(read, final=self._ended), 0
