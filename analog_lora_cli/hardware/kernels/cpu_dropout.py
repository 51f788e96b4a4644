"""Dropout on a CPU, compiled by numba: torch draws its masks one number after the other."""

from __future__ import annotations

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray

from analog_lora_cli.hardware.kernels.approximations import mix
from analog_lora_cli.hardware.kernels.compiler import kernel
from analog_lora_cli.hardware.kernels.random import GAMMA

Floats = NDArray[np.float32]

DROP_BLOCK = 1024
"""Numbers that share a key in `drop`: the 64-bit hash is paid once a block, the cheap 32-bit one for each number."""

_GAMMA, _S32 = np.uint64(GAMMA), np.uint64(32)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _mix_32(word: np.uint32) -> np.uint32:
    """The finalizer of MurmurHash3 (Appleby, public domain).

    Masks of words that differ by 2 correlate by about 1e-3 at p = 0.1 (2^27 pairs), others by less.
    """
    word = np.uint32(np.uint32(word ^ (word >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    word = np.uint32(np.uint32(word ^ (word >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(word ^ (word >> np.uint32(16)))


@kernel("void(float32[::1], uint64, uint32, float32, float32[::1])")
def drop(x: Floats, counter: np.uint64, threshold: np.uint32, scale: np.float32, output: Floats) -> None:
    """Set numbers to 0 at random and scale the others.

    Number `i` of a block is dropped if hash(i ^ key) ^ lock is below the threshold; key and lock are the halves of the
    SplitMix64 of the block's number. No mask is stored: the backward pass hashes again.

    Args:
        x: (numbers,).
        counter: counter of the first block, any 64 bits.
        threshold: 2^32 times the probability.
        scale: factor of the numbers that are not dropped.
        output: (numbers,), output.
    """
    for block in prange((len(x) + DROP_BLOCK - 1) // DROP_BLOCK):
        bits = mix(counter + np.uint64(block) * _GAMMA)
        key, lock = np.uint32(bits), np.uint32(bits >> _S32)
        x_N = x[block * DROP_BLOCK : (block + 1) * DROP_BLOCK]
        output_N = output[block * DROP_BLOCK : (block + 1) * DROP_BLOCK]
        for index in range(len(x_N)):
            word = np.uint32(_mix_32(np.uint32(np.uint32(index) ^ key)) ^ lock)
            output_N[index] = x_N[index] * (scale if word >= threshold else np.float32(0))
