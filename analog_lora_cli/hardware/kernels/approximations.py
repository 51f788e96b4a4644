"""Logarithm, exponential and Box-Muller normals in float32 without a call, so that compilers vectorize their loops.

The polynomials are those of `polynomials`, good to 1e-7. With rounding, which tests check: `log2` 1e-6 absolute over
(0, 1e30], `exp2` 1e-6 relative, normals 2e-6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numba
import numpy as np
from numba import float32, int32
from numba.extending import intrinsic
from numpy.typing import NDArray

from analog_lora_cli.hardware.kernels import compiler  # noqa: F401  Before anything is compiled.
from analog_lora_cli.hardware.kernels.polynomials import COSINE, EXP2, LOG2, SINE
from analog_lora_cli.hardware.kernels.random import MIX_1, MIX_2

if TYPE_CHECKING:
    from llvmlite.ir import IRBuilder, Value
    from numba.core.base import BaseContext
    from numba.core.types import Type
    from numba.core.typing.templates import Signature

_F, _I = np.float32, np.int32
_MIX_1, _MIX_2 = np.uint64(MIX_1), np.uint64(MIX_2)
_S27, _S30, _S31, _S33 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(33)
_ROOT_HALF = _I(0x3F3504F3)
"""The bits of sqrt(1/2): mantissas are taken from there to sqrt(2)."""
_MANTISSA = _I(23)
MAGNITUDE = _I(0x7FFFFFFF)
"""The bits of a magnitude: all but the sign."""

_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7 = map(_F, LOG2)
_E0, _E1, _E2, _E3, _E4, _E5 = map(_F, EXP2)
_A0, _A1, _A2, _A3, _A4 = map(_F, SINE)
_C0, _C1, _C2, _C3, _C4 = map(_F, COSINE)
_TWO_LN_2, _UNIT = _F(2 * math.log(2)), _F(2.0**-31)


@intrinsic  # type: ignore[untyped-decorator]
def float_of(_: object, bits: Type) -> tuple[Signature, Callable[..., Value]]:
    """The float32 with the bits of an int32: no operation of the processor, only another type."""

    def generate(context: BaseContext, builder: IRBuilder, signature: Signature, arguments: list[Value]) -> Value:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return float32(bits), generate


@intrinsic  # type: ignore[untyped-decorator]
def bits_of(_: object, number: Type) -> tuple[Signature, Callable[..., Value]]:
    """The int32 with the bits of a float32."""

    def generate(context: BaseContext, builder: IRBuilder, signature: Signature, arguments: list[Value]) -> Value:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return int32(number), generate


@numba.njit(error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def largest_magnitude(x_I: NDArray[np.float32]) -> np.float32:
    """The largest magnitude of numbers, NaN being the largest; 0 of none."""
    bits_I = x_I.view(np.int32)
    # The bits of magnitudes are in the order of the magnitudes; maxima of integers are vectorized.
    largest = _I(0)
    for index in range(len(bits_I)):
        largest = max(largest, _I(bits_I[index] & MAGNITUDE))
    result: np.float32 = float_of(_I(largest))
    return result


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def mix(counter: np.uint64) -> np.uint64:
    """SplitMix64's finalizer, see `counter`."""
    counter = (counter ^ (counter >> _S30)) * _MIX_1
    counter = (counter ^ (counter >> _S27)) * _MIX_2
    return counter ^ (counter >> _S31)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def log2(x: np.float32) -> np.float32:
    """The logarithm of a positive normal number to the base 2."""
    bits = bits_of(x)
    exponent = _I(_I(bits - _ROOT_HALF) >> _MANTISSA)
    z = float_of(_I(bits - _I(exponent << _MANTISSA))) - _F(1)
    p = ((((((_L7 * z + _L6) * z + _L5) * z + _L4) * z + _L3) * z + _L2) * z + _L1) * z + _L0
    return _F(_F(exponent) + p * z)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def exp2(x: np.float32) -> np.float32:
    """2^x, for x limited to -126 .. 126."""
    x = min(max(x, _F(-126)), _F(126))
    whole = np.rint(x)
    z = x - whole
    p = ((((_E5 * z + _E4) * z + _E3) * z + _E2) * z + _E1) * z + _E0
    result: np.float32 = float_of(_I(bits_of(p) + _I(_I(whole) << _MANTISSA)))
    return result


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def normal_pair(bits: np.uint64) -> tuple[np.float32, np.float32]:
    """Two standard normals from 64 random bits, see `counter`."""
    high, low = _I(bits >> _S33), _I(np.uint32(bits) >> np.uint32(1))
    radius = np.sqrt(-_TWO_LN_2 * log2((_F(high) + _F(0.5)) * _UNIT))
    turns = _F(low) * _UNIT - _F(0.5)
    # cos(2 pi v) = sin(2 pi q) and |sin(2 pi v)| = cos(2 pi q), with q in [-1/4, 1/4].
    q = _F(0.25) - abs(turns)
    w = q * q
    cosine = ((((_A4 * w + _A3) * w + _A2) * w + _A1) * w + _A0) * q
    sine = (((_C4 * w + _C3) * w + _C2) * w + _C1) * w + _C0
    return radius * cosine, radius * (sine if turns > _F(0) else -sine)
