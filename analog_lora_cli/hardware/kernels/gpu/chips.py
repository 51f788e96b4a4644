"""The devices of a tile on a GPU: programming, drift and read noise of pairs, from the counter, one kernel a pair.

The formulas are those of `physics.pcm_laws`, the normals those of `counter.cell_normals`; nothing waits for the GPU.
Each program computes both halves of some rows, because a pair of normals serves one cell of each. Axes: O outputs
(columns of the tile), I inputs (its rows), P numbers of a law, K pairs of devices of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from analog_lora_cli.hardware.kernels.counter import VECTOR, pairs_of_column, signed
from analog_lora_cli.hardware.kernels.device_pairs import DevicePairs
from analog_lora_cli.hardware.kernels.gpu.elementary import exp2, limited, log2
from analog_lora_cli.hardware.kernels.gpu.noise import normal_pair

_LN_2 = tl.constexpr(math.log(2.0))
_NEVER = tl.constexpr(float("inf"))
_VECTOR = tl.constexpr(VECTOR)

COLUMNS, HALVES = 8, 64
"""Columns of one program, and rows of each half; not measured on a card."""


@triton.jit
def _places(columns: tl.tensor, rows: tl.tensor, COLUMNS: tl.constexpr, HALVES: tl.constexpr) -> tuple[tl.tensor, ...]:
    """Index of the pairs of normals, of the cells that take their first and second number, and which of them there are.

    The second cell of a pair lies `counter.pairs_of_column` rows after the first.
    """
    half = (rows + 2 * _VECTOR - 1) // (2 * _VECTOR) * _VECTOR
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)[:, None]
    row = (tl.program_id(1) * HALVES + tl.arange(0, HALVES)).to(tl.int64)[None, :]
    paired = (column < columns) & (row < half)
    cell = column * rows + row
    return column * half + row, cell, cell + half, paired & (row < rows), paired & (row + half < rows)


@triton.jit
def _device(
    value: tl.tensor,
    normal: tl.tensor,
    lower: tl.tensor,
    factor: tl.tensor,
    g_min: tl.tensor,
    g_max: tl.tensor,
    c0: tl.tensor,
    c1: tl.tensor,
    c2: tl.tensor,
    c3: tl.tensor,
    c4: tl.tensor,
    c5: tl.tensor,
) -> tl.tensor:
    """What one device holds after programming, in uS, for its side of the weight in uS."""
    target = limited((limited(value, 0.0, _NEVER) - lower) / factor + g_min, g_min, g_max)
    sigma = ((((target * c5 + c4) * target + c3) * target + c2) * target + c1) * target + c0
    return limited(target + sigma * normal, 0.0, _NEVER)


@triton.jit(do_not_specialize=["plus_key", "minus_key"])
def _program(
    target_OI: tl.tensor,
    largest: tl.tensor,
    weight_OI: tl.tensor,
    plus_key: tl.tensor,
    minus_key: tl.tensor,
    full: tl.tensor,
    lower: tl.tensor,
    factor: tl.tensor,
    g_min: tl.tensor,
    g_max: tl.tensor,
    c0: tl.tensor,
    c1: tl.tensor,
    c2: tl.tensor,
    c3: tl.tensor,
    c4: tl.tensor,
    c5: tl.tensor,
    columns: tl.tensor,
    rows: tl.tensor,
    ADDS: tl.constexpr,
    COLUMNS: tl.constexpr,
    HALVES: tl.constexpr,
) -> None:
    scale = full / tl.maximum(tl.load(largest), 1e-7)
    pair, one, other, is_one, is_other = _places(columns, rows, COLUMNS, HALVES)
    plus_one, plus_other = normal_pair(plus_key, pair)
    minus_one, minus_other = normal_pair(minus_key, pair)
    for part in tl.static_range(2):
        cell, inside = (one, is_one) if part == 0 else (other, is_other)
        plus_normal, minus_normal = (plus_one, minus_one) if part == 0 else (plus_other, minus_other)
        value = tl.load(target_OI + cell, mask=inside, other=0.0) * scale
        plus = _device(value, plus_normal, lower, factor, g_min, g_max, c0, c1, c2, c3, c4, c5)
        minus = _device(-value, minus_normal, lower, factor, g_min, g_max, c0, c1, c2, c3, c4, c5)
        weight = (plus - minus) * (factor / scale)
        if ADDS:
            weight += tl.load(weight_OI + cell, mask=inside, other=0.0)
        tl.store(weight_OI + cell, weight, mask=inside)


def program(
    target_OI: Tensor,
    plus_K: Sequence[int],
    minus_K: Sequence[int],
    pairs: DevicePairs,
    noise_P: Sequence[float],
) -> Tensor:
    """The weights that a tile holds after programming, in tile units, (columns, rows).

    Args:
        target_OI: weights in tile units, float32.
        plus_K: keys of the devices that carry positive weights, 0 .. 2^64 - 1.
        minus_K: keys of the others.
        pairs: their conductances.
        noise_P: six coefficients of the programming noise, in uS, against powers of the conductance in uS.
    """
    columns, rows = target_OI.shape
    weight_OI = torch.empty(columns, rows, dtype=torch.float32, device=target_OI.device)
    target_OI, largest = target_OI.contiguous(), target_OI.abs().amax()
    lower_K = pairs.lower_bounds
    with torch.cuda.device_of(target_OI):
        for pair, factor in enumerate(pairs.significance):
            keys, laws = (signed(plus_K[pair]), signed(minus_K[pair])), (pairs.g_min, pairs.g_max, *noise_P)
            _program[_grid(columns, rows)](
                target_OI, largest, weight_OI, *keys, pairs.range, lower_K[pair], factor, *laws, columns, rows,
                ADDS=pair > 0, COLUMNS=COLUMNS, HALVES=HALVES,
            )  # fmt: skip
    return weight_OI


@triton.jit
def _decay(
    target: tl.tensor,
    normal: tl.tensor,
    log2_age: tl.tensor,
    slope_m: tl.tensor,
    intercept_m: tl.tensor,
    min_m: tl.tensor,
    max_m: tl.tensor,
    slope_s: tl.tensor,
    intercept_s: tl.tensor,
    min_s: tl.tensor,
    max_s: tl.tensor,
) -> tl.tensor:
    """((t + t_0) / t_0)^-nu for devices with these targets, relative to the law's reference."""
    log_g = log2(tl.maximum(target, 1e-7)) * _LN_2
    mean = limited(log_g * slope_m + intercept_m, min_m, max_m)
    spread = limited(log_g * slope_s + intercept_s, min_s, max_s)
    return exp2(tl.abs(mean + spread * normal) * -log2_age)


