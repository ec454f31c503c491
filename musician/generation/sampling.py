"""How a token is drawn from the scores of a network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from musician.runtime.errors import UserError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; defaults are the original's, without its repetition penalty, which punishes music.

    Attributes:
        temperature: 0 takes the likeliest token.
        top_k: of the likeliest so many; 0 is all.
        top_p: of the likeliest that together have this probability.
        repetition_penalty: 1 is none.
        max_new_tokens: stop after so many.
        seed: of the draws; the global random state is left alone.

    Raises:
        UserError: a value that cannot be drawn with.
    """

    temperature: float = 0.2
    top_k: int = 40
    top_p: float = 0.9
    repetition_penalty: float = 1.0
    max_new_tokens: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        for name, least in (("temperature", 0), ("top_k", 0), ("max_new_tokens", 1)):
            if not getattr(self, name) >= least:
                raise UserError(f"generation.{name}={getattr(self, name)}: must be at least {least}")
        if not self.repetition_penalty > 0:
            raise UserError(f"generation.repetition_penalty={self.repetition_penalty}: must be above 0; 1 is none")
        if not 0 < self.top_p <= 1:
            raise UserError(f"generation.top_p={self.top_p}: must be above 0 and at most 1")


def draw(
    scores: Tensor,
    written: Iterable[int],
    sampling: Sampling,
    generator: torch.Generator,
    allowed: Tensor | None = None,
) -> int:
    """One id: constraint, penalty, temperature, top-k, top-p, in the order of transformers.

    Args:
        scores: `[vocabulary]`, fp32.
        written: ids so far, prompt included.
        sampling: how to draw.
        generator: of the CPU; gives one number a draw, none where the likeliest is taken.
        allowed: ids to choose from; None is all.
    """
    if sampling.repetition_penalty != 1:
        scores = _penalised(scores, written, sampling.repetition_penalty)
    if allowed is not None:
        allowed = allowed.to(scores.device)
        scores = scores[allowed]
    if sampling.temperature <= 0:
        place = int(scores.argmax())
    else:
        probabilities, places = candidates(scores, sampling)
        point = torch.rand((), generator=generator, dtype=torch.float64) * float(probabilities.sum())
        found = torch.searchsorted(probabilities.cumsum(0), point.to(probabilities), right=True)
        place = int(places[min(int(found), len(places) - 1)])
    return place if allowed is None else int(allowed[place])


def candidates(scores: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Probabilities, up to a factor, and places of what temperature, top-k and top-p leave of scores `[vocabulary]`."""
    if not sampling.top_k and sampling.top_p >= 1:
        return (scores.double() / sampling.temperature).softmax(0), torch.arange(len(scores))
    values, places = scores.topk(min(sampling.top_k or len(scores), len(scores)))
    probabilities = (values.double() / sampling.temperature).softmax(0)
    if sampling.top_p < 1:
        # A token stays where those before it have less than top_p; the first always.
        before = probabilities.cumsum(0) - probabilities
        count = max(1, int((before < sampling.top_p).sum()))
        probabilities, places = probabilities[:count], places[:count]
    return probabilities, places


def _penalised(scores: Tensor, written: Iterable[int], penalty: float) -> Tensor:
    """Scores of ids that were written moved towards the unlikely, as in CTRL (arXiv 1909.05858) and transformers."""
    ids = torch.tensor(sorted(set(written)), device=scores.device)
    seen = scores[ids]
    return scores.index_copy(0, ids, torch.where(seen < 0, seen * penalty, seen / penalty))
