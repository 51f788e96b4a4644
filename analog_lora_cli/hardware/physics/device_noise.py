"""Errors of a device's weights at a time as one Gaussian draw each, in closed form: mean and standard deviation.

A weight w of a tile, in tile units, has the target conductance G_T = |w| g_max, and its device the laws of `pcm_laws`.
What a read finds after t seconds is, in tile units and for w > 0 (w < 0: the same with the other sign),

    W(t) = P D R / g_max

    P    programmed: max(G_T + sigma(g_T) xi, 0) - max(sigma(0) xi', 0), the second one being the device of the other
         sign; both rectified normals, of which E[P] and E[P^2] are known
    D    drifted: r^-|nu|, nu normal with the mean m and the spread s of the laws at g_T, r = (t + t_0) / t_0; with
         a = ln r, E[D] = e^(-a m + a^2 s^2 / 2) Phi(m / s - a s) + e^(a m + a^2 s^2 / 2) Phi(-m / s - a s), and
         E[D^2] is the same at 2 a
    R    read: max(1 + Q xi'', 0), Q by the law at the root mean square of P, on aihwkit's scale of reads (see
         `conductances.on_scale_of`); a rectified normal too

Given G_T the three are independent but for Q: E[W] = E[P] E[D] E[R], E[W^2] = E[P^2] E[D^2] E[R^2]. Conductances in uS,
times in s. Sources: the laws as in `pcm_laws`; the moments of rectified and folded normals are textbook results.

Against half a million devices of a chip, from the first read to ten years (tests): means within their error, standard
deviations within 3 % for weights above 0.03 of the largest, and up to 15 % too large below, where the distribution is
skewed and far from normal.

Axes of tensors by suffix: K knots, X columns of a tile that have a drift-compensation factor in common, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analog_lora_cli.config.device_file import ClippedLaw
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.hardware.physics.compensation import SMALLEST_READ_OUT, DriftCompensation
from analog_lora_cli.hardware.physics.devices import noise_model
from analog_lora_cli.hardware.physics.pcm_laws import PcmLaws, device_pairs
from analog_lora_cli.hardware.tile.mapping import tile_weights
from analog_lora_cli.hardware.tile.state import MappedLayer, TileState

KNOTS = 129
"""Target weights from 0 to 1 whose read-outs are computed for the drift compensation; between them they are linear."""
DRAWN_KNOTS = 1025
"""Target weights from 0 to 1 at which weights are drawn: each by the nearest."""
USUAL_COLUMNS = 512
"""Columns of a tile without a limit of its own; a small correction of the read noise depends on them."""


@dataclass(frozen=True)
class DeviceNoise:
    """The moments of a device's weights, and the expected drift compensation of tiles of them."""

    laws: PcmLaws
    g_max: float
    """Conductance of the largest weight, in uS."""
    columns: int
    """Columns of a tile, each of which has a weight of 1."""
    compensation: DriftCompensation

    @classmethod
    def of(cls, hardware: HardwareConfig) -> DeviceNoise:
        """The moments of the configured device.

        Raises:
            ConfigError: they are not known in closed form.
        """
        model = noise_model(hardware)
        laws, pairs = PcmLaws.of(model), device_pairs(model.g_converter)
        if laws is None:
            raise ConfigError(
                [
                    f"hardware.weight_noise_type: device-gaussian has no formula for device {hardware.device}, whose "
                    "errors follow laws of their own: use device, which simulates them, or hardware.device pcm or a "
                    "device file"
                ]
            )
        if pairs is None or len(pairs.significance) != 1 or pairs.g_min:
            raise ConfigError(
                [
                    "hardware.weight_noise_type: device-gaussian has formulas for one pair of devices a weight that "
                    "conduct nothing at a weight of zero: use device, which simulates all, or hardware.converter "
                    "single-pair with g_min 0"
                ]
            )
        columns = hardware.weight_columns or USUAL_COLUMNS
        return cls(laws, pairs.g_max, columns, DriftCompensation.of(hardware))

    def state(self, layer: MappedLayer, counts: Sequence[Tensor], seconds: float) -> TileState:
        """The state of a layer from which each forward pass draws devices of an age.

        The factor of a tile's drift compensation, or of each column's, is the ratio of the expected sums of its
        read-outs, without IR drop and short-term read noise.

        Args:
            layer: the layer; its weights are not copied.
            counts: result of `knot_counts` for its present weights.
            seconds: time after programming.
        """
        target_K = torch.linspace(0.0, 1.0, KNOTS, dtype=torch.float64)
        sums_K = self.compensation.expected(target_K, self.programmed(target_K), self.moments(target_K, seconds))
        factors = torch.ones_like(layer.column_scale)
        for place, count_XK in zip(layer.grid, counts, strict=True):
            before_X, now_X = (count_XK @ sum_K.to(count_XK) for sum_K in sums_K)
            factors[place.columns] = torch.where(now_X > SMALLEST_READ_OUT * before_X, before_X / now_X, 1.0).to(
                factors
            )
        target_K = torch.linspace(0.0, 1.0, DRAWN_KNOTS, dtype=torch.float64)
        mean_K, deviation_K = self.moments(target_K, seconds)
        kept_K = mean_K / target_K
        kept_K[0] = kept_K[1]
        return TileState(layer.weight.detach(), factors, moments=torch.stack([kept_K, deviation_K]).to(factors))

    def knot_counts(self, layer: MappedLayer) -> list[Tensor]:
        """How many weights of each tile, or of each of its columns, lie at each knot; one between two counts for both.

        A sum over weights of what is linear between the knots is then a product with these counts.

        Returns:
            (1 or columns, KNOTS) for each tile, float32, on the device of the layer.
        """
        counts = []
        for _, weight_OI in tile_weights(layer, torch.float32):
            place_OI = weight_OI.abs().clamp(max=1.0) * (KNOTS - 1)
            knot_OI = place_OI.to(torch.int64).clamp(max=KNOTS - 2)
            share_OI, groups = place_OI - knot_OI, 1
            if self.compensation.per_column:
                groups = len(weight_OI)
                knot_OI = knot_OI + torch.arange(groups, device=knot_OI.device)[:, None] * KNOTS
            count = torch.zeros(groups * KNOTS, device=weight_OI.device, dtype=torch.float64)
            count.index_add_(0, knot_OI.reshape(-1), (1 - share_OI).reshape(-1).double())
            count.index_add_(0, knot_OI.reshape(-1) + 1, share_OI.reshape(-1).double())
            counts.append(count.view(groups, KNOTS).float())
        return counts

    def programmed(self, target_K: Tensor) -> Tensor:
        """Mean and standard deviation of P / g_max, (2, K), before any read.

        Args:
            target_K: target weights in tile units, 0 to 1, double precision.
        """
        mean_K, square_K = self._programmed(target_K)
        return self._in_tile_units(target_K, mean_K, square_K)

    def moments(self, target_K: Tensor, seconds: float) -> Tensor:
        """Mean and standard deviation of what a read finds, before drift compensation.

        Args:
            target_K: target weights in tile units, 0 to 1, double precision.
            seconds: time after programming, 0 or more; 0: the first read.

        Returns:
            (2, K), in tile units.
        """
        laws = self.laws
        mean_K, square_K = self._programmed(target_K)
        if seconds > 0:
            log_ratio = math.log(laws.drift_ratio(seconds)) * laws.drift_scale
            log_g_K = (target_K * self.g_max / laws.reference).clamp(min=1e-7).log()
            centre_K, spread_K = _law(laws.drift_mean, log_g_K), _law(laws.drift_spread, log_g_K)
            mean_K, square_K = (
                moment_K * _folded(centre_K, spread_K, power * log_ratio)
                for moment_K, power in ((mean_K, 1), (square_K, 2))
            )
        read_K, read_square_K = _rectified(torch.ones_like(target_K), self._read_noise(target_K, seconds))
        return self._in_tile_units(target_K, mean_K * read_K, square_K * read_square_K)

    def _programmed(self, target_K: Tensor) -> tuple[Tensor, Tensor]:
        """E[P] and E[P^2], in uS."""
        sigma_K = self._programming_noise(target_K)
        mean_K, square_K = _rectified(target_K * self.g_max, sigma_K)
        other, other_square = _rectified(torch.zeros_like(target_K), sigma_K[:1])
        return mean_K - other, square_K - 2 * mean_K * other + other_square

    def _programming_noise(self, target_K: Tensor) -> Tensor:
        """sigma(g_T) in uS."""
        g_K, sigma_K = target_K * self.g_max / self.laws.reference, torch.zeros_like(target_K)
        for coefficient in reversed(self.laws.programming_noise):
            sigma_K = sigma_K * g_K + coefficient
        return sigma_K

    def _read_noise(self, target_K: Tensor, seconds: float) -> Tensor:
        """Q at the root mean square of P.

        aihwkit takes it where the largest programmed weight of a tile would be at g_max: that of `columns` weights of 1
        is expected at 1 + z sigma(1) / g_max, z from Blom's formula for the largest of as many normal numbers.
        """
        laws, noise = self.laws, self.laws.read_noise
        z = float(torch.special.ndtri(torch.tensor((self.columns - 0.375) / (self.columns + 0.25)).double()))
        largest = 1 + z * float(self._programming_noise(target_K[-1:])) / self.g_max
        size_K = self._programmed(target_K)[1].sqrt() / largest
        power_K = (size_K / laws.reference) ** noise.exponent
        return (noise.factor / power_K.clamp(min=1e-3)).clamp(max=noise.max) * laws.read_size(seconds)

    def _in_tile_units(self, target_K: Tensor, mean_K: Tensor, square_K: Tensor) -> Tensor:
        # A weight of zero has no sign: the errors of its two devices cancel on average.
        mean_K = torch.where(target_K > 0, mean_K, 0.0)
        return torch.stack([mean_K, (square_K - mean_K**2).clamp(min=0.0).sqrt()]) / self.g_max


def _rectified(mean: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """First two moments of max(X, 0), X normal."""
    z = mean / sigma.clamp(min=1e-12)
    share, density = torch.special.ndtr(z), torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return mean * share + sigma * density, (mean**2 + sigma**2) * share + mean * sigma * density


def _folded(mean: Tensor, sigma: Tensor, a: float) -> Tensor:
    """E[exp(-a |X|)], X normal."""
    z, half = mean / sigma.clamp(min=1e-12), (a * sigma) ** 2 / 2
    below = torch.exp(half + a * mean) * torch.special.ndtr(-z - a * sigma)
    folded: Tensor = torch.exp(half - a * mean) * torch.special.ndtr(z - a * sigma) + below
    return folded


def _law(law: ClippedLaw, log_g: Tensor) -> Tensor:
    return (law.slope * log_g + law.intercept).clamp(law.min, law.max)
