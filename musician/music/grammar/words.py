"""A finite set of words, asked one character at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Words(Generic[T]):
    """Words with their meanings.

    Args:
        meanings: what each word stands for.

    Attributes:
        meanings: as given.
        extensions: for each prefix of a word, itself included: the words that begin with it, the shortest first.
    """

    def __init__(self, meanings: Mapping[str, T]) -> None:
        self.meanings = dict(meanings)
        self.extensions: dict[str, list[str]] = {}
        for word in sorted(self.meanings, key=len):
            for end in range(len(word) + 1):
                self.extensions.setdefault(word[:end], []).append(word)

    def __contains__(self, word: str) -> bool:
        return word in self.meanings

    def begins(self, prefix: str) -> bool:
        """Whether some word begins with this."""
        return prefix in self.extensions

    def shortest(self, prefix: str) -> str:
        """The shortest word that begins with this."""
        return self.extensions[prefix][0]


def plain_words(words: Iterable[str]) -> Words[None]:
    """Words without a meaning of their own."""
    return Words(dict.fromkeys(words))
