"""A CPU's loop over the devices of a tile, compiled by numba: programming, drift, read noise and drift read-outs.

The formulas are those of `physics.pcm_cells` and `compensation.ReadOutRatio`, the normals those of `counter`. float32
only. Arrays are C-contiguous; a suffix gives an array's axes: O outputs (columns), I inputs (rows), K pairs of devices
of a cell, P numbers of a law or of the converters; for the table of normals K and N as in `kernels.cpu`.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray

from analog_lora_cli.hardware.kernels.approximations import exp2, largest_magnitude, log2, mix, normal_pair
from analog_lora_cli.hardware.kernels.compiler import kernel
from analog_lora_cli.hardware.kernels.cpu import AHEAD, fetch_run
from analog_lora_cli.hardware.kernels.random import GAMMA, RUN, RUNS

Floats = NDArray[np.float32]
Keys = NDArray[np.uint64]

_GAMMA, _PICK, _S32 = np.uint64(GAMMA), np.uint64(RUNS - 1), np.uint64(32)
_F = np.float32
_LN_2 = _F(np.log(2.0))
_TINY, _SMALLEST = _F(1e-7), _F(1e-30)
_CELLS = 1024
"""Cells of neighbouring columns that are computed together: what is computed of them stays in the first cache."""

_inner = numba.njit(fastmath={"contract"}, error_model="numpy", nogil=True)
"""Decorator of a loop over the cells of one column, in a function of its own: so the compiler vectorizes it."""


# No slices inside of loops: numba counts the references to an array, atomically, for each slice that it makes.


@_inner  # type: ignore[untyped-decorator]
def _fill(key: np.uint64, first: int, half: int, normal_I: Floats) -> None:
    """The normals of the cells of neighbouring columns, see `counter.cell_normals`."""
    half = max(half, 1)  # Never less; so the compiler sees that no index is negative.
    for column in range(len(normal_I) // (2 * half)):
        counter, cells = key + np.uint64((first + column) * half) * _GAMMA, 2 * half * column
        for index in range(half):
            one, other = normal_pair(mix(counter + np.uint64(index) * _GAMMA))
            normal_I[cells + index] = one
            normal_I[cells + half + index] = other


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _safe(scale: np.float32) -> np.float32:
    """The scale of a column, 1 for a column of zeros."""
    return scale if scale > _F(0) else _F(1)


@_inner  # type: ignore[untyped-decorator]
def _scaled(weight_I: Floats, scale: np.float32, scaled_I: Floats) -> None:
    for index in range(len(weight_I)):
        scaled_I[index] = weight_I[index] * scale


@_inner  # type: ignore[untyped-decorator]
def _quotients(weight_I: Floats, scale: np.float32, target_I: Floats) -> None:
    for index in range(len(weight_I)):
        target_I[index] = weight_I[index] / scale


@_inner  # type: ignore[untyped-decorator]
def _program(
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


@numba.njit(fastmath={"contract", "reassoc"}, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _read_out(
    weight_I: Floats, start: int, column: int, rows: int, counter: np.uint64, table_KN: Floats, converter_P: Floats
) -> float:
    """Sum of the magnitudes of one column's outputs, in steps of the ADC; RUN numbers more than its weights exist.

    The sums of a run are exact in any order where they are whole steps.
    """
    unit, noise, rounds, limit = converter_P[0], converter_P[1], converter_P[2] > 0, converter_P[3]
    start = max(start, 0)
    runs, total = (rows + RUN - 1) // RUN, 0.0
    for run in range(runs):
        run_counter = counter + np.uint64(column * runs + run) * _GAMMA
        fetch_run(table_KN, run_counter + np.uint64(AHEAD) * _GAMMA)
        bits = mix(run_counter)
        row_1, row_2 = bits & _PICK, (bits >> _S32) & _PICK
        first, count, of_run = start + run * RUN, min(RUN, rows - run * RUN), _F(0)
        if rounds:
            for index in range(RUN):
                noisy = weight_I[first + index] * unit + noise * (table_KN[row_1, index] + table_KN[row_2, index])
                of_run += min(np.rint(abs(noisy)), limit) if index < count else _F(0)
        else:
            for index in range(RUN):
                noisy = weight_I[first + index] * unit + noise * (table_KN[row_1, index] + table_KN[row_2, index])
                of_run += min(abs(noisy), limit) if index < count else _F(0)
        total += of_run
    return total


@kernel(
    "void(float32[:, ::1], int64, int64, float32[::1], uint64[:, ::1], uint64[::1], float32[:, ::1], float32[::1], "
    "float32[::1], float32[::1], float32[::1], float32, float32, int64, float32[:, ::1], float32[:, ::1], int64, "
    "int64, float64[:, ::1])"
)
def age(
    weight_OI: Floats,
    first_O: int,
    first_I: int,
    scale_O: Floats,
    keys_4K: Keys,
    counters_2: Keys,
    table_KN: Floats,
    significance_K: Floats,
    noise_P: Floats,
    law_P: Floats,
    converter_P: Floats,
    g_max: np.float32,
    log2_age: np.float32,
    half: int,
    held_OI: Floats,
    read_OI: Floats,
    out_O: int,
    out_I: int,
    sums_2O: NDArray[np.float64],
) -> None:
    """Program a tile, read it at a time, and make the read-outs of a drift compensation, see `PcmTile`.

    For pairs of which one device conducts (g_min = 0).

    Args:
        weight_OI: weights of the layer, or of the tile.
        first_O: first output of the tile in them.
        first_I: first input of the tile in them.
        scale_O: column scales of the tile.
        keys_4K: keys of each pair: programming of the positive and of the negative device, drift, this reading.
        counters_2: counters of the noise of both read-outs, as `PooledNormal.reserve` gives them.
        table_KN: table of that noise; (0, 0): no read-outs.
        significance_K: factor of each pair.
        noise_P: `PcmLaws.noise_in_microsiemens`.
        law_P: `PcmLaws.packed`.
        converter_P: steps of the ADC in a tile unit, noise in steps, whether it has levels (1 or 0), limit in steps.
        g_max: largest conductance in uS.
        log2_age: log2((t + t_0) / t_0); 0: no drift.
        half: `counter.pairs_of_column`.
        held_OI: output: weights of the tile as read, (columns, rows) in tile units.
        read_OI: output: weights of the layer as read, in their unit; only the tile is written.
        out_O: first output of the tile in the layer.
        out_I: first input of the tile in the layer.
        sums_2O: output: sums of magnitudes of the read-outs at programming and now, in steps of the ADC.
    """
    columns, rows = held_OI.shape
    before_O, after_O, total = np.empty(columns, np.float32), np.empty(columns, np.float32), _F(0)
    for pair in range(len(significance_K)):
        total += significance_K[pair] * g_max
    for column in prange(columns):
        largest = largest_magnitude(weight_OI[first_O + column, first_I : first_I + rows])
        before_O[column] = largest / _safe(scale_O[column])
    scale = total / max(before_O.max(), _TINY)
    width, block = 2 * half, max(1, _CELLS // (2 * half))
    blocks, length = (columns + block - 1) // block, block * width
    for number in prange(blocks):
        first, count = number * block, min(block, columns - number * block)
        work_4I = np.zeros((4, length + RUN), np.float32)
        target_I, one_I, other_I = work_4I[0, :length], work_4I[1, :length], work_4I[2, :length]
        programmed_I = work_4I[3]
        for index in range(count):
            weight_I = weight_OI[first_O + first + index, first_I : first_I + rows]
            _quotients(weight_I, _safe(scale_O[first + index]), target_I[index * width : index * width + rows])
        lower = _F(0)
        for pair in range(len(significance_K)):
            factor = significance_K[pair]
            _fill(keys_4K[0, pair], first, half, one_I)
            _fill(keys_4K[1, pair], first, half, other_I)
            _program(target_I, one_I, other_I, noise_P, scale, lower, factor, g_max, programmed_I)
            lower += factor * g_max
        for index in range(count):
            column, cells = first + index, index * width
            held_OI[column] = programmed_I[cells : cells + rows]
            after_O[column] = largest_magnitude(held_OI[column])
            if len(table_KN):
                sums_2O[0, column] = _read_out(programmed_I, cells, column, rows, counters_2[0], table_KN, converter_P)
    scale_now = total / max(after_O.max(), _TINY)
    for number in prange(blocks):
        first, count = number * block, min(block, columns - number * block)
        work_5I = np.zeros((5, length + RUN), np.float32)
        target_I, programmed_I, normal_I = work_5I[0, :length], work_5I[1, :length], work_5I[2, :length]
        decay_I, read_I = work_5I[3, :length], work_5I[4]
        decay_I[:] = _F(1)
        for index in range(count):
            weight_I, cells = weight_OI[first_O + first + index, first_I : first_I + rows], index * width
            _quotients(weight_I, _safe(scale_O[first + index]), target_I[cells : cells + rows])
            programmed_I[cells : cells + rows] = held_OI[first + index]
        lower = _F(0)
        for pair in range(len(significance_K)):
            factor = significance_K[pair]
            if log2_age > 0:
                _fill(keys_4K[2, pair], first, half, normal_I)
                _drift(target_I, programmed_I, normal_I, law_P, scale, lower, factor, g_max, log2_age, decay_I)
            _fill(keys_4K[3, pair], first, half, normal_I)
            _read(programmed_I, decay_I, normal_I, law_P, scale_now, lower, factor, g_max, law_P[13], read_I)
            lower += factor * g_max
        for index in range(count):
            column, cells = first + index, index * width
            if len(table_KN):
                sums_2O[1, column] = _read_out(read_I, cells, column, rows, counters_2[1], table_KN, converter_P)
            held_OI[column] = read_I[cells : cells + rows]
            _scaled(held_OI[column], scale_O[column], read_OI[out_O + column, out_I : out_I + rows])
