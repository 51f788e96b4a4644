"""Analog effects on a product before the ADC that depend on inputs and weights: IR drop and short-term read noise.

Axes of tensors by suffix: T tokens, I inputs of a row of tiles, O outputs of a tile, 1 a length of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig


@dataclass(frozen=True)
class ProductEffects:
    """IR drop and short-term read noise, in tile units; the formulas are those of aihwkit's C++ tile.

    The gradient ignores both, as it ignores the converters.
    """

    ir_drop: float
    """Strength; 0: none, 1: physical."""
    wire_ratio: float
    """Conductance of a bit line between two cells over the largest conductance of a device."""
    read_noise: float
    """Standard deviation of each weight's noise in one product; 0: none."""
    grows_with_weight: bool
    """Whether the variance of the noise is proportional to |w|, as with phase-change memory."""

    @classmethod
    def of(cls, hardware: HardwareConfig) -> ProductEffects:
        """The effects that the configuration describes."""
        return cls(
            ir_drop=hardware.ir_drop,
            wire_ratio=hardware.ir_drop_g_ratio,
            read_noise=hardware.read_noise_per_product,
            grows_with_weight=hardware.read_noise_type == "pcm",
        )

    @property
    def active(self) -> bool:
        """Whether there is any."""
        return self.ir_drop > 0 or self.read_noise > 0

    def loss(self, q_TI: Tensor, weight_IO: Tensor) -> Tensor:
        """The part of a product that IR drop takes away, (tokens, columns).

        The inputs are in the order of the word lines, the first one next to the ADC.

        Args:
            q_TI: inputs after the DAC.
            weight_IO: weights that the devices hold.
        """
        inputs = q_TI.shape[1]
        load_TO = (q_TI.abs() @ weight_IO.abs()).mul_(inputs / self.wire_ratio)
        share_TO = ((0.05 * load_TO - 0.2) * load_TO + 0.5) * load_TO
        remote_I = 1.0 - torch.arange(inputs, dtype=q_TI.dtype, device=q_TI.device) / inputs
        return self.ir_drop * share_TO * ((q_TI * (1.0 - remote_I.square())) @ weight_IO)

    def noise_variance(self, q_TI: Tensor, weight_IO: Tensor) -> Tensor:
        """Variance of the short-term read noise at the outputs, (tokens, columns) or (tokens, 1).

        Args:
            q_TI: inputs after the DAC.
            weight_IO: weights that the devices hold.
        """
        power_TI = q_TI.square()
        sum_TO = power_TI @ weight_IO.abs() if self.grows_with_weight else power_TI.sum(dim=1, keepdim=True)
        return self.read_noise**2 * sum_TO
