"""The analog MVM in one kernel: DAC, product of each row of tiles, noise, ADC, digital scales, sum and bias.

The formulas are those of `tile.mvm`, except that weights are scaled after the product, as in `kernels.cpu`. Axes: see
the package; in the kernel, `OUTPUTS`, `TOKENS` and `INPUTS` are those of one program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from analog_lora_cli.hardware.kernels.counter import signed
from analog_lora_cli.hardware.kernels.gpu.blocks import (
    HALF_FORWARD,
    SINGLE_FORWARD,
    Blocks,
    Precision,
    dot,
    launch_options,
)
from analog_lora_cli.hardware.kernels.gpu.elementary import limited, rounded
from analog_lora_cli.hardware.kernels.gpu.noise import normal

_TINY = tl.constexpr(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True)
class Conversion:
    """The converters of a tile, counted in their steps."""

    dac_step: float
    """Distance of two levels of the DAC in tile units; 0: ideal."""
    rounds: bool
    """Whether the ADC has levels."""
    limit: float
    """Largest output in steps of the ADC; infinite: none."""
    noise: float
    """Standard deviation of the noise before the ADC, in its steps; 0: none."""


@dataclass(frozen=True)
class TileTensors:
    """The tiles of a layer as a kernel takes them: contiguous, and float32 where nothing else is said."""

    weight_OI: Tensor
    """Weights in the unit of the layer's weight; float32 or half precision."""
    edges_E: Tensor
    """int32: first input of each row of tiles, and the number of inputs."""
    weight_scale_RO: Tensor
    """Factor of a product, of inputs in DAC steps and weights, to steps of the ADC."""
    output_scale_RO: Tensor
    """Factor of an ADC's result, in its steps, to the output's unit."""
    range_R: Tensor | None = None
    """Ranges of the inputs; None: each token's largest magnitude on a row of tiles."""
    offset_RO: Tensor | None = None
    """Offset of each column's ADC, in its steps; None: 0."""


@dataclass(frozen=True)
class WeightNoise:
    """Gaussian training noise: strength * column scale * xi on each weight."""

    strength: float
    key: int
    """Key of xi, 0 .. 2^64 - 1; weight (o, i) has the index o * in_features + i."""
    scale_RO: Tensor
    """Column scales, float32."""


@triton.jit
def _largest(
    x_TI: tl.tensor,
    place: tl.tensor,
    known: tl.tensor,
    start: tl.tensor,
    stop: tl.tensor,
    TOKENS: tl.constexpr,
    INPUTS: tl.constexpr,
) -> tl.tensor:
    """Largest magnitude of each token's inputs from `start` to before `stop`, (TOKENS,)."""
    largest = tl.zeros((TOKENS,), tl.float32)
    for first in range(start, stop, INPUTS):
        input_ = first + tl.arange(0, INPUTS)
        inside = known[:, None] & (input_ < stop)[None, :]
        x = tl.load(x_TI + place[:, None] + input_[None, :], mask=inside, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.max(tl.abs(x), axis=1))
    return largest


@triton.jit
def _levels(x: tl.tensor, scale: tl.tensor, dac_step: tl.tensor, DAC: tl.constexpr, CLIPS: tl.constexpr) -> tl.tensor:
    """`Converters.convert_input`: inputs in steps of the DAC, (TOKENS, INPUTS).

    Args:
        x: (TOKENS, INPUTS), inputs.
        scale: (TOKENS,), the magnitude that stands for 1 in tile units.
        dac_step: step of the DAC in tile units.
        DAC: whether the DAC has levels.
        CLIPS: whether inputs may be beyond the scale.
    """
    if CLIPS:
        x = limited(x, -scale[:, None], scale[:, None])
    # A token of zeros must give zeros, not NaN.
    x = x * tl.div_rn(tl.full(scale.shape, 1.0, tl.float32), tl.maximum(scale, _TINY))[:, None]
    if DAC:
        # Not one product of both factors: see `Converters.convert_input`.
        return rounded(tl.div_rn(x, tl.zeros_like(x) + dac_step))
    return limited(x, -1.0, 1.0)


