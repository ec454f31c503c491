"""The share of one process in a benchmark, and its exchange with the other processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

#: Accepts one object, returns those of all processes in the order of their ranks, on every process.
Exchange = Callable[[Any], list[Any]]


class RankFailed(RuntimeError):
    """Another process could not do its share."""


def _alone(item: Any) -> list[Any]:
    return [item]


@dataclass(frozen=True, slots=True)
class Shard:
    """Which items this process measures, and how the processes exchange what they found.

    Attributes:
        rank: this process.
        world_size: number of processes.
        exchange: sends what each process has to every process, as `torch.distributed.all_gather_object` does.
    """

    rank: int = 0
    world_size: int = 1
    exchange: Exchange = _alone

    def __post_init__(self) -> None:
        if self.world_size > 1 and self.exchange is _alone:
            raise ValueError(f"world_size={self.world_size} needs an exchange between the processes")

    def mine(self, count: int) -> range:
        """Return the positions of this process among `count`: every `world_size`-th from its rank on."""
        return range(self.rank, count, self.world_size)

    def gather(self, items: list[Any]) -> list[Any]:
        """Return the items of all processes; a collective call.

        Raises:
            RankFailed: another process called `fail` instead.
        """
        sent = self.exchange((None, items))
        failed = [f"rank {rank}: {reason}" for rank, (reason, _) in enumerate(sent) if reason is not None]
        if failed:
            raise RankFailed("; ".join(failed))
        return [item for _, part in sent for item in part]

    def gather_in_order(self, items: Sequence[Any], count: int) -> list[Any]:
        """Return the items of all `count` positions in order, from those of `mine(count)`; a collective call."""
        found = sorted(self.gather(list(zip(self.mine(count), items, strict=True))), key=itemgetter(0))
        if [position for position, _ in found] != list(range(count)):
            raise ValueError(f"the ranks sent {len(found)} items for {count} positions")
        return [item for _, item in found]

    def most(self, number: float) -> Any:
        """Return the largest of all processes' numbers; a collective call."""
        return max(self.gather([number]))

    def fail(self, reason: str) -> None:
        """Take part in the next `gather` of the others with the reason why this process has nothing to send.

        Without it they would wait for ever. To be called once, and not after a `RankFailed`, which all have seen.
        """
        self.exchange((reason, []))
