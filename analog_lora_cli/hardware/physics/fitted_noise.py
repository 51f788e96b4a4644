"""Noise model of a device file: the form of aihwkit's `PCMLikeNoiseModel` with every constant free."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor

if TYPE_CHECKING:
    from aihwkit.inference.converter.base import BaseConductanceConverter

_SMALLEST = 1e-7
"""Relative conductance below which laws are not evaluated; aihwkit's."""


class FittedNoiseModel(BaseNoiseModel):
    """Programming noise, drift and read noise from the constants of a device file, see `DeviceConstants`.

    With PCM's constants it computes what `PCMLikeNoiseModel` does, bit for bit. The constants belong to conductances
    in uS, not to shares of the largest weight's: another `hardware.g_max` uses another part of the same laws.

    Args:
        g_max_uS: conductance in uS that the laws are relative to.
        t_0_s: first read, in seconds after programming.
        t_read_s: duration of one read, in seconds.
        programming_noise_uS: coefficients of the programming error's standard deviation, in uS.
        drift_mean: `ClippedLaw` of the drift exponent's mean, as a mapping.
        drift_spread: `ClippedLaw` of its standard deviation.
        read_noise: `ReadNoise`, as a mapping.
        g_converter: aihwkit's converter between weights and conductances.
    """

    def __init__(
        self,
        g_max_uS: float,
        t_0_s: float,
        t_read_s: float,
        programming_noise_uS: Sequence[float],
        drift_mean: Mapping[str, float],
        drift_spread: Mapping[str, float],
        read_noise: Mapping[str, float],
        g_converter: BaseConductanceConverter | None = None,
    ) -> None:
        super().__init__(g_converter)
        self.reference = g_max_uS
        self.t_0 = t_0_s
        self.t_read = t_read_s
        self.programming_noise = list(programming_noise_uS)
        self.drift_mean = dict(drift_mean)
        self.drift_spread = dict(drift_spread)
        self.read_noise = dict(read_noise)

    @torch.no_grad()
    def apply_programming_noise_to_conductance(self, g_target: Tensor) -> Tensor:
        """Conductances in uS after programming to these targets."""
        power: Tensor | float = 1.0
        sigma: Tensor | float = self.programming_noise[0]
        for coefficient in self.programming_noise[1:]:
            power = power * (g_target / self.reference)
            sigma = sigma + power * coefficient
        programmed: Tensor = g_target + sigma * torch.randn_like(g_target)
        return programmed.clamp(min=0.0)

    @torch.no_grad()
    def generate_drift_coefficients(self, g_target: Tensor) -> Tensor:
        """Drift exponents of devices with these targets."""
        log_g = (g_target / self.reference).abs().clamp(min=_SMALLEST).log()
        mean, spread = _law(self.drift_mean, log_g), _law(self.drift_spread, log_g)
        return (mean + spread * torch.randn_like(log_g)).abs()

    @torch.no_grad()
    def apply_drift_noise_to_conductance(
        self, g_prog: Tensor, drift_noise_param: Tensor | None, t_inference: float
    ) -> Tensor:
        """Conductances in uS as read `t_inference` seconds after the first read."""
        t = t_inference + self.t_0
        drifted = g_prog
        if t_inference > 0 and drift_noise_param is not None:
            drifted = g_prog * ((t / self.t_0) ** (-drift_noise_param))
        relative = (g_prog.abs() / self.reference) ** self.read_noise["exponent"]
        share = (self.read_noise["factor"] / relative.clamp(min=1e-3)).clamp(max=self.read_noise["max"])
        sigma = share * math.sqrt(math.log((t + self.t_read) / (2 * self.t_read)))
        read: Tensor = drifted + drifted.abs() * sigma * torch.randn_like(g_prog)
        return read.clamp(min=0.0)


def _law(law: Mapping[str, float], log_g: Tensor) -> Tensor:
    return (law["slope"] * log_g + law["intercept"]).clamp(min=law["min"], max=law["max"])