@triton.jit(do_not_specialize=["drift_key", "read_key"])
def _read(
    target_OI: tl.tensor,
    programmed_OI: tl.tensor,
    largest: tl.tensor,
    largest_now: tl.tensor,
    weight_OI: tl.tensor,
    drift_key: tl.tensor,
    read_key: tl.tensor,
    full: tl.tensor,
    lower: tl.tensor,
    factor: tl.tensor,
    g_max: tl.tensor,
    log2_age: tl.tensor,
    size: tl.tensor,
    reference: tl.tensor,
    exponent: tl.tensor,
    level: tl.tensor,
    most: tl.tensor,
    slope_m: tl.tensor,
    intercept_m: tl.tensor,
    min_m: tl.tensor,
    max_m: tl.tensor,
    slope_s: tl.tensor,
    intercept_s: tl.tensor,
    min_s: tl.tensor,
    max_s: tl.tensor,
    columns: tl.tensor,
    rows: tl.tensor,
    DRIFTS: tl.constexpr,
    ADDS: tl.constexpr,
    COLUMNS: tl.constexpr,
    HALVES: tl.constexpr,
) -> None:
    scale = full / tl.maximum(tl.load(largest), 1e-7)
    scale_now = full / tl.maximum(tl.load(largest_now), 1e-7)
    pair, one, other, is_one, is_other = _places(columns, rows, COLUMNS, HALVES)
    read_one, read_other = normal_pair(read_key, pair)
    drift_one, drift_other = normal_pair(drift_key, pair)
    for part in tl.static_range(2):
        cell, inside = (one, is_one) if part == 0 else (other, is_other)
        read_normal, drift_normal = (read_one, drift_one) if part == 0 else (read_other, drift_other)
        programmed = tl.load(programmed_OI + cell, mask=inside, other=0.0)
        sign = tl.where(programmed >= 0, 1.0, -1.0)
        start = limited((tl.abs(programmed) * scale_now - lower) / factor, 0.0, g_max)
        sigma = exp2(log2(tl.maximum(start / reference, 1e-30)) * -exponent)
        sigma = tl.minimum(tl.minimum(sigma, 1e3) * level, most) * size
        drifted = start
        if DRIFTS:
            # The device on the side of the weight's sign conducts; it may have been the one at zero.
            value = tl.load(target_OI + cell, mask=inside, other=0.0) * sign
            target = limited((value * scale - lower) / factor, 0.0, g_max) / reference
            drifted *= _decay(
                target, drift_normal, log2_age, slope_m, intercept_m, min_m, max_m, slope_s, intercept_s, min_s, max_s
            )
        weight = limited(drifted + drifted * sigma * read_normal, 0.0, _NEVER) * sign * (factor / scale_now)
        if ADDS:
            weight += tl.load(weight_OI + cell, mask=inside, other=0.0)
        tl.store(weight_OI + cell, weight, mask=inside)


