"""Pairs of devices that hold a weight, as loops and kernels take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class DevicePairs:
    """Pairs of devices that hold a weight: G+ of each carries positive weights, G- negative ones.

    With W the weight in uS, pair k carries what lies between L_k = sum_(j<k) f_j (g_max - g_min) and L_(k+1):

        G+-_k = clip((max(+-W, 0) - L_k) / f_k + g_min, g_min, g_max)

    (aihwkit's `NPairConductanceConverter`; with one pair its `SinglePairConductanceConverter`).
    """

    significance: Sequence[float]
    """f_k, lowest first."""
    g_min: float
    """In uS."""
    g_max: float
    """In uS."""

    @property
    def range(self) -> float:
        """uS of the largest weight of a tile."""
        return sum(self.significance) * (self.g_max - self.g_min)

    @property
    def lower_bounds(self) -> list[float]:
        """L_k of each pair, in uS."""
        steps = [factor * (self.g_max - self.g_min) for factor in self.significance]
        return [sum(steps[:pair]) for pair in range(len(steps))]

    def scale(self, largest: float) -> float:
        """uS for each tile unit of a tile whose largest weight is this, in tile units."""
        return self.range / max(largest, 1e-7)
