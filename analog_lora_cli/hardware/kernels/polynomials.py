"""Polynomials for logarithm, exponential, sine and cosine in float32, for loops and kernels alike.

Coefficients are least-squares fits at Chebyshev nodes, made when the module is loaded, lowest power first and rounded
to float32. They let compilers vectorize loops on a CPU, and take few registers on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def _fit(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]], low: float, high: float, degree: int
) -> tuple[float, ...]:
    nodes = np.cos(np.pi * (np.arange(4000) + 0.5) / 4000)
    x = (low + high) / 2 + (high - low) / 2 * nodes
    return tuple(float(np.float32(c)) for c in np.polynomial.polynomial.polyfit(x, function(x), degree))


def _sine(w: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.sin(2 * np.pi * np.sqrt(w)) / np.sqrt(w)
    return values


LOG2 = _fit(lambda z: np.log2(1 + z) / z, math.sqrt(0.5) - 1, math.sqrt(2) - 1, 7)
"""log2(1 + z) / z against z, for 1 + z from sqrt(1/2) to sqrt(2)."""
EXP2 = _fit(lambda z: 2**z, -0.5, 0.5, 5)
"""2^z against z, for z from -1/2 to 1/2."""
SINE = _fit(_sine, 0.0, 1 / 16, 4)
"""sin(2 pi q) / q against q^2, for q from -1/4 to 1/4."""
COSINE = _fit(lambda w: np.cos(2 * np.pi * np.sqrt(w)), 0.0, 1 / 16, 4)
"""cos(2 pi q) against q^2, for q from -1/4 to 1/4."""
