"""The standard error of a mean whose values come in clusters, such as one question asked in several orders."""

import math
from collections.abc import Hashable, Sequence


def clustered_standard_error(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Return the standard error of the mean of `values`, of which those with one cluster may depend on each other.

    The square root of G / (G - 1) * sum over the G clusters of (sum of their deviations)^2, over the number of values
    (Liang and Zeger 1986). With one value a cluster it is the usual s / sqrt(n); copies of the values do not change it.

    Args:
        values: numbers or truth values.
        clusters: the cluster of each.

    Returns:
        nan for a single cluster.

    Raises:
        ValueError: no values, or not one cluster for each.
    """
    if not values or len(values) != len(clusters):
        raise ValueError(f"{len(values)} values and {len(clusters)} clusters")
    mean = math.fsum(values) / len(values)
    sums: dict[Hashable, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value - mean
    if len(sums) == 1:
        return math.nan
    scale = len(sums) / (len(sums) - 1)
    return math.sqrt(scale * math.fsum(total * total for total in sums.values())) / len(values)
