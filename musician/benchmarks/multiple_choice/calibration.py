"""Whether a model's confidence in its answers is its accuracy.

Confidence is the probability of the answer among the four letters: the softmax of their log-probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musician.benchmarks.multiple_choice.records import Record

MIN_QUESTIONS = 300
BINS = 10
BIN_SIZE = 100

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration errors, 0 to 1, lower is better.

    Below 300 questions they are mostly noise, as HELM warns, and None.

    Attributes:
        n: questions with a confidence: those scored by letter, with finite scores.
        ece: expected calibration error, 10 bins of equally many answers (HELM's `ece_10_bin`).
        rms: root mean square calibration error, bins of 100 answers (Hendrycks et al., arXiv 1812.04606).
    """

    n: int
    ece: float | None = None
    rms: float | None = None

    @classmethod
    def of(cls, records: Iterable[Record]) -> Calibration:
        """Compute both errors from the records; those that no letter's own probability decided are left out.

        The askings of one question count as one towards the 300, and each as an answer.
        """
        usable = [record for record in records if record.method == "letter" and record.prediction is not None]
        n = len({(record.subject, record.index) for record in usable})
        if n < MIN_QUESTIONS:
            return cls(n)
        found = confidences([record.logprobs for record in usable])
        right = np.array([record.correct for record in usable], dtype=float)
        return cls(n, expected_calibration_error(found, right), rms_calibration_error(found, right))

    def __str__(self) -> str:
        if self.ece is None:
            return f"not reported: {self.n} questions, and below {MIN_QUESTIONS} it is noise"
        return f"ECE {self.ece:.3f}, RMS {self.rms:.3f}"

    def details(self) -> dict[str, float]:
        """Return `calibration_n`, and `ece` and `rms_calibration_error` where they are defined."""
        values = {"calibration_n": self.n, "ece": self.ece, "rms_calibration_error": self.rms}
        return {name: value for name, value in values.items() if value is not None}


def confidences(logprobs: Sequence[Sequence[float | None]]) -> Numbers:
    """Return the largest softmax probability of each row."""
    rows = np.array(logprobs, dtype=float)
    return 1 / np.exp(rows - rows.max(axis=1, keepdims=True)).sum(axis=1)


def expected_calibration_error(confidence: Numbers, correct: Numbers, bins: int = BINS) -> float:
    """Return the mean over the answers of |accuracy - mean confidence| of their bin; bins hold equally many answers."""
    edges = np.unique(np.linspace(0, len(confidence), bins + 1).round().astype(int))
    sizes, gaps = _gaps(confidence, correct, edges)
    return float(sizes @ gaps / sizes.sum())


def rms_calibration_error(confidence: Numbers, correct: Numbers, bin_size: int = BIN_SIZE) -> float:
    """Return the root of the mean over the answers of (accuracy - mean confidence)^2 of their bin.

    Bins hold `bin_size` answers, the last one also the rest. The original's loop leaves the last bin, of the most
    confident answers, out of the sum; this one does not.
    """
    edges = np.arange(max(1, len(confidence) // bin_size) + 1) * bin_size
    edges[-1] = len(confidence)
    sizes, gaps = _gaps(confidence, correct, edges)
    return float(np.sqrt(sizes @ gaps**2 / sizes.sum()))


def _gaps(confidence: Numbers, correct: Numbers, edges: NDArray[np.int_]) -> tuple[NDArray[np.int_], Numbers]:
    """Return the size of each bin and how far accuracy and confidence lie apart in it.

    Answers of equal confidence share their accuracy, so that it does not matter which of them a bin gets.
    """
    levels, level, count = np.unique(confidence, return_inverse=True, return_counts=True)
    shared = np.bincount(level, weights=correct) / count
    level = np.sort(level)
    gaps = np.add.reduceat(shared[level] - levels[level], edges[:-1])
    sizes = np.diff(edges)
    return sizes, np.abs(gaps) / sizes
