"""Guesses at the next tokens from what was written before: tunes repeat themselves.

Prompt lookup decoding (Saxena 2023, transformers' `prompt_lookup_num_tokens`): the tokens that followed the last
occurrence of the newest few are tried in the same pass as the next token. Those that are what would have been drawn
anyway are kept, so an answer is the same with guesses and without.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Newest tokens that occurred together before, and how many guesses that is good for; the longest match counts. Among a
#: few settings these cost least for greedy answers of a tuned SmolLM2.
_TRUST = ((8, 24), (6, 12), (4, 8), (3, 4), (2, 2))


class Lookup:
    """Guesses for one sequence."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}
        self._indexed = 1

    def guess(self, written: Sequence[int], most: int) -> list[int]:
        """Tokens that may follow those written, at most `most`; none without a precedent.

        Where the newest tokens repeat those just before them, the repetition is taken to go on.

        Args:
            written: all ids of the sequence, which only grows from call to call.
            most: how many at most.
        """
        for end in range(self._indexed, len(written)):
            for length, _ in _TRUST:
                self._after[tuple(written[max(0, end - length) : end])] = end
        self._indexed = len(written)
        for length, trusted in _TRUST:
            start = self._after.get(tuple(written[-length:]))
            if start is not None:
                period = len(written) - start
                return [written[start + step % period] for step in range(min(most, trusted))]
        return []
