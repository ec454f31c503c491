"""What a tune must be, whatever the writer would like."""

from __future__ import annotations

from dataclasses import dataclass

from musician.music.grammar.vocabulary import KEYS, METERS, UNITS
from musician.runtime.errors import UserError, nearest


@dataclass(frozen=True, slots=True)
class TuneConstraints:
    """Hard constraints for a tune; None leaves the choice to the writer.

    Attributes:
        key: value of the `K:` field, such as `G`, `Em`, `Ador`.
        meter: value of the `M:` field, such as `6/8` or `C|`.
        unit: value of the `L:` field, such as `1/8`.
        bars: bars that are written, first and second endings counted each.
        sections: parts of the tune, each closed by a double bar or a repeat sign.
        repeats: True has every section repeated, False none.
        voices: 1 or 2.

    Raises:
        UserError: a value that the grammar does not know, or fewer bars than sections.
    """

    key: str | None = None
    meter: str | None = None
    unit: str | None = None
    bars: int | None = None
    sections: int | None = None
    repeats: bool | None = None
    voices: int = 1

    def __post_init__(self) -> None:
        for name, known in (("key", KEYS), ("meter", METERS), ("unit", UNITS)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise UserError(f"constraint {name}={value}: not one of {', '.join(known)}{nearest(value, known)}")
        for name in ("bars", "sections"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"constraint {name}={value}: must be 1 or more")
        if self.bars is not None and self.sections is not None and self.bars < self.sections:
            raise UserError(f"constraint bars={self.bars}: fewer than sections={self.sections}; each needs a bar")
        if self.voices not in (1, 2):
            raise UserError(f"constraint voices={self.voices}: must be 1 or 2")
