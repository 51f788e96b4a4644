"""Least-squares fits of laws that are a straight line between two plateaus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_STEPS = 41
"""Breakpoints that are tried over the range of the data."""
_NARROWEST = 2.0
"""Least length of the slope, as a factor of the conductance: a step between two levels is no slope."""


def fit_clipped_line(x: Floats, y: Floats, error: Floats, upper: bool = True) -> tuple[float, float, float, float]:
    """Fit y = slope clip(x, first, last) + intercept, weighted; beyond the data the law stays at its last value.

    The breakpoints come from a grid over the data, slope and intercept in closed form for each pair.

    Args:
        x: (n,), logarithms of conductances.
        y: (n,).
        error: (n,): standard errors of y.
        upper: whether there may be a plateau at large x.

    Returns:
        slope, intercept, first and last breakpoint.
    """
    grid = np.linspace(x.min(), x.max(), _STEPS)
    first, last = np.meshgrid(grid, grid if upper else grid[-1:], indexing="ij")
    wide = last - first >= min(np.log(_NARROWEST), grid[-1] - grid[0])
    first, last = first[wide][:, None], last[wide][:, None]
    weight = 1.0 / error**2
    weight = weight / weight.sum()
    clipped = np.clip(x, first, last)
    mean_x, mean_y = clipped @ weight, y @ weight
    variance = (clipped - mean_x[:, None]) ** 2 @ weight
    covariance = (clipped - mean_x[:, None]) * (y - mean_y) @ weight
    slope = covariance / np.maximum(variance, 1e-12)
    intercept = mean_y - slope * mean_x
    misfit = (slope[:, None] * clipped + intercept[:, None] - y) ** 2 @ weight
    best = int(np.argmin(misfit))
    return float(slope[best]), float(intercept[best]), float(first[best, 0]), float(last[best, 0])
