"""How alike two sequences are: edits between them, and what they have in common in order."""

from collections.abc import Hashable, Sequence


def edit_distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return how many insertions, deletions and replacements make one sequence the other (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for place, left in enumerate(one, 1):
        diagonal, row[0] = row[0], place
        for column, right in enumerate(other, 1):
            diagonal, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, diagonal + (left != right))
    return row[-1]


def longest_common_subsequence(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return the length of the longest sequence that both hold in order, gaps allowed."""
    row = [0] * (len(other) + 1)
    for left in one:
        diagonal = 0
        for column, right in enumerate(other, 1):
            diagonal, row[column] = row[column], diagonal + 1 if left == right else max(row[column], row[column - 1])
    return row[-1]
