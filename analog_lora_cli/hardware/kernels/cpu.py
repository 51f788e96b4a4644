"""A CPU's loops over inputs, outputs and weights of tiles, compiled by numba: one pass where torch takes a dozen.

float32 only. The formulas are those of `tile.mvm` and `tile.effective_weights`; the noise is that of `PooledNormal`.
Tests compare both.

Arrays are C-contiguous; a suffix gives an array's axes: T tokens, I inputs, O outputs (columns), R rows of tiles, K
runs of the table of normals, N numbers of a run. `counter` and `table_KN` are `PooledNormal.reserve` and `run_table`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numba
import numpy as np
from llvmlite import ir
from numba import prange, void
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from analog_lora_cli.hardware.kernels.approximations import MAGNITUDE, bits_of, largest_magnitude, mix
from analog_lora_cli.hardware.kernels.compiler import kernel
from analog_lora_cli.hardware.kernels.random import GAMMA, RUN, RUNS

if TYPE_CHECKING:
    from llvmlite.ir import IRBuilder, Value
    from numba.core.base import BaseContext
    from numba.core.types import Array, Type
    from numba.core.typing.templates import Signature

Floats = NDArray[np.float32]

_GAMMA, _PICK, _S32 = np.uint64(GAMMA), np.uint64(RUNS - 1), np.uint64(32)
_ONE = np.float32(1.0)
_TINY = np.finfo(np.float32).tiny

AHEAD = 4
"""Runs of the noise that are fetched before they are needed. The table lies in a processor's third cache; its rows are
taken at random, which no processor foresees."""


@intrinsic  # type: ignore[untyped-decorator]
def _fetch(_: object, table: Array, row: Type, index: Type) -> tuple[Signature, Callable[..., Value]]:
    """Ask the processor to bring an element of a table, and what shares its cache line, into its first cache."""

    def generate(context: BaseContext, builder: IRBuilder, _: Signature, arguments: list[Value]) -> Value:
        array = make_array(table)(context, builder, arguments[0])
        place = cgutils.get_item_pointer(context, builder, table, array, arguments[1:], wraparound=False)
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        options = [number(0), number(3), number(1)]  # To read; to keep; data.
        builder.call(prefetch, [builder.bitcast(place, byte), *options])
        return context.get_dummy_value()

    return void(table, row, index), generate


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def fetch_run(table_KN: Floats, counter: np.uint64) -> None:
    """Fetch both rows of the table that make the run of a counter."""
    bits = mix(counter)
    row_1, row_2 = np.int64(bits & _PICK), np.int64((bits >> _S32) & _PICK)
    for line in range(RUN // 16):  # A cache line holds 16 numbers.
        _fetch(table_KN, row_1, 16 * line)
        _fetch(table_KN, row_2, 16 * line)


# Loops run from 0 over plain indices: numba tests indices that may be negative for wrap-around and makes an array of
# each slice, which is slow in inner loops.


@kernel("void(float32[:, ::1], int64[::1], float32, float32[::1], float32[:, ::1], float32[:, ::1])")
def convert_inputs(
    x_TI: Floats,
    edges: NDArray[np.int64],
    step: np.float32,
    constant_R: Floats,
    levels_TI: Floats,
    input_scale_RT: Floats,
) -> None:
    """`Converters.convert_input` of all rows of tiles, each token scaled by its largest magnitude or by a constant.

    Args:
        x_TI: inputs.
        edges: (rows of tiles + 1,), first input of each row of tiles, and the number of inputs.
        step: step of the DAC in tile units; 0: ideal.
        constant_R: scale of all tokens, beyond which inputs are clipped; 0: each token's largest magnitude.
        levels_TI: output: inputs in steps of the DAC.
        input_scale_RT: output: scale of each token.
    """
    for token in prange(x_TI.shape[0]):
        for tile in range(len(edges) - 1):
            x_I = x_TI[token, edges[tile] : edges[tile + 1]]
            level_I = levels_TI[token, edges[tile] : edges[tile + 1]]
            magnitude = constant_R[tile]
            if magnitude == 0:
                magnitude = largest_magnitude(x_I)
            input_scale_RT[tile, token] = magnitude
            # A token of zeros must give zeros, not NaN.
            inverse = _ONE / (_TINY if magnitude < _TINY else magnitude)
            if step > 0:
                # Not one product of both factors: see `Converters.convert_input`.
                for index in range(len(level_I)):
                    level_I[index] = np.rint(x_I[index] * inverse / step)
                if constant_R[tile] > 0:
                    last = np.rint(_ONE / step)
                    for index in range(len(level_I)):
                        level = level_I[index]
                        level = last if level > last else level
                        level_I[index] = -last if level < -last else level
            else:
                for index in range(len(level_I)):
                    value = x_I[index] * inverse
                    value = _ONE if value > _ONE else value
                    level_I[index] = -_ONE if value < -_ONE else value


@kernel(
    "int64(float32[:, ::1], uint64, float32[:, ::1], float32, boolean, float32, uint64, float32[:, ::1], "
    "float32[:, ::1], float32[:, ::1], float32[::1], float32[:, ::1], uint8[:, :, ::1])"
)
def convert_outputs(
    product_TO: Floats,
    counter: np.uint64,
    table_KN: Floats,
    noise: np.float32,
    rounds: bool,
    limit: np.float32,
    row: np.uint64,
    weight_scale_RO: Floats,
    output_scale_RO: Floats,
    input_scale_RT: Floats,
    bias_O: Floats,
    sum_TO: Floats,
    saturated_RTB: NDArray[np.uint8],
) -> int:
    """Noise, ADC, the digital scale after it, and the digital addition of the rows of tiles.

    Args:
        product_TO: y = input_scale * output_scale * ADC(product * weight_scale + noise * xi); overwritten.
        counter: counter of the noise.
        table_KN: table of the noise.
        noise: standard deviation of the noise in steps of the ADC; 0: none.
        rounds: whether the ADC has levels.
        limit: largest output, in steps of the ADC; infinite: none.
        row: number of the row of tiles.
        weight_scale_RO: factor to steps of the ADC.
        output_scale_RO: factor from steps of the ADC.
        input_scale_RT: scale of each token's inputs.
        bias_O: digital bias, for the first row of tiles.
        sum_TO: output of the rows of tiles so far, to which y is added; (0, 0): this is the first row of tiles, and
            `product_TO` becomes bias + y.
        saturated_RTB: output: a bit for each output, see `saturation`; (0, 0, 0): not needed.

    Returns:
        tokens with an output beyond the bound or NaN, where bits are needed.
    """
    tokens, columns = product_TO.shape
    runs = (columns + RUN - 1) // RUN
    first_row, needs_bits = sum_TO.shape[0] == 0, saturated_RTB.shape[0] > 0
    bound, saturated_tokens = bits_of(limit), 0
    for token in prange(tokens):
        magnitude, largest = input_scale_RT[row, token], np.int32(0)
        # A run of the noise is the sum of two rows of the table; one hash of the run's number picks both.
        for run in range(runs):
            run_counter, first = counter + np.uint64(token * runs + run) * _GAMMA, run * RUN
            fetch_run(table_KN, run_counter + np.uint64(AHEAD) * _GAMMA)
            bits = mix(run_counter)
            row_1, row_2 = bits & _PICK, (bits >> _S32) & _PICK
            for index in range(min(RUN, columns - first)):
                scaled = product_TO[token, first + index] * weight_scale_RO[row, first + index]
                value = scaled + noise * (table_KN[row_1, index] + table_KN[row_2, index])
                level = np.rint(value)
                level = level if rounds else value
                # See `convert_inputs`: bits are in the order of magnitudes.
                largest = max(largest, np.int32(bits_of(level) & MAGNITUDE))
                product_TO[token, first + index] = level
        if needs_bits:
            for byte in range(saturated_RTB.shape[2]):
                saturated_RTB[row, token, byte] = 0
            # Saturation is rare: most tokens end here.
            for index in range(columns if largest > bound else 0):
                saturated_RTB[row, token, index >> 3] |= (abs(product_TO[token, index]) > limit) << (index & 7)
            saturated_tokens += largest > bound
        if first_row:
            for index in range(columns):
                value = product_TO[token, index]
                value = limit if value > limit else value
                value = -limit if value < -limit else value
                product_TO[token, index] = bias_O[index] + value * output_scale_RO[row, index] * magnitude
        else:
            for index in range(columns):
                value = product_TO[token, index]
                value = limit if value > limit else value
                value = -limit if value < -limit else value
                sum_TO[token, index] += value * output_scale_RO[row, index] * magnitude
    return saturated_tokens


@kernel("void(float32[:, ::1], uint64, float32[:, ::1], float32, float32[:, ::1], int64[::1], float32[:, ::1])")
def noisy_weights(
    exact_OI: Floats,
    counter: np.uint64,
    table_KN: Floats,
    strength: np.float32,
    scale_RO: Floats,
    edges: NDArray[np.int64],
    noisy_OI: Floats,
) -> None:
    """Weights with training noise.

    Args:
        exact_OI: weights without noise.
        counter: counter of the noise.
        table_KN: table of the noise.
        strength: standard deviation, relative to the column scale.
        scale_RO: column scales.
        edges: (rows of tiles + 1,), first input of each row of tiles, and the number of inputs.
        noisy_OI: output: exact + strength * scale * xi.
    """
    columns, rows = exact_OI.shape
    runs = (rows + RUN - 1) // RUN
    for column in prange(columns):
        for run in range(runs):
            run_counter = counter + np.uint64(column * runs + run) * _GAMMA
            fetch_run(table_KN, run_counter + np.uint64(AHEAD) * _GAMMA)
            bits = mix(run_counter)
            row_1, row_2, first = bits & _PICK, (bits >> _S32) & _PICK, run * RUN
            for index in range(min(RUN, rows - first)):
                noisy_OI[column, first + index] = table_KN[row_1, index] + table_KN[row_2, index]
        for tile in range(len(edges) - 1):
            deviation, first = strength * scale_RO[tile, column], edges[tile]
            noisy_I, exact_I = noisy_OI[column, first : edges[tile + 1]], exact_OI[column, first : edges[tile + 1]]
            for index in range(len(noisy_I)):
                noisy_I[index] = noisy_I[index] * deviation + exact_I[index]


@kernel(
    "void(float32[:, ::1], uint64, float32[:, ::1], float32, float32[:, ::1], int64[::1], float32[:, ::1], "
    "float32[:, ::1])"
)
def device_weights(
    target_OI: Floats,
    counter: np.uint64,
    table_KN: Floats,
    strength: np.float32,
    scale_RO: Floats,
    edges: NDArray[np.int64],
    held_OI: Floats,
    moments_2K: Floats,
) -> None:
    """Weights drawn from the moments of a device, see `tile.device_draw`; other arguments as for `noisy_weights`.

    Args:
        target_OI: target weights.
        counter: counter of the noise.
        table_KN: table of the noise.
        strength: factor of the standard deviation.
        scale_RO: column scales.
        edges: first input of each row of tiles, and the number of inputs.
        held_OI: output.
        moments_2K: see `TileState`.
    """
    columns, rows = target_OI.shape
    runs, last = (rows + RUN - 1) // RUN, np.int32(moments_2K.shape[1] - 1)
    kept_K, deviation_K = moments_2K[0], moments_2K[1]
    for column in prange(columns):
        for run in range(runs):
            run_counter = counter + np.uint64(column * runs + run) * _GAMMA
            fetch_run(table_KN, run_counter + np.uint64(AHEAD) * _GAMMA)
            bits = mix(run_counter)
            row_1, row_2, first = bits & _PICK, (bits >> _S32) & _PICK, run * RUN
            for index in range(min(RUN, rows - first)):
                held_OI[column, first + index] = table_KN[row_1, index] + table_KN[row_2, index]
        for tile in range(len(edges) - 1):
            scale, first = scale_RO[tile, column], edges[tile]
            per_knot = np.float32(last) / scale if scale > 0 else np.float32(0.0)
            held_I, target_I = held_OI[column, first : edges[tile + 1]], target_OI[column, first : edges[tile + 1]]
            spread = strength * scale
            for index in range(len(held_I)):
                knot = min(np.int32(abs(target_I[index]) * per_knot + np.float32(0.5)), last)
                held_I[index] = target_I[index] * kept_K[knot] + spread * deviation_K[knot] * held_I[index]
