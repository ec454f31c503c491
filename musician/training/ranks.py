"""Exchange of objects between the ranks of a job."""

from __future__ import annotations

from typing import Any

from torch import distributed


def exchange_objects(item: Any) -> list[Any]:
    """Return what each rank passes, in the order of the ranks; a collective call."""
    if not distributed.is_initialized():
        return [item]
    items: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(items, item)
    return items
