"""How long a tune may be that is played or engraved."""

from __future__ import annotations

from dataclasses import dataclass, fields

from musician.runtime.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneLimits:
    """Upper bounds, checked before a sound or a picture is made.

    Attributes:
        max_abc_chars: length of the text.
        notes: number of notes, repeats played.
        sound_seconds: duration in seconds.

    Raises:
        UserError: a limit is not positive.
    """

    max_abc_chars: int = 20_000
    notes: int = 5_000
    sound_seconds: float = 300

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise UserError(f"limits.{field.name}={value}: must be more than 0")
