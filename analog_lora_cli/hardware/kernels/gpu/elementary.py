"""Elementary functions inside kernels, with the polynomials of a CPU's compiled loops.

Constants stand on the right of a product: the interpreter makes no tensor of a constant times a tensor.
"""

from __future__ import annotations

import triton
import triton.language as tl

from analog_lora_cli.hardware.kernels.polynomials import EXP2, LOG2

_ROUNDER = tl.constexpr(1.5 * 2**23)
_UNROUNDED = tl.constexpr(2.0**22)
_ROOT_HALF = tl.constexpr(0x3F3504F3)
"""The bits of sqrt(1/2): mantissas are taken from there to sqrt(2)."""
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7 = (tl.constexpr(c) for c in LOG2)
_E0, _E1, _E2, _E3, _E4, _E5 = (tl.constexpr(c) for c in EXP2)


@triton.jit
def rounded(value: tl.tensor) -> tl.tensor:
    """The nearest whole number, halves to the even one; numbers from 2^22 on, beyond every converter, as they are."""
    return tl.where(tl.abs(value) < _UNROUNDED, (value + _ROUNDER) - _ROUNDER, value)


@triton.jit
def limited(value: tl.tensor, low: tl.tensor, high: tl.tensor) -> tl.tensor:
    """The value within [low, high]; NaN stays, unlike with minimum and maximum."""
    value = tl.where(value > high, high, value)
    return tl.where(value < low, low, value)


@triton.jit
def log2(x: tl.tensor) -> tl.tensor:
    """The logarithm of positive normal numbers to the base 2, with an error of 1e-6 at most."""
    bits = x.to(tl.int32, bitcast=True)
    exponent = (bits - _ROOT_HALF) >> 23
    z = (bits - (exponent << 23)).to(tl.float32, bitcast=True) - 1.0
    p = ((((((z * _L7 + _L6) * z + _L5) * z + _L4) * z + _L3) * z + _L2) * z + _L1) * z + _L0
    return exponent.to(tl.float32) + p * z


@triton.jit
def exp2(x: tl.tensor) -> tl.tensor:
    """2^x, for x limited to -126 .. 126, with a relative error of 1e-6 at most."""
    x = limited(x, -126.0, 126.0)
    whole = rounded(x)
    z = x - whole
    p = ((((z * _E5 + _E4) * z + _E3) * z + _E2) * z + _E1) * z + _E0
    return (p.to(tl.int32, bitcast=True) + (whole.to(tl.int32) << 23)).to(tl.float32, bitcast=True)
