"""A CPU's loop over the devices of a layer, compiled by numba: programming, drift, read noise and drift read-outs.

The formulas are those of `physics.pcm_cells` and `compensation.ReadOutRatio`, the normals those of `counter`. float32
only. Arrays are C-contiguous; a suffix gives an array's axes: O outputs (columns), I inputs (rows), R rows and C
columns of tiles, K pairs of devices of a cell, P numbers of a law or of the converters; for the table of normals K and
N as in `kernels.cpu`.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray

from analog_lora_cli.hardware.kernels.approximations import mix
from analog_lora_cli.hardware.kernels.compiler import kernel
from analog_lora_cli.hardware.kernels.counter import pairs_of_column
from analog_lora_cli.hardware.kernels.cpu import AHEAD, fetch_run
from analog_lora_cli.hardware.kernels.cpu_cells import (
    Floats,
    drift,
    fill,
    largest,
    load,
    program,
    quotients,
    read,
    safe,
    store,
)
from analog_lora_cli.hardware.kernels.random import GAMMA, RUN, RUNS

Keys = NDArray[np.uint64]

_GAMMA, _PICK, _S32 = np.uint64(GAMMA), np.uint64(RUNS - 1), np.uint64(32)
_F = np.float32
_TINY = _F(1e-7)
_CELLS = 1024
"""Cells of neighbouring columns that are computed together: what is computed of them stays in the first cache."""

_pairs_of_column = numba.njit(inline="always")(pairs_of_column)
_of_block = numba.njit(error_model="numpy", nogil=True)


class _Block(NamedTuple):
    """Neighbouring columns of a tile."""

    tile_row: int
    tile_column: int
    first: int
    """First column, in the tile."""
    output: int
    """The same in the layer."""
    columns: int
    """How many."""
    top: int
    """First input of the tile."""
    rows: int
    """Inputs of the tile."""
    half: int
    """Half the cells of a column with those that fill its last vector."""
    cells: int
    """Cells of a whole block."""


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
        total += float(of_run)
    return total


@_of_block  # type: ignore[untyped-decorator]
def _targets(block: _Block, weight_OI: Floats, scale_RO: Floats, target_I: Floats) -> None:
    """The target weights of a block in tile units."""
    for index in range(block.columns):
        output = block.output + index
        scale = safe(scale_RO[block.tile_row, output])
        quotients(weight_OI, output, block.top, block.rows, scale, 2 * block.half * index, target_I)


@_of_block  # type: ignore[untyped-decorator]
def _sums(
    block: _Block,
    cell_I: Floats,
    moment: int,
    counters_RC2: Keys,
    table_KN: Floats,
    converter_P: Floats,
    sums_2RO: NDArray[np.float64],
) -> None:
    """The read-outs of the columns of a block, if any: at programming (0) or now (1)."""
    counter = counters_RC2[block.tile_row, block.tile_column, moment]
    for index in range(block.columns if len(table_KN) else 0):
        start, column = 2 * block.half * index, block.first + index
        total = _read_out(cell_I, start, column, block.rows, counter, table_KN, converter_P)
        sums_2RO[moment, block.tile_row, block.output + index] = total


@_of_block  # type: ignore[untyped-decorator]
def _programmed(
    block: _Block,
    weight_OI: Floats,
    scale_RO: Floats,
    keys_RC4K: Keys,
    significance_K: Floats,
    noise_P: Floats,
    g_max: np.float32,
    uS: np.float32,
) -> Floats:
    """What the cells of a block hold after programming, in tile units; RUN numbers more than they are.

    Args:
        uS: conductance of a tile unit.
    """
    work_4I = np.zeros((4, block.cells + RUN), np.float32)
    target_I, one_I, other_I = work_4I[0, : block.cells], work_4I[1, : block.cells], work_4I[2, : block.cells]
    programmed_I, lower = work_4I[3], _F(0)
    _targets(block, weight_OI, scale_RO, target_I)
    for pair in range(len(significance_K)):
        factor = significance_K[pair]
        fill(keys_RC4K[block.tile_row, block.tile_column, 0, pair], block.first, block.half, one_I)
        fill(keys_RC4K[block.tile_row, block.tile_column, 1, pair], block.first, block.half, other_I)
        program(target_I, one_I, other_I, noise_P, uS, lower, factor, g_max, programmed_I)
        lower += factor * g_max
    return programmed_I  # type: ignore[no-any-return]


@_of_block  # type: ignore[untyped-decorator]
def _now(
    block: _Block,
    weight_OI: Floats,
    scale_RO: Floats,
    keys_RC4K: Keys,
    significance_K: Floats,
    law_P: Floats,
    g_max: np.float32,
    log2_age: np.float32,
    uS: np.float32,
    uS_now: np.float32,
    programmed_OI: Floats,
) -> Floats:
    """What the cells of a block are read as, in tile units; RUN numbers more than they are.

    Args:
        uS: conductance of a tile unit at programming.
        uS_now: the same for what the tile holds since.
        programmed_OI: what the cells of the layer held after programming, in tile units.
    """
    work_5I = np.zeros((5, block.cells + RUN), np.float32)
    target_I, programmed_I, normal_I = work_5I[0, : block.cells], work_5I[1, : block.cells], work_5I[2, : block.cells]
    decay_I, now_I, lower = work_5I[3, : block.cells], work_5I[4], _F(0)
    decay_I[:] = _F(1)
    _targets(block, weight_OI, scale_RO, target_I)
    for index in range(block.columns):
        load(programmed_OI, block.output + index, block.top, block.rows, 2 * block.half * index, programmed_I)
    for pair in range(len(significance_K)):
        factor = significance_K[pair]
        if log2_age > 0:
            fill(keys_RC4K[block.tile_row, block.tile_column, 2, pair], block.first, block.half, normal_I)
            drift(target_I, programmed_I, normal_I, law_P, uS, lower, factor, g_max, log2_age, decay_I)
        fill(keys_RC4K[block.tile_row, block.tile_column, 3, pair], block.first, block.half, normal_I)
        read(programmed_I, decay_I, normal_I, law_P, uS_now, lower, factor, g_max, law_P[13], now_I)
        lower += factor * g_max
    return now_I  # type: ignore[no-any-return]


@kernel(
    "void(float32[:, ::1], int64[::1], int64[::1], float32[:, ::1], uint64[:, :, :, ::1], uint64[:, :, ::1], "
    "float32[:, ::1], float32[::1], float32[::1], float32[::1], float32[::1], float32, float32, float32[:, ::1], "
    "float32[:, ::1], float64[:, :, ::1])"
)
def age(
    weight_OI: Floats,
    first_R: NDArray[np.int64],
    first_C: NDArray[np.int64],
    scale_RO: Floats,
    keys_RC4K: Keys,
    counters_RC2: Keys,
    table_KN: Floats,
    significance_K: Floats,
    noise_P: Floats,
    law_P: Floats,
    converter_P: Floats,
    g_max: np.float32,
    log2_age: np.float32,
    read_OI: Floats,
    held_OI: Floats,
    sums_2RO: NDArray[np.float64],
) -> None:
    """Program a layer, read it at a time, and make the read-outs of a drift compensation, see `PcmTile`.

    For pairs of which one device conducts (g_min = 0).

    Args:
        weight_OI: weights of the layer.
        first_R: first input of each row of tiles, and the number of inputs.
        first_C: first output of each column of tiles, and the number of outputs.
        scale_RO: column scales.
        keys_RC4K: keys of each tile and pair: programming of the positive and of the negative device, drift, this
            reading.
        counters_RC2: counters of the noise of both read-outs of each tile, as `PooledNormal.reserve` gives them.
        table_KN: table of that noise; (0, 0): no read-outs.
        significance_K: factor of each pair.
        noise_P: `PcmLaws.noise_in_microsiemens`.
        law_P: `PcmLaws.packed`.
        converter_P: steps of the ADC in a tile unit, noise in steps, whether it has levels (1 or 0), limit in steps.
        g_max: largest conductance in uS.
        log2_age: log2((t + t_0) / t_0); 0: no drift.
        read_OI: output: weights of the layer as read, in their unit.
        held_OI: output: the same in tile units; (0, 0): not needed.
        sums_2RO: output: sums of magnitudes of the read-outs at programming and now, in steps of the ADC.
    """
    total = _F(0)
    for pair in range(len(significance_K)):
        total += significance_K[pair] * g_max
    for tile in range((len(first_R) - 1) * (len(first_C) - 1)):
        tile_row, tile_column = tile // (len(first_C) - 1), tile % (len(first_C) - 1)
        top, rows = first_R[tile_row], first_R[tile_row + 1] - first_R[tile_row]
        left, columns = first_C[tile_column], first_C[tile_column + 1] - first_C[tile_column]
        half, largest_O = _pairs_of_column(rows), np.empty(columns, np.float32)
        size = max(1, _CELLS // (2 * half))
        for column in prange(columns):
            scale = safe(scale_RO[tile_row, left + column])
            largest_O[column] = largest(weight_OI, left + column, top, rows) / scale
        uS = total / max(largest_O.max(), _TINY)
        for number in prange((columns + size - 1) // size):
            first, count = number * size, min(size, columns - number * size)
            block = _Block(tile_row, tile_column, first, left + first, count, top, rows, half, 2 * half * size)
            cell_I = _programmed(block, weight_OI, scale_RO, keys_RC4K, significance_K, noise_P, g_max, uS)
            _sums(block, cell_I, 0, counters_RC2, table_KN, converter_P, sums_2RO)
            for index in range(count):
                store(cell_I, 2 * half * index, _F(1), read_OI, block.output + index, top, rows)
                largest_O[first + index] = largest(read_OI, block.output + index, top, rows)
        uS_now = total / max(largest_O.max(), _TINY)
        for number in prange((columns + size - 1) // size):
            first, count = number * size, min(size, columns - number * size)
            block = _Block(tile_row, tile_column, first, left + first, count, top, rows, half, 2 * half * size)
            cell_I = _now(
                block, weight_OI, scale_RO, keys_RC4K, significance_K, law_P, g_max, log2_age, uS, uS_now, read_OI
            )
            _sums(block, cell_I, 1, counters_RC2, table_KN, converter_P, sums_2RO)
            for index in range(count):
                output, start = block.output + index, 2 * half * index
                store(cell_I, start, scale_RO[tile_row, output], read_OI, output, top, rows)
                if len(held_OI):
                    store(cell_I, start, _F(1), held_OI, output, top, rows)
