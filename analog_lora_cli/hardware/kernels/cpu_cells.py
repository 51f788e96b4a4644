"""Loops over the cells of a tile's columns for `cpu_chips`: normals, programming, drift and read noise of one pair.

The formulas are those of `physics.pcm_cells`, the normals those of `counter`. Each is a function of its own, so that
the compiler vectorizes it. float32 only; a suffix gives an array's axes: O outputs (columns), I inputs or cells, P
numbers of a law.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from analog_lora_cli.hardware.kernels.approximations import MAGNITUDE, bits_of, exp2, float_of, log2, mix, normal_pair
from analog_lora_cli.hardware.kernels.random import GAMMA

Floats = NDArray[np.float32]

_GAMMA = np.uint64(GAMMA)
_F = np.float32
_LN_2 = _F(np.log(2.0))
_TINY, _SMALLEST = _F(1e-7), _F(1e-30)

_inner = numba.njit(fastmath={"contract"}, error_model="numpy", nogil=True)

# Whole arrays and an index of the first cell, where a slice would be shorter to write: numba counts the references to
# an array, atomically, for each slice that it makes. `max(first, 0)` shows the compiler that no index is negative.


@_inner  # type: ignore[untyped-decorator]
def fill(key: np.uint64, first: int, half: int, normal_I: Floats) -> None:
    """The normals of the cells of neighbouring columns, see `counter.cell_normals`."""
    half = max(half, 1)  # Never less; so the compiler sees that no index is negative.
    for column in range(len(normal_I) // (2 * half)):
        counter, cells = key + np.uint64((first + column) * half) * _GAMMA, 2 * half * column
        for index in range(half):
            one, other = normal_pair(mix(counter + np.uint64(index) * _GAMMA))
            normal_I[cells + index] = one
            normal_I[cells + half + index] = other


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def safe(scale: np.float32) -> np.float32:
    """The scale of a column, 1 for a column of zeros."""
    return scale if scale > _F(0) else _F(1)


@_inner  # type: ignore[untyped-decorator]
def largest(weight_OI: Floats, column: int, first: int, rows: int) -> np.float32:
    """The largest magnitude of a column of a tile, see `largest_magnitude`."""
    first, largest = max(first, 0), np.int32(0)
    for index in range(rows):
        largest = max(largest, np.int32(bits_of(weight_OI[column, first + index]) & MAGNITUDE))
    return float_of(np.int32(largest))  # type: ignore[no-any-return]


@_inner  # type: ignore[untyped-decorator]
def quotients(
    weight_OI: Floats, column: int, first: int, rows: int, scale: np.float32, start: int, target_I: Floats
) -> None:
    """Divide a column of a tile by its scale: the target weights in tile units, from a cell of the block on."""
    first, start = max(first, 0), max(start, 0)
    for index in range(rows):
        target_I[start + index] = weight_OI[column, first + index] / scale


@_inner  # type: ignore[untyped-decorator]
def load(held_OI: Floats, column: int, first: int, rows: int, start: int, cell_I: Floats) -> None:
    """Copy a column of a tile into the block, from a cell on."""
    first, start = max(first, 0), max(start, 0)
    for index in range(rows):
        cell_I[start + index] = held_OI[column, first + index]


@_inner  # type: ignore[untyped-decorator]
def store(cell_I: Floats, start: int, scale: np.float32, held_OI: Floats, column: int, first: int, rows: int) -> None:
    """Copy cells of the block into a column of a tile, times a scale."""
    first, start = max(first, 0), max(start, 0)
    for index in range(rows):
        held_OI[column, first + index] = cell_I[start + index] * scale


@_inner  # type: ignore[untyped-decorator]
def program(
    target_I: Floats,
    plus_I: Floats,
    minus_I: Floats,
    noise_P: Floats,
    scale: np.float32,
    lower: np.float32,
    factor: np.float32,
    g_max: np.float32,
    weight_I: Floats,
) -> None:
    """Add what one pair of each cell holds after programming, in tile units."""
    c0, c1, c2, c3, c4, c5 = noise_P[0], noise_P[1], noise_P[2], noise_P[3], noise_P[4], noise_P[5]
    share, unit = _F(1) / factor, factor / scale
    for index in range(len(target_I)):
        value = target_I[index] * scale
        plus = min(max((value - lower) * share, _F(0)), g_max)
        minus = min(max((-value - lower) * share, _F(0)), g_max)
        sigma = ((((c5 * plus + c4) * plus + c3) * plus + c2) * plus + c1) * plus + c0
        plus = max(plus + sigma * plus_I[index], _F(0))
        sigma = ((((c5 * minus + c4) * minus + c3) * minus + c2) * minus + c1) * minus + c0
        minus = max(minus + sigma * minus_I[index], _F(0))
        weight_I[index] += (plus - minus) * unit


@_inner  # type: ignore[untyped-decorator]
def drift(
    target_I: Floats,
    programmed_I: Floats,
    normal_I: Floats,
    law_P: Floats,
    scale: np.float32,
    lower: np.float32,
    factor: np.float32,
    g_max: np.float32,
    log2_age: np.float32,
    decay_I: Floats,
) -> None:
    """(t / t_0)^-nu of the conducting device of one pair of each cell."""
    reference, drift_scale = _F(1) / law_P[0], law_P[1] * log2_age
    slope_m, intercept_m, min_m, max_m = law_P[5] * _LN_2, law_P[6], law_P[7], law_P[8]
    slope_s, intercept_s, min_s, max_s = law_P[9] * _LN_2, law_P[10], law_P[11], law_P[12]
    share = _F(1) / factor
    for index in range(len(target_I)):
        # The device on the side of the weight's sign conducts; it may have been the one at zero.
        value = target_I[index] if programmed_I[index] >= _F(0) else -target_I[index]
        target = min(max((value * scale - lower) * share, _F(0)), g_max)
        log_g = log2(max(target * reference, _TINY))
        mean = min(max(slope_m * log_g + intercept_m, min_m), max_m)
        spread = min(max(slope_s * log_g + intercept_s, min_s), max_s)
        decay_I[index] = exp2(-abs(mean + spread * normal_I[index]) * drift_scale)


@_inner  # type: ignore[untyped-decorator]
def read(
    programmed_I: Floats,
    decay_I: Floats,
    normal_I: Floats,
    law_P: Floats,
    scale: np.float32,
    lower: np.float32,
    factor: np.float32,
    g_max: np.float32,
    size: np.float32,
    weight_I: Floats,
) -> None:
    """Add what one pair of each cell is read as, in tile units."""
    reference, exponent, level, most = _F(1) / law_P[0], -law_P[2], law_P[3], law_P[4]
    share, unit = _F(1) / factor, factor / scale
    for index in range(len(programmed_I)):
        weight = programmed_I[index]
        start = min(max((abs(weight) * scale - lower) * share, _F(0)), g_max)
        power = exp2(exponent * log2(max(start * reference, _SMALLEST)))
        sigma = min(level * min(power, _F(1e3)), most) * size
        drifted = start * decay_I[index]
        conductance = max(drifted + drifted * sigma * normal_I[index], _F(0)) * unit
        weight_I[index] += conductance if weight >= _F(0) else -conductance
