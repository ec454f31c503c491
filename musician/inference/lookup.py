"""Guesses at the next tokens from what was written before: tunes repeat themselves.

Prompt lookup decoding (Saxena 2023, transformers' `prompt_lookup_num_tokens`): the tokens that followed the last
occurrence of the newest few are tried in the same pass as the next token. Those that are what would have been drawn
anyway are kept, so an answer is the same with guesses and without.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Newest tokens that must have occurred together before; the longest match is taken.
_LENGTHS = (4, 3, 2)

#: Guesses at a time: so many more rows of a product hardly add to the time of one.
_MOST = 8


class Lookup:
    """Guesses for one sequence; how many depends on how the last ones fared."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._most = 3

    def guess(self, written: Sequence[int], most: int) -> list[int]:
        """Tokens that may follow those written, at most `most`; none without a precedent.

        Where the newest tokens repeat those just before them, the repetition is taken to go on.
        """
        for end in range(max(self._indexed, 1), len(written)):
            for length in _LENGTHS:
                self._after[tuple(written[max(0, end - length) : end])] = end
        self._indexed = len(written)
        for length in _LENGTHS:
            start = self._after.get(tuple(written[-length:]))
            if start is not None:
                period = len(written) - start
                return [written[start + step % period] for step in range(min(most, self._most))]
        return []

    def judge(self, guessed: int, right: int) -> None:
        """Guess more after all were right, fewer after a wrong one."""
        if guessed:
            self._most = min(_MOST, guessed + 3) if right == guessed else right + 1
