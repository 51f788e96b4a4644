"""Size and cost of a recalibration, as sections of the configuration ask for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recalibration:
    """How the chips of an evaluation, or one chip, are recalibrated; see `models.recalibration`."""

    rank: int
    """Directions that are corrected, the mean over the layers by parameters."""
    tokens: int
    """Training tokens, without padding, at least."""
    reads: int
    """Reads of each layer for each token."""
