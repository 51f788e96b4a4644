"""The straight-through gradient of the converters' input in one kernel, with the noise of the forward pass drawn again.

Axes: see the package; in the kernel, `OUTPUTS`, `TOKENS` and `INPUTS` are those of one program.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from analog_lora_cli.hardware.kernels.counter import signed
from analog_lora_cli.hardware.kernels.gpu.blocks import (
    HALF_BACKWARD,
    SINGLE_BACKWARD,
    Blocks,
    Precision,
    dot,
    launch_options,
)
from analog_lora_cli.hardware.kernels.gpu.mvm import WeightNoise
from analog_lora_cli.hardware.kernels.gpu.noise import normal


@triton.jit(do_not_specialize=["key"])
def _input_gradient(
    grad_TO: tl.tensor,
    weight_OI: tl.tensor,
    edges_E: tl.tensor,
    compensation_RO: tl.tensor,
    saturated_RTB: tl.tensor,
    column_scale_RO: tl.tensor,
    result_TI: tl.tensor,
    key: tl.tensor,
    strength: tl.tensor,
    tokens: tl.tensor,
    outputs: tl.tensor,
    inputs: tl.tensor,
    per_row: tl.tensor,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
    TOKENS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
) -> None:
    # A block of inputs lies on one row of tiles, whose factors and bits it needs.
    row, block = tl.program_id(0) // per_row, tl.program_id(0) % per_row
    token = (tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    input_ = tl.load(edges_E + row) + block * INPUTS + tl.arange(0, INPUTS)
    is_token, is_input = token < tokens, input_ < tl.load(edges_E + row + 1)
    result = tl.zeros((TOKENS, INPUTS), tl.float32)
    for first in range(0, outputs, OUTPUTS):
        output = (first + tl.arange(0, OUTPUTS)).to(tl.int64)
        is_output = output < outputs
        inside = is_token[:, None] & is_output[None, :]
        grad = tl.load(grad_TO + token[:, None] * outputs + output[None, :], mask=inside, other=0.0).to(tl.float32)
        column = row * outputs + output
        if compensation_RO is not None:
            grad *= tl.load(compensation_RO + column, mask=is_output, other=0.0)[None, :]
        if saturated_RTB is not None:
            byte = (row * tokens + token)[:, None] * tl.cdiv(outputs, 8) + (output // 8)[None, :]
            bits = tl.load(saturated_RTB + byte, mask=inside, other=0).to(tl.int32)
            grad = tl.where((bits >> (output % 8).to(tl.int32)[None, :]) & 1 == 1, 0.0, grad)
        index = output[:, None] * inputs + input_[None, :]
        weight = tl.load(weight_OI + index, mask=is_output[:, None] & is_input[None, :], other=0.0)
        if column_scale_RO is not None:
            deviation = strength * tl.load(column_scale_RO + column, mask=is_output, other=0.0)
            weight = weight.to(tl.float32) + deviation[:, None] * normal(key, index)
        result = dot(grad, weight, result, OPERAND, PRECISION, WIDE)
    target = result_TI + token[:, None] * inputs + input_[None, :]
    tl.store(target, result.to(result_TI.dtype.element_ty), mask=is_token[:, None] & is_input[None, :])


def input_gradient(
    grad_TO: Tensor,
    weight_OI: Tensor,
    edges_E: Tensor,
    widest: int,
    *,
    compensation_RO: Tensor | None = None,
    saturated_RTB: Tensor | None = None,
    noise: WeightNoise | None = None,
    blocks: Blocks | None = None,
) -> Tensor:
    """The gradient of the converters' input, (tokens, in_features), in the type of `grad_TO`.

    Converters count as the identity inside their range, and as a constant beyond.

    Args:
        grad_TO: gradient of the layer's output, float32 or half precision; products are computed in this type.
        weight_OI: weights of the forward pass, without the training noise if `noise` is given.
        edges_E: int32, as in `TileTensors`.
        widest: most inputs of a row of tiles.
        compensation_RO: drift-compensation factors, float32; None: 1.
        saturated_RTB: bits of `analog_mvm`; None: no ADC was beyond its bound.
        noise: training noise of the forward pass, drawn again inside; None: none.
        blocks: sizes; None: those for the precision.
    """
    (tokens, outputs), inputs = grad_TO.shape, weight_OI.shape[1]
    result_TI = grad_TO.new_empty(tokens, inputs)
    if result_TI.numel() == 0:
        return result_TI
    precision = Precision(grad_TO.dtype)
    blocks = blocks or (HALF_BACKWARD if precision.tensor_cores else SINGLE_BACKWARD).for_tokens(tokens)
    per_row = triton.cdiv(widest, blocks.inputs)
    grid = (per_row * (len(edges_E) - 1), triton.cdiv(tokens, blocks.tokens))
    with torch.cuda.device_of(grad_TO):
        _input_gradient[grid](
            grad_TO.contiguous(),
            weight_OI.contiguous(),
            edges_E,
            None if compensation_RO is None else compensation_RO.contiguous(),
            saturated_RTB,
            None if noise is None else noise.scale_RO.contiguous(),
            result_TI,
            signed(0 if noise is None else noise.key),
            0.0 if noise is None else noise.strength,
            tokens,
            outputs,
            inputs,
            per_row,
            **launch_options(precision, blocks),
        )
    return result_TI
