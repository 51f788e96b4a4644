"""A CPU's loops over the devices of a tile, compiled by numba: programming, drift and read noise, and drift read-outs.

The formulas are those of `physics.pcm_devices`, the normals those of `counter`. float32 only. Arrays are C-contiguous;
a suffix gives an array's axes: O outputs (columns), I inputs (rows), K pairs of devices of a cell, P numbers of a law.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray

from analog_lora_cli.hardware.kernels.approximations import exp2, log2, mix, normal_pair
from analog_lora_cli.hardware.kernels.cpu import kernel
from analog_lora_cli.hardware.kernels.random import GAMMA, RUN, RUNS

Floats = NDArray[np.float32]
Keys = NDArray[np.uint64]

_GAMMA, _PICK, _S32 = np.uint64(GAMMA), np.uint64(RUNS - 1), np.uint64(32)
_F = np.float32
_LN_2 = _F(np.log(2.0))
_TINY, _SMALLEST = _F(1e-7), _F(1e-30)

_inner = numba.njit(fastmath={"contract"}, error_model="numpy", nogil=True)
"""Decorator of a loop over the cells of one column, in a function of its own: so the compiler vectorizes it."""


@_inner  # type: ignore[untyped-decorator]
def _pairs(first: np.uint64, one_I: Floats, other_I: Floats) -> None:
    for index in range(len(other_I)):
        one, other = normal_pair(mix(first + np.uint64(index) * _GAMMA))
        one_I[index] = one
        other_I[index] = other


@_inner  # type: ignore[untyped-decorator]
def _fill(key: np.uint64, column: int, normal_I: Floats) -> None:
    """The normals of the cells of one column, see `counter.cell_normals`."""
    half = (len(normal_I) + 1) // 2
    first = key + np.uint64(column) * np.uint64(half) * _GAMMA
    _pairs(first, normal_I[:half], normal_I[half:])
    if len(normal_I) % 2:
        normal_I[half - 1] = normal_pair(mix(first + np.uint64(half - 1) * _GAMMA))[0]


@_inner  # type: ignore[untyped-decorator]
def _program(
    target_I: Floats,
    plus_I: Floats,
    minus_I: Floats,
    noise_P: Floats,
    scale: np.float32,
    lower: np.float32,
    factor: np.float32,
    g_min: np.float32,
    g_max: np.float32,
    weight_I: Floats,
) -> None:
    """Add what one pair of each cell holds after programming, in tile units."""
    c0, c1, c2, c3, c4, c5 = noise_P[0], noise_P[1], noise_P[2], noise_P[3], noise_P[4], noise_P[5]
    share, unit = _F(1) / factor, factor / scale
    for index in range(len(target_I)):
        value = target_I[index] * scale
        plus = min(max((max(value, _F(0)) - lower) * share + g_min, g_min), g_max)
        minus = min(max((max(-value, _F(0)) - lower) * share + g_min, g_min), g_max)
        sigma = ((((c5 * plus + c4) * plus + c3) * plus + c2) * plus + c1) * plus + c0
        plus = max(plus + sigma * plus_I[index], _F(0))
        sigma = ((((c5 * minus + c4) * minus + c3) * minus + c2) * minus + c1) * minus + c0
        minus = max(minus + sigma * minus_I[index], _F(0))
        weight_I[index] += (plus - minus) * unit


@kernel(
    "void(float32[:, ::1], uint64[::1], uint64[::1], float32[::1], float32[::1], float32, float32, float32, "
    "float32[:, ::1])"
)
def program(
    target_OI: Floats,
    plus_K: Keys,
    minus_K: Keys,
    significance_K: Floats,
    noise_P: Floats,
    scale: np.float32,
    g_min: np.float32,
    g_max: np.float32,
    programmed_OI: Floats,
) -> None:
    """`PcmTile.weight`.

    Args:
        target_OI: weights in tile units.
        plus_K: keys of the devices that carry positive weights.
        minus_K: keys of the others.
        significance_K: factor of each pair.
        noise_P: six coefficients of the programming noise, in uS, against powers of the conductance in uS.
        scale: uS for each tile unit.
        g_min: smallest conductance in uS.
        g_max: largest conductance in uS.
        programmed_OI: output, in tile units.
    """
    columns, rows = target_OI.shape
    for column in prange(columns):
        plus_I, minus_I = np.empty(rows, np.float32), np.empty(rows, np.float32)
        programmed_OI[column] = _F(0)
        lower = _F(0)
        for pair in range(len(significance_K)):
            factor = significance_K[pair]
            _fill(plus_K[pair], column, plus_I)
            _fill(minus_K[pair], column, minus_I)
            _program(
                target_OI[column], plus_I, minus_I, noise_P, scale, lower, factor, g_min, g_max, programmed_OI[column]
            )
            lower += factor * (g_max - g_min)


@_inner  # type: ignore[untyped-decorator]
def _drift(
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
def _read(
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


@kernel(
    "void(float32[:, ::1], float32[:, ::1], uint64[::1], uint64[::1], float32[::1], float32[::1], float32, float32, "
    "float32, float32, float32, float32[:, ::1])"
)
def read(
    target_OI: Floats,
    programmed_OI: Floats,
    drift_K: Keys,
    read_K: Keys,
    significance_K: Floats,
    law_P: Floats,
    scale: np.float32,
    scale_now: np.float32,
    g_max: np.float32,
    log2_age: np.float32,
    size: np.float32,
    read_OI: Floats,
) -> None:
    """`PcmTile.read` where the devices of a zero weight conduct nothing (g_min = 0).

    Args:
        target_OI: weights in tile units that the devices were programmed to.
        programmed_OI: weights that they held afterwards.
        drift_K: keys of the drift exponents.
        read_K: keys of this reading.
        significance_K: factor of each pair.
        law_P: `PcmLaws.packed`.
        scale: uS for each tile unit at the programming.
        scale_now: uS for each tile unit in aihwkit's second conversion.
        g_max: largest conductance in uS.
        log2_age: log2(t / t_0); 0: no drift.
        size: sqrt(ln((t + t_read) / (2 t_read))) times the scale of read noise.
        read_OI: output, in tile units.
    """
    columns, rows = target_OI.shape
    for column in prange(columns):
        normal_I, decay_I = np.empty(rows, np.float32), np.ones(rows, np.float32)
        target_I, programmed_I, read_I = target_OI[column], programmed_OI[column], read_OI[column]
        read_I[:] = _F(0)
        lower = _F(0)
        for pair in range(len(significance_K)):
            factor = significance_K[pair]
            if log2_age > 0:
                _fill(drift_K[pair], column, normal_I)
                _drift(target_I, programmed_I, normal_I, law_P, scale, lower, factor, g_max, log2_age, decay_I)
            _fill(read_K[pair], column, normal_I)
            _read(programmed_I, decay_I, normal_I, law_P, scale_now, lower, factor, g_max, size, read_I)
            lower += factor * g_max


@numba.njit(fastmath={"contract", "reassoc"}, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _sum_of_run(
    weight_I: Floats,
    one_N: Floats,
    other_N: Floats,
    unit: np.float32,
    noise: np.float32,
    rounds: bool,
    limit: np.float32,
) -> np.float32:
    """Sum of the magnitudes of some outputs; exact in any order where they are whole numbers of ADC steps."""
    total = _F(0)
    if rounds:
        for index in range(len(weight_I)):
            total += min(np.rint(abs(weight_I[index] * unit + noise * (one_N[index] + other_N[index]))), limit)
    else:
        for index in range(len(weight_I)):
            total += min(abs(weight_I[index] * unit + noise * (one_N[index] + other_N[index])), limit)
    return total


@kernel("void(float32[:, ::1], uint64, float32[:, ::1], float32, float32, boolean, float32, float64[::1])")
def read_out(
    weight_OI: Floats,
    counter: np.uint64,
    table_KN: Floats,
    unit: np.float32,
    noise: np.float32,
    rounds: bool,
    limit: np.float32,
    sum_O: NDArray[np.float64],
) -> None:
    """Sums of the magnitudes of a tile's outputs for each input in turn set to 1, see `ReadOutRatio.read_out`.

    Args:
        weight_OI: weights in tile units.
        counter: counter of the noise, as `PooledNormal.reserve` gives it.
        table_KN: table of the noise.
        unit: steps of the ADC in a tile unit.
        noise: standard deviation of the noise in steps of the ADC.
        rounds: whether the ADC has levels.
        limit: largest output, in steps of the ADC.
        sum_O: output, in steps of the ADC.
    """
    columns, rows = weight_OI.shape
    runs = (rows + RUN - 1) // RUN
    for column in prange(columns):
        weight_I, total = weight_OI[column], 0.0
        for run in range(runs):
            bits = mix(counter + np.uint64(column * runs + run) * _GAMMA)
            one_N, other_N = table_KN[bits & _PICK], table_KN[(bits >> _S32) & _PICK]
            total += _sum_of_run(weight_I[run * RUN : (run + 1) * RUN], one_N, other_N, unit, noise, rounds, limit)
        sum_O[column] = total
