"""What differs between two configs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

ABSENT = "absent"


def differences(before: Any, now: Any, path: str = "", free: Collection[str] = ()) -> Iterator[str]:
    """Yield `path: before -> now` for what differs between two trees.

    Args:
        before: the old tree.
        now: the new one.
        path: of both in a larger tree.
        free: paths that may differ.
    """
    if path in free or before == now:
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            deeper = f"{path}.{key}" if path else str(key)
            yield from differences(before.get(key, ABSENT), now.get(key, ABSENT), deeper, free)
        return
    yield f"{path}: {_short(before)} -> {_short(now)}"


def in_short(changes: Sequence[str]) -> str:
    """Return changes in one line, the first five in full."""
    return "; ".join(changes[:5]) + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
