"""Random numbers inside kernels: the normals of `kernels.counter`, and the training noise of weights.

The number of an output or a weight depends on its place and on a key alone, not on blocks, programs or order.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from analog_lora_cli.hardware.kernels import random
from analog_lora_cli.hardware.kernels.counter import signed
from analog_lora_cli.hardware.kernels.gpu.elementary import log2
from analog_lora_cli.hardware.kernels.polynomials import COSINE, SINE

_GAMMA = tl.constexpr(random.GAMMA)
_MIX_1 = tl.constexpr(random.MIX_1)
_MIX_2 = tl.constexpr(random.MIX_2)
_MINUS_TWO_LN_2 = tl.constexpr(-2.0 * math.log(2.0))
_UNIT = tl.constexpr(2.0**-31)
_S0, _S1, _S2, _S3, _S4 = (tl.constexpr(c) for c in SINE)
_C0, _C1, _C2, _C3, _C4 = (tl.constexpr(c) for c in COSINE)

DRAWN_OUTPUTS = 32
DRAWN_INPUTS = 128
"""Outputs and inputs of one program of `noisy_weights`; not measured on a card."""


@triton.jit
def normal_pair(key: tl.tensor, index: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """The pair of normals of each index, see `kernels.counter`; only what is used of it is computed.

    Args:
        key: int64 with the bits of the key.
        index: int64, any shape.
    """
    bits = key.to(tl.uint64) + index.to(tl.uint64) * _GAMMA
    bits = (bits ^ (bits >> 30)) * _MIX_1
    bits = (bits ^ (bits >> 27)) * _MIX_2
    bits = bits ^ (bits >> 31)
    uniform = ((bits >> 33).to(tl.int32).to(tl.float32) + 0.5) * _UNIT
    turns = ((bits & 0xFFFFFFFF) >> 1).to(tl.int32).to(tl.float32) * _UNIT - 0.5
    radius = tl.sqrt_rn(log2(uniform) * _MINUS_TWO_LN_2)
    # cos(2 pi v) = sin(2 pi q) and |sin(2 pi v)| = cos(2 pi q), with q in [-1/4, 1/4]. Triton's own cosine reduces
    # angles of any size, for which a program needs up to 50 registers more.
    q = 0.25 - tl.abs(turns)
    w = q * q
    cosine = ((((w * _S4 + _S3) * w + _S2) * w + _S1) * w + _S0) * q
    sine = (((w * _C4 + _C3) * w + _C2) * w + _C1) * w + _C0
    return radius * cosine, radius * tl.where(turns > 0, sine, -sine)


@triton.jit
def normal(key: tl.tensor, index: tl.tensor) -> tl.tensor:
    """The first normal of each pair; arguments as for `normal_pair`."""
    first, _ = normal_pair(key, index)
    return first


@triton.jit(do_not_specialize=["key"])
def _noisy_weights(
    exact_OI: tl.tensor,
    scale_RO: tl.tensor,
    edges_E: tl.tensor,
    noisy_OI: tl.tensor,
    key: tl.tensor,
    strength: tl.tensor,
    outputs: tl.tensor,
    inputs: tl.tensor,
    per_row: tl.tensor,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
) -> None:
    row, block = tl.program_id(1) // per_row, tl.program_id(1) % per_row
    output = (tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)).to(tl.int64)
    input_ = tl.load(edges_E + row) + block * INPUTS + tl.arange(0, INPUTS)
    inside = (output < outputs)[:, None] & (input_ < tl.load(edges_E + row + 1))[None, :]
    index = output[:, None] * inputs + input_[None, :]
    deviation = strength * tl.load(scale_RO + row * outputs + output, mask=output < outputs, other=0.0)
    exact = tl.load(exact_OI + index, mask=inside, other=0.0).to(tl.float32)
    noisy = exact + deviation[:, None] * normal(key, index)
    tl.store(noisy_OI + index, noisy.to(noisy_OI.dtype.element_ty), mask=inside)


def noisy_weights(
    weight_OI: Tensor, scale_RO: Tensor, edges_E: Tensor, widest: int, strength: float, key: int, dtype: torch.dtype
) -> Tensor:
    """weight + strength * scale * xi, (out_features, in_features): what the products draw inside for few tokens.

    Args:
        weight_OI: weights without noise, float32 or half precision.
        scale_RO: column scales, float32.
        edges_E: int32.
        widest: most inputs of a row of tiles.
        strength: standard deviation, relative to the column scale.
        key: key of xi, 0 .. 2^64 - 1; weight (o, i) has the index o * in_features + i.
        dtype: type of the result.
    """
    outputs, inputs = weight_OI.shape
    noisy_OI = torch.empty(outputs, inputs, dtype=dtype, device=weight_OI.device)
    per_row = triton.cdiv(widest, DRAWN_INPUTS)
    grid = (triton.cdiv(outputs, DRAWN_OUTPUTS), per_row * (len(edges_E) - 1))
    arguments = (weight_OI.contiguous(), scale_RO, edges_E, noisy_OI, signed(key), strength, outputs, inputs, per_row)
    with torch.cuda.device_of(weight_OI):
        _noisy_weights[grid](*arguments, OUTPUTS=DRAWN_OUTPUTS, INPUTS=DRAWN_INPUTS)
    return noisy_OI
