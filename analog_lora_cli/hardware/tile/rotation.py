"""Rotation of a layer's inputs and weights by a Hadamard transform, which leaves their product as it is.

With R orthogonal, W x = (W R^T) (R x): the tiles hold W R^T, and a digital unit turns each input before the DACs. An
input with a few large numbers, which leave the others only a few levels of the DAC, becomes one of numbers that are all
alike; so do the weights of a column, whose noise is relative to the largest of them. For n inputs, with b the largest
power of two that divides n:

    R = (1 / sqrt(b)) diag(H_b, ..., H_b) diag(s)

n / b blocks with the Hadamard matrix H_b of Sylvester, and signs s of +1 or -1 drawn from the layer's name. Done for
digital quantization by QuIP# (arXiv 2402.04396) and QuaRot (arXiv 2404.00456).

Cost: n log2(b) digital additions a token in each layer. Products of such inputs are larger in tile units, so that
some exceed the ADC: use it with `bound_management: iterative`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import log2, sqrt

import torch
from torch import Tensor, nn

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.seeds import derive_seed, seed_generator
from analog_lora_cli.hardware.tile.mapping import tile_dtype


def input_rotation(hardware: HardwareConfig, name: str, inputs: int) -> HadamardRotation | None:
    """The rotation of a layer's inputs that the hardware has; None: none.

    Args:
        hardware: with its key `input_rotation`.
        name: the layer's name, which draws the signs.
        inputs: the layer's inputs.
    """
    return HadamardRotation(name, inputs) if hardware.input_rotation == "hadamard" else None


def block_size(inputs: int) -> int:
    """b: the largest power of two that divides the number of inputs."""
    return inputs & -inputs


def rotation_additions(hardware: HardwareConfig, inputs: int) -> int:
    """Digital additions that a token costs in a layer; 0 without a rotation."""
    return 0 if hardware.input_rotation == "none" else inputs * int(log2(block_size(inputs)))


class HadamardRotation(nn.Module):
    """R of one layer, see the module.

    Args:
        name: the layer's name, which draws the signs.
        inputs: n.
    """

    signs: Tensor
    """(inputs,): +1 or -1."""
    first: Tensor
    second: Tensor
    """Hadamard matrices whose Kronecker product is H_b: two small products, and not one with b multiplications each."""

    def __init__(self, name: str, inputs: int) -> None:
        super().__init__()
        generator = torch.Generator()
        seed_generator(generator, derive_seed("input rotation", name))
        signs = torch.randint(0, 2, (inputs,), generator=generator) * 2.0 - 1.0
        self.block = block_size(inputs)
        self.scale = 1 / sqrt(self.block)
        first = 1 << (self.block.bit_length() - 1) // 2
        self.register_buffer("signs", signs, persistent=False)
        self.register_buffer("first", _sylvester(first), persistent=False)
        self.register_buffer("second", _sylvester(self.block // first), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """R x of each vector x of (..., inputs), in its type; computed in float32 at least."""
        dtype = tile_dtype(x.dtype)
        with without_autocast(x.device.type):
            blocks = (x.to(dtype) * self.signs.to(dtype)).unflatten(-1, (-1, len(self.first), len(self.second)))
            turned: Tensor = (self.first.to(dtype) @ (blocks @ self.second.to(dtype))).flatten(-3)
        return (turned * self.scale).to(x.dtype)

    @torch.no_grad()
    def of_weight(self, weight_OI: Tensor) -> Tensor:
        """W R^T, bit-identical on every machine: sums and differences of two numbers at a time, in a fixed order."""
        dtype = tile_dtype(weight_OI.dtype)
        return self._butterflies(weight_OI.to(dtype) * self._signs_like(weight_OI, dtype)).to(weight_OI.dtype)

    @torch.no_grad()
    def undone(self, weight_OI: Tensor) -> Tensor:
        """W of W R^T, up to rounding."""
        dtype = tile_dtype(weight_OI.dtype)
        return (self._butterflies(weight_OI.to(dtype)) * self._signs_like(weight_OI, dtype)).to(weight_OI.dtype)

    def _signs_like(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        return self.signs.to(weight.device, dtype)

    def _butterflies(self, lines: Tensor) -> Tensor:
        """The transform of each block of the last axis, scaled to be its own inverse."""
        half = 1
        while half < self.block:
            upper, lower = lines.unflatten(-1, (-1, 2, half)).unbind(-2)
            lines = torch.stack([upper + lower, upper - lower], dim=-2).flatten(-3)
            half *= 2
        return lines * self.scale


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Products in the type of their factors, where the device has an autocast."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _sylvester(size: int) -> Tensor:
    """(size, size): the Hadamard matrix of a power of two, symmetric, of +1 and -1."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        above = torch.cat([matrix, matrix], dim=1)
        matrix = torch.cat([above, torch.cat([matrix, -matrix], dim=1)])
    return matrix