@triton.jit(do_not_specialize=["weight_key", "output_key"])
def _analog_mvm(
    x_TI: tl.tensor,
    weight_OI: tl.tensor,
    bias_O: tl.tensor,
    edges_E: tl.tensor,
    weight_scale_RO: tl.tensor,
    output_scale_RO: tl.tensor,
    column_scale_RO: tl.tensor,
    offset_RO: tl.tensor,
    range_R: tl.tensor,
    y_TO: tl.tensor,
    saturated_RTB: tl.tensor,
    weight_key: tl.tensor,
    output_key: tl.tensor,
    weight_noise: tl.tensor,
    output_noise: tl.tensor,
    dac_step: tl.tensor,
    limit: tl.tensor,
    tokens: tl.tensor,
    outputs: tl.tensor,
    inputs: tl.tensor,
    rows: tl.tensor,
    DAC: tl.constexpr,
    ROUNDS: tl.constexpr,
    LIMITED: tl.constexpr,
    OUTPUT_NOISE: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
    TOKENS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
) -> None:
    # Programs of the same tokens run side by side: the weights of a layer stay in the cache, the inputs come once.
    blocks = tl.cdiv(outputs, OUTPUTS)
    token = (tl.program_id(0) // blocks * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    block = tl.program_id(0) % blocks
    output = (block * OUTPUTS + tl.arange(0, OUTPUTS)).to(tl.int64)
    is_token, is_output = token < tokens, output < outputs
    inside = is_token[:, None] & is_output[None, :]
    total = tl.zeros((TOKENS, OUTPUTS), tl.float32)
    if bias_O is not None:
        total += tl.load(bias_O + output, mask=is_output, other=0.0).to(tl.float32)[None, :]
    for row in range(rows):
        start, stop = tl.load(edges_E + row), tl.load(edges_E + row + 1)
        column = row * outputs + output
        if range_R is not None:
            scale = tl.zeros((TOKENS,), tl.float32) + tl.load(range_R + row)
        else:
            scale = _largest(x_TI, token * inputs, is_token, start, stop, TOKENS, INPUTS)
        if column_scale_RO is not None:
            deviation = weight_noise * tl.load(column_scale_RO + column, mask=is_output, other=0.0)
        value = tl.zeros((TOKENS, OUTPUTS), tl.float32)
        for first in range(start, stop, INPUTS):
            input_ = first + tl.arange(0, INPUTS)
            is_input = input_ < stop
            x = tl.load(
                x_TI + token[:, None] * inputs + input_[None, :], mask=is_token[:, None] & is_input[None, :], other=0.0
            )
            level = _levels(x.to(tl.float32), scale, dac_step, DAC, range_R is not None)
            index = output[:, None] * inputs + input_[None, :]
            weight = tl.load(weight_OI + index, mask=is_output[:, None] & is_input[None, :], other=0.0)
            if column_scale_RO is not None:
                weight = weight.to(tl.float32) + deviation[:, None] * normal(weight_key, index)
            value = dot(level, tl.trans(weight), value, OPERAND, PRECISION, WIDE)
        value *= tl.load(weight_scale_RO + column, mask=is_output, other=0.0)[None, :]
        if OUTPUT_NOISE:
            value += output_noise * normal(output_key, (row * tokens + token)[:, None] * outputs + output[None, :])
        if offset_RO is not None:
            value += tl.load(offset_RO + column, mask=is_output, other=0.0)[None, :]
        if ROUNDS:
            value = rounded(value)
        if saturated_RTB is not None:
            beyond = ((tl.abs(value) > limit) & inside).to(tl.int32)
            bits = tl.reshape(beyond, (TOKENS, OUTPUTS // 8, 8)) << tl.arange(0, 8)[None, None, :]
            byte = block * (OUTPUTS // 8) + tl.arange(0, OUTPUTS // 8)
            bytes_ = tl.cdiv(outputs, 8)
            target = saturated_RTB + (row * tokens + token)[:, None] * bytes_ + byte[None, :]
            tl.store(target, tl.sum(bits, axis=2).to(tl.uint8), mask=is_token[:, None] & (byte < bytes_)[None, :])
        if LIMITED:
            value = limited(value, -limit, limit)
        total += value * tl.load(output_scale_RO + column, mask=is_output, other=0.0)[None, :] * scale[:, None]
    target = y_TO + token[:, None] * outputs + output[None, :]
    tl.store(target, total.to(y_TO.dtype.element_ty), mask=inside)


def analog_mvm(
    x_TI: Tensor,
    tiles: TileTensors,
    conversion: Conversion,
    bias_O: Tensor | None,
    output_key: int,
    *,
    noise: WeightNoise | None = None,
    saturation: bool = False,
    dtype: torch.dtype = torch.float32,
    product: torch.dtype = torch.float32,
    blocks: Blocks | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Multiply inputs with all tiles of a layer and add up the rows of tiles digitally.

    Args:
        x_TI: inputs, float32 or half precision.
        tiles: tiles of the layer.
        conversion: their converters.
        bias_O: added digitally; None: none.
        output_key: key of the noise before the ADCs, 0 .. 2^64 - 1; output o of token t on row of tiles r has the index
            (r * tokens + t) * out_features + o.
        noise: training noise, drawn inside; None: none, or the weights have it already.
        saturation: whether to return `saturated_RTB`.
        dtype: type of the output.
        product: type that inputs in steps of the DAC and weights are rounded to before they are multiplied.
        blocks: sizes; None: those for the precision.

    Returns:
        (tokens, out_features); and bits, the lowest of a byte first, 1 where an ADC was beyond its bound, uint8; None
        if not asked for, or if nothing is.
    """
    (tokens, inputs), outputs, rows = x_TI.shape, len(tiles.weight_OI), len(tiles.edges_E) - 1
    limited = math.isfinite(conversion.limit)
    y_TO = torch.empty(tokens, outputs, dtype=dtype, device=x_TI.device)
    bits = x_TI.new_empty(rows, tokens, -(-outputs // 8), dtype=torch.uint8) if saturation and limited else None
    if y_TO.numel() == 0:
        return y_TO, bits
    precision = Precision(product)
    blocks = blocks or (HALF_FORWARD if precision.tensor_cores else SINGLE_FORWARD).for_tokens(tokens)
    grid = (triton.cdiv(tokens, blocks.tokens) * triton.cdiv(outputs, blocks.outputs),)
    with torch.cuda.device_of(x_TI):
        _analog_mvm[grid](
            x_TI.contiguous(),
            tiles.weight_OI.contiguous(),
            None if bias_O is None else bias_O.contiguous(),
            tiles.edges_E,
            tiles.weight_scale_RO.contiguous(),
            tiles.output_scale_RO.contiguous(),
            None if noise is None else noise.scale_RO.contiguous(),
            None if tiles.offset_RO is None else tiles.offset_RO.contiguous(),
            tiles.range_R,
            y_TO,
            bits,
            signed(0 if noise is None else noise.key),
            signed(output_key),
            0.0 if noise is None else noise.strength,
            conversion.noise,
            conversion.dac_step,
            conversion.limit,
            tokens,
            outputs,
            inputs,
            rows,
            DAC=conversion.dac_step > 0,
            ROUNDS=conversion.rounds,
            LIMITED=limited,
            OUTPUT_NOISE=conversion.noise > 0,
            **launch_options(precision, blocks),
        )
    return y_TO, bits