def read(
    target_OI: Tensor,
    programmed_OI: Tensor,
    drift_K: Sequence[int],
    read_K: Sequence[int],
    pairs: DevicePairs,
    law_P: Sequence[float],
    log2_age: float,
) -> Tensor:
    """What a read finds, in tile units, (columns, rows); for devices that conduct nothing at a weight of zero.

    Args:
        target_OI: weights in tile units that the devices were programmed to, float32.
        programmed_OI: weights that they held afterwards: the result of `program`.
        drift_K: keys of the drift exponents, 0 .. 2^64 - 1.
        read_K: keys of this reading.
        pairs: conductances of the devices.
        law_P: constants of drift and read noise at the time, in the order of `PcmLaws.packed`.
        log2_age: log2((t + t_0) / t_0); 0: no drift.

    Raises:
        ValueError: `g_min` is not 0.
    """
    if pairs.g_min:
        raise ValueError(f"read: devices at zero must conduct nothing, but g_min is {pairs.g_min} uS")
    columns, rows = target_OI.shape
    weight_OI = torch.empty(columns, rows, dtype=torch.float32, device=target_OI.device)
    target_OI, programmed_OI = target_OI.contiguous(), programmed_OI.contiguous()
    largest, largest_now = target_OI.abs().amax(), programmed_OI.abs().amax()
    lower_K = pairs.lower_bounds
    reference, drift_scale, *others, size = law_P
    constants = (pairs.g_max, log2_age * drift_scale, size, reference, *others)
    with torch.cuda.device_of(target_OI):
        for pair, factor in enumerate(pairs.significance):
            keys = signed(drift_K[pair]), signed(read_K[pair])
            _read[_grid(columns, rows)](
                target_OI, programmed_OI, largest, largest_now, weight_OI, *keys, pairs.range, lower_K[pair], factor,
                *constants, columns, rows,
                DRIFTS=log2_age > 0, ADDS=pair > 0, COLUMNS=COLUMNS, HALVES=HALVES,
            )  # fmt: skip
    return weight_OI


def _grid(columns: int, rows: int) -> tuple[int, int]:
    return triton.cdiv(columns, COLUMNS), triton.cdiv(pairs_of_column(rows), HALVES)
