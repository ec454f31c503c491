"""The validation loss row by row: its interval, and whether two jobs differ by more than noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from musician.benchmarks.statistics.estimate import Z95, ratio_stderr
from musician.benchmarks.statistics.paired import sign_flip
from musician.runtime.atomic import write_text
from musician.runtime.errors import UserError

#: In a run directory: the last validation.
FILE = "validation.json"


@dataclass(frozen=True, slots=True)
class ValidationRows:
    """The rows of a validation in their order, which no hardware changes; packed documents share a row.

    Attributes:
        nats: summed negative log-likelihood of each.
        tokens: supervised tokens of each.
    """

    nats: Sequence[float]
    tokens: Sequence[int]

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of the loss, in nats per token, rows being the sample; nan for a single row."""
        return Z95 * ratio_stderr(list(zip(self.nats, self.tokens, strict=True)))

    def write(self, directory: Path) -> None:
        """Write `validation.json` into a run directory."""
        write_text(directory / FILE, json.dumps(asdict(self)) + "\n")


def read_validation(directory: Path) -> ValidationRows | None:
    """Return the last validation of a run; None where it had none.

    Raises:
        UserError: it is not whole.
    """
    file = directory / FILE
    if not file.is_file():
        return None
    try:
        return ValidationRows(**json.loads(file.read_text()))
    except (TypeError, ValueError) as error:
        raise UserError(f"{file}: is not the validation of a run ({error}); remove it") from error


def loss_difference(a: ValidationRows, b: ValidationRows, resamples: int = 10_000) -> tuple[float, float] | None:
    """Return the loss of `b` less that of `a`, and the two-sided p-value of a paired sign-flip test over the rows.

    None where they are not the same rows, those of other data for instance.
    """
    if list(a.tokens) != list(b.tokens):
        return None
    gaps = [theirs - ours for ours, theirs in zip(a.nats, b.nats, strict=True)]
    return sum(gaps) / sum(a.tokens), sign_flip(gaps, resamples)


def in_order(found: Sequence[tuple[int, float, int]]) -> ValidationRows:
    """Put (place, nats, tokens) of all ranks in the order of the rows; empty places are no rows."""
    rows = sorted(row for row in found if row[2])
    return ValidationRows([nats for _, nats, _ in rows], [tokens for *_, tokens in rows])
