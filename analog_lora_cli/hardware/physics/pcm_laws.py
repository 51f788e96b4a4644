"""The constants of phase-change memory and of fitted devices in one form, and the pairs of devices that hold a weight.

With g = G / reference and t in seconds after programming (Nandakumar et al., ICECS 2019; aihwkit's
`PCMLikeNoiseModel`):

    programming    G_prog = max(G_target + sigma(g_target) xi, 0), sigma(g) = sum_i c_i g^i in uS
    drift          G(t) = G_prog ((t + t_0) / t_0)^-nu, nu = drift_scale |mean(g_target) + spread(g_target) xi|
    laws           clip(slope ln(max(g, 1e-7)) + intercept, min, max)
    read noise     G_read = max(G (1 + Q xi), 0), Q = min(factor min(g_prog^-exponent, 1000), max)
                   * read_scale sqrt(ln((t + t_0 + t_read) / (2 t_read)))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analog_lora_cli.config.device_file import PCM, ClippedLaw, ReadNoise
from analog_lora_cli.hardware.kernels.device_pairs import DevicePairs
from analog_lora_cli.hardware.physics.conductances import significance_of
from analog_lora_cli.hardware.physics.fitted_noise import FittedNoiseModel

if TYPE_CHECKING:
    from aihwkit.inference.converter.base import BaseConductanceConverter
    from aihwkit.inference.noise.base import BaseNoiseModel

MOST_COEFFICIENTS = 6
"""Coefficients of the programming noise that compiled loops take."""


@dataclass(frozen=True)
class PcmLaws:
    """The constants of a device, see the module's text."""

    reference: float
    """In uS."""
    t_0: float
    """First read, in seconds after programming."""
    t_read: float
    """Duration of one read, in seconds."""
    programming_noise: tuple[float, ...]
    """c_i, in uS."""
    drift_mean: ClippedLaw
    drift_spread: ClippedLaw
    read_noise: ReadNoise
    drift_scale: float = 1.0
    read_scale: float = 1.0

    @classmethod
    def of(cls, model: BaseNoiseModel) -> PcmLaws | None:
        """The laws of one of aihwkit's noise models; None if it has others."""
        from aihwkit.inference.noise.pcm import PCMLikeNoiseModel

        if type(model) is FittedNoiseModel:
            return cls(
                reference=model.reference,
                t_0=model.t_0,
                t_read=model.t_read,
                programming_noise=tuple(model.programming_noise),
                drift_mean=ClippedLaw.model_validate(model.drift_mean),
                drift_spread=ClippedLaw.model_validate(model.drift_spread),
                read_noise=ReadNoise.model_validate(model.read_noise),
            )
        if type(model) is not PCMLikeNoiseModel or len(model.prog_coeff) > MOST_COEFFICIENTS:
            return None
        # aihwkit's polynomial is in uS of its own reference.
        unit = float(model.prog_noise_scale) * model.g_max / model.prog_coeff_g_max_reference
        return cls(
            reference=float(model.g_max),
            t_0=float(model.t_0),
            t_read=float(model.t_read),
            programming_noise=tuple(unit * float(coefficient) for coefficient in model.prog_coeff),
            drift_mean=PCM.drift_mean,
            drift_spread=PCM.drift_spread,
            read_noise=PCM.read_noise,
            drift_scale=float(model.drift_scale),
            read_scale=float(model.read_noise_scale),
        )

    def drift_ratio(self, seconds: float) -> float:
        """(t + t_0) / t_0, t in seconds after programming."""
        return (seconds + self.t_0) / self.t_0

    def read_size(self, seconds: float) -> float:
        """Growth of the read noise with the time: read_scale sqrt(ln((t + t_0 + t_read) / (2 t_read)))."""
        return self.read_scale * math.sqrt(math.log((seconds + self.t_0 + self.t_read) / (2 * self.t_read)))

    @property
    def noise_in_microsiemens(self) -> NDArray[np.float32]:
        """(MOST_COEFFICIENTS,): `programming_noise` against powers of G in uS, for compiled loops."""
        padded = [*self.programming_noise, *[0.0] * (MOST_COEFFICIENTS - len(self.programming_noise))]
        return np.array([c / self.reference**power for power, c in enumerate(padded)], dtype=np.float32)

    def packed(self, seconds: float) -> NDArray[np.float32]:
        """The constants of drift and read noise at a time, for compiled loops: `cpu_chips.age` unpacks them."""
        noise, laws = self.read_noise, (self.drift_mean, self.drift_spread)
        numbers = [self.reference, self.drift_scale, noise.exponent, noise.factor, noise.max]
        numbers += [number for law in laws for number in (law.slope, law.intercept, law.min, law.max)]
        return np.array([*numbers, self.read_size(seconds)], dtype=np.float32)


def device_pairs(converter: BaseConductanceConverter) -> DevicePairs | None:
    """The pairs of one of aihwkit's converters; None if it maps weights in another way."""
    from aihwkit.inference.converter import conductance as converters

    known = (converters.NPairConductanceConverter, converters.SinglePairConductanceConverter)
    if not isinstance(converter, known):
        return None
    return DevicePairs(tuple(significance_of(converter)), float(converter.g_min), float(converter.g_max))
