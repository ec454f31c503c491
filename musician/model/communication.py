"""What the ranks of a job send each other in an optimiser step, and the time that takes on stated links.

The bytes follow what DeepSpeed 0.19 and Lightning do (tests count the traffic of real ranks): ZeRO-1 and 2 reduce
gradients with an all-reduce although each rank keeps a part only, ZeRO-2 does so for every micro-batch, and ZeRO-3
gathers frozen weights in each pass. Every count is in bytes.

Left out: latency (many small messages of stage 3 at hundreds of ranks), overlap with the computation, which both
collectives and copies slow down, ranks that wait for a slower one, checkpoints, evaluation, a busy network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from musician.model.memory import ALIGNMENT, padded
from musician.model.optimizer import parameter_groups

#: DeepSpeed 0.19's `stage3_max_reuse_distance`: a gathered weight stays when it is used again within so many numbers.
REUSE_DISTANCE = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """Messages of one optimiser step, by collective: bytes of the whole message, of which each rank has or gets a part.

    A few scalars a step (overflow, gradient norm, logged sums) are not counted.
    """

    all_reduce: int = 0
    reduce_scatter: int = 0
    all_gather: int = 0

    @property
    def ring_bytes(self) -> int:
        """Bytes that pass a link if the ring has endlessly many ranks; an all-reduce goes round twice."""
        return 2 * self.all_reduce + self.reduce_scatter + self.all_gather

    def sent(self, ranks: int) -> float:
        """Bytes a rank sends, and receives, when every collective is a ring over all ranks."""
        return self.ring_bytes * (ranks - 1) / ranks

    def seconds(self, nodes: int, cards: int, card_bandwidth: float, node_bandwidth: float) -> float:
        """Time on the links, a ring inside each node and one over the nodes, one after the other.

        Args:
            nodes: how many.
            cards: of each node.
            card_bandwidth: bytes/s that a card exchanges with those of its node, in and out at once.
            node_bandwidth: bytes/s of a node's network, in and out at once, shared by its cards.
        """
        inside, between = (cards - 1) / cards / card_bandwidth, (nodes - 1) / nodes / node_bandwidth
        return self.ring_bytes * (inside + between)


def step_traffic(
    network: nn.Module,
    stage: int,
    ranks: int,
    itemsize: int,
    *,
    accumulation: int = 1,
    checkpointing: bool = False,
    persistence_threshold: int = 100_000,
    reuse_distance: int = REUSE_DISTANCE,
) -> Traffic:
    """Messages of an optimiser step of this network.

    Args:
        network: with its adapter; may be on `meta`.
        stage: ZeRO stage; 0 is Lightning's DDP, which reduces gradients in their own type.
        ranks: how many share the work.
        itemsize: bytes of a number in the type that the network computes in.
        accumulation: micro-batches of a step.
        checkpointing: activations are recomputed, so stage 3 gathers once more.
        persistence_threshold: stage 3 keeps weights of at most so many numbers whole.
        reuse_distance: as `REUSE_DISTANCE`.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    if stage == 0:
        return Traffic(all_reduce=sum(p.numel() * p.element_size() for p in trained))
    gradients = itemsize * sum(p.numel() for p in trained)
    if stage in (1, 2):
        groups = [[p.numel() for p in group["params"]] for group in parameter_groups(network, 0.0)]  # type: ignore[attr-defined]
        updated = sum(padded(sum(group), ALIGNMENT * ranks) for group in groups)
        return Traffic(all_reduce=gradients * (accumulation if stage == 2 else 1), all_gather=itemsize * updated)
    whole = sum(padded(p.numel(), ranks) for p in network.parameters() if p.numel() <= persistence_threshold)
    gathered = _gathered(network, ranks, checkpointing, persistence_threshold, reuse_distance)
    return Traffic(
        reduce_scatter=itemsize * accumulation * sum(padded(p.numel(), ranks) for p in trained),
        all_gather=itemsize * (accumulation * gathered + whole),
    )


def _gathered(network: nn.Module, ranks: int, checkpointing: bool, threshold: int, reuse_distance: int) -> int:
    """Numbers that stage 3 gathers for the passes of one micro-batch.

    Forward gathers all; on the way back what lies within the reuse distance of its first use is still there. With
    recomputation a layer lies three times between, not twice, and DeepSpeed drops a layer's frozen weights after it.
    """
    used = {  # the original of a module trained in full is never computed with
        name: p for name, p in network.named_parameters() if ".original_module." not in name and p.numel() > threshold
    }
    all_used = _numbers(used.values(), ranks)
    between = 3 if checkpointing else 2
    again = max(0, all_used - reuse_distance // between)
    layers = _numbers((p for name, p in used.items() if ".layers." in name and not p.requires_grad), ranks)
    return all_used + again + (layers if checkpointing else 0)


def _numbers(parameters: Iterable[Any], ranks: int) -> int:
    return sum(padded(p.numel(), ranks) for p in parameters)


@dataclass(frozen=True, slots=True)
class ClusterStep:
    """An optimiser step of a cluster in which every card computes as many rows as in the job that is planned.

    Attributes:
        stage: ZeRO stage; 0 is DDP.
        cards: of the whole cluster.
        rows: global batch.
        sent: bytes that a card sends, and receives, in rings over all cards.
        seconds_communicating: on the stated links.
        seconds_computing: at the lower and at the higher rate.
        tokens: of the global batch.
    """

    stage: int
    cards: int
    rows: int
    sent: float
    seconds_communicating: float
    seconds_computing: tuple[float, float]
    tokens: int

    @property
    def efficiency(self) -> tuple[float, float]:
        """Share of a step that is computation, with nothing overlapped: at the lower and at the higher rate."""
        slow, fast = (seconds / (seconds + self.seconds_communicating) for seconds in self.seconds_computing)
        return slow, fast

    @property
    def tokens_per_second(self) -> tuple[float, float]:
        """At the lower and at the higher rate."""
        slow, fast = (self.tokens / (seconds + self.seconds_communicating) for seconds in self.seconds_computing)
        return slow, fast
