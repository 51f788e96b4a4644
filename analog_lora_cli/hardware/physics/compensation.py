"""Drift compensation: read-outs of a tile, and the digital factors that follow from them.

Axes of tensors by suffix: M probes, I inputs of a row of tiles, O outputs of a tile.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.random import PooledNormal, one_thread
from analog_lora_cli.hardware.seeds import derive_seed, seed_generator
from analog_lora_cli.hardware.tile.converters import Converters

SMALLEST_READ_OUT = 1e-4
"""Lower limit of a drift read-out in tile units, as in aihwkit, so that the factor stays finite."""


PROBES = 128
"""Products of one read-out with `least-squares`."""
PROBE_SIZE = 0.25
"""Root mean square of the exact products of the probes, relative to the bound of the ADC."""
FITS = 0.75
"""Largest exact product that counts, relative to the bound: what noise enlarges must not saturate."""
COARSE_SPREAD = 0.8
"""Root mean square of the outputs, in steps of the ADC, below which rounding biases a sum of products."""
CORRECTIONS = 8
"""Iterations against that bias; each leaves a small part of it."""
READABLE_SPREAD = 0.5
"""Root mean square of a column's outputs, in steps of the ADC, below which they are nearly all rounded to 0."""
COARSE = 0.1
"""ADC step in tile units beyond which a read-out of single weights is biased."""


@dataclass(frozen=True)
class TileReadOut:
    """A tile as the drift compensation sees it. Weights are (columns, rows) in tile units."""

    target: Tensor
    """Weights that the tile should hold."""
    programmed: Tensor
    """Weights that it held right after programming."""
    drifted: Tensor
    """Weights that it holds now."""
    adc_offset: Tensor | None
    """(columns,), in tile units: offset of each column's ADC; None: 0."""
    first_noise: PooledNormal
    """Source of the noise of the read-out at programming."""
    noise: PooledNormal
    """Source of the noise of the present read-out."""


@dataclass(frozen=True)
class LoopReadOut:
    """Read-outs of single weights in `cpu_chips.age`."""

    converter_P: NDArray[np.float32]
    """Numbers of the converters."""
    factor: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
    """The drift-compensation factor, or one for each column, from the mean magnitude of each column's outputs, in
    steps of the ADC: at programming and now."""


class DriftCompensation(ABC):
    """`hardware.drift_compensation` on one tile after the other.

    A read-out goes through the same converters, noise and other effects as any other product.

    Args:
        hardware: kind of compensation, and the converters that a read-out goes through.
    """

    def __init__(self, hardware: HardwareConfig) -> None:
        self.kind = hardware.drift_compensation
        self.converters = Converters.of(hardware)

    @staticmethod
    def of(hardware: HardwareConfig) -> DriftCompensation:
        """The compensation that the configuration names."""
        return (LeastSquares if hardware.least_squares else ReadOutRatio)(hardware)

    @abstractmethod
    def factor(self, tile: TileReadOut) -> Tensor | float:
        """The drift-compensation factor of a tile, or one for each column."""

    @abstractmethod
    def expected(self, target_K: Tensor, before_2K: Tensor, now_2K: Tensor) -> tuple[Tensor, Tensor]:
        """What each weight of a tile adds on average to the two sums whose ratio is the factor.

        Args:
            target_K: target weights in tile units.
            before_2K: mean and standard deviation of what their devices held right after programming.
            now_2K: of what they hold now.

        Returns:
            (K,) in the numerator, (K,) in the denominator.
        """

    @property
    def per_column(self) -> bool:
        """Whether each column has a factor of its own."""
        return self.kind.endswith("per-column")

    @property
    def in_loops(self) -> LoopReadOut | None:
        """How `cpu_chips.age` makes the read-outs; None: it makes none, `factor` does."""
        return None


class LeastSquares(DriftCompensation):
    """The factor with which a tile's products come closest to the exact ones, over all columns or for each.

    PROBES vectors X on all rows at once, of random signs and the magnitude a; Y0 = X W^T is the exact product with the
    target weights W, computed digitally, Y what the ADCs give:

        factor = <Y0, Y0> / <Y0, Y>        over products with |Y0| <= FITS of the ADC's bound

    a makes the root mean square of Y0 a quarter of the bound, and is at most 1: with all rows on, outputs use the ADC's
    range, where single weights use a few of its steps. Between two levels of the DAC each input takes one of both at
    random. A read-out costs PROBES products a tile, in place of one for each row.

    Noise does not bias the factor, because it does not depend on Y0. Nor does rounding, while outputs spread over more
    than COARSE_SPREAD steps; below, <Y0, Y> is compared with its expectation after rounding, see `_rounded`. So
    the factor of a tile with 16 rows or more is right from 4 bits on, with 8 rows from 5 bits on (bound 12). A tile of
    few columns averages over few products: with 8 columns of 512 rows the factor spreads by about 1 %.

    The factor of one column has a spread of 2 to 4 % of its own, from PROBES products with programming and read errors
    (4 bits: 4 to 7 %). It pays where columns differ by more, as on short tiles and with heavy tails; Gaussian columns
    of 512 rows differ by 1 %. A column whose outputs spread over less than READABLE_SPREAD steps takes the tile's.
    """

    def factor(self, tile: TileReadOut) -> Tensor | float:
        """<Y0, Y0> / <Y0, Y>; 1 where nothing is left of a tile or column."""
        with one_thread():  # Threads cut the sums of products in other places.
            exact_MO, output_MO = self._products(tile)
            fits_MO = exact_MO.abs() <= FITS * self.converters.adc_bound
            exact_MO, output_MO = exact_MO * fits_MO, output_MO * fits_MO
            gain = self._gain(exact_MO, output_MO, (0, 1))
            if self.kind == "least-squares-per-column":
                spread_O = gain * exact_MO.square().mean(dim=0).sqrt()
                readable_O = spread_O >= READABLE_SPREAD * self.converters.adc_step
                gain = torch.where(readable_O, self._gain(exact_MO, output_MO, (0,)), gain)
            return 1 / gain

    def expected(self, target_K: Tensor, before_2K: Tensor, now_2K: Tensor) -> tuple[Tensor, Tensor]:
        """Signs of the probes are independent, so that <Y0, Y0> grows by w^2 and <Y0, Y> by w E[w now]."""
        return target_K.square(), target_K * now_2K[0]

    def _gain(self, exact_MO: Tensor, output_MO: Tensor, over: tuple[int, ...]) -> Tensor:
        """What is left of the exact products: the inverse of the factor, one for all or for each column.

        Args:
            exact_MO: Y0.
            output_MO: Y.
            over: dimensions that share one gain.
        """
        power, together = exact_MO.square().sum(dim=over), (exact_MO * output_MO).sum(dim=over)
        known = together > SMALLEST_READ_OUT * power
        gain = torch.where(known, together / power, 1.0)
        size = (gain * exact_MO).square().mean(dim=over).sqrt()
        if self.converters.adc_step and bool((size[known] < COARSE_SPREAD * self.converters.adc_step).any()):
            for _ in range(CORRECTIONS):
                expected = (exact_MO * self._rounded(gain * exact_MO, output_MO, over)).sum(dim=over)
                gain = torch.where(known & (expected > 0), gain * together / expected, gain)
        return gain

    def _rounded(self, product_MO: Tensor, output_MO: Tensor, over: tuple[int, ...]) -> Tensor:
        """Expectation of noisy products after the ADC's rounding, in tile units.

        Rounding x + n to multiples of d, with n normal of standard deviation s, adds on average (Fourier series of the
        rounding error; Widrow and Kollar, "Quantization Noise", 2008)

            d / pi sum_k (-1)^k / k sin(2 pi k x / d) exp(-2 (pi k s / d)^2)

        s is what remains of the residual beside the variance of rounding, d^2 / 12.

        Args:
            product_MO: x, the expected products before rounding.
            output_MO: measured outputs.
            over: dimensions with one s.
        """
        step = self.converters.adc_step
        residual = (output_MO - product_MO).square().mean(dim=over, keepdim=True)
        variance = (residual / step**2 - 1 / 12).clamp(min=0)
        phase_MO, total_MO = product_MO * (2 * math.pi / step), product_MO.clone()
        for k in range(1, 4):
            damping = torch.exp(-2 * (math.pi * k) ** 2 * variance)
            total_MO += (step * (-1) ** k / (math.pi * k)) * damping * torch.sin(k * phase_MO)
        return total_MO

    def _products(self, tile: TileReadOut) -> tuple[Tensor, Tensor]:
        """Y0 and Y, each (PROBES, columns) in tile units."""
        converters, unit, rows = self.converters, self.converters.output_unit, tile.target.shape[1]
        # The mean square of a product with random signs is the sum of the squares of its column's weights.
        size = float(tile.target.square().sum(dim=1).mean().sqrt())
        level = min(1.0, PROBE_SIZE * converters.adc_bound / size) if size > 0 else 1.0
        levels_MI = self._probes(level, rows).to(tile.target)
        exact_MO = levels_MI @ tile.target.t() * converters.input_unit
        steps_IO = tile.drifted.t() * (converters.input_unit / unit)
        offset_O = None if tile.adc_offset is None else tile.adc_offset / unit
        noisy_MO = converters.disturbed_product(levels_MI, steps_IO, offset_O, tile.noise)
        output_MO = converters.convert_output(noisy_MO)
        converters.saturate(output_MO)
        return exact_MO, output_MO * unit

    def _probes(self, level: float, rows: int) -> Tensor:
        """(PROBES, rows): the probes in steps of the DAC."""
        signs_MI, uniform_MI = _random(rows)
        steps = level / self.converters.input_unit
        return signs_MI * (steps if not self.converters.dac_step else torch.floor(steps + uniform_MI))


def coarse_read_out(hardware: HardwareConfig) -> str | None:
    """Sentence on a drift compensation that the ADC is too coarse for; None if it is not."""
    step = Converters.of(hardware).adc_step
    if step <= COARSE or hardware.least_squares or hardware.drift_compensation == "none":
        return None
    return (
        f"biased drift compensation: hardware.drift_compensation={hardware.drift_compensation} reads single weights, "
        f"and one step of the ADC (adc_bits={hardware.adc_bits}, adc_bound={hardware.adc_bound:g}) is {step:.2g} of "
        "the largest; least-squares has no such bias"
    )


@lru_cache(maxsize=8)
def _random(rows: int) -> tuple[Tensor, Tensor]:
    """Signs +-1 and numbers in [0, 1), each (PROBES, rows): the same for all tiles of as many rows."""
    generator = torch.Generator()
    seed_generator(generator, derive_seed("drift probes", rows))
    signs = torch.randint(2, (PROBES, rows), generator=generator).mul_(2).sub_(1).float()
    return signs, torch.rand(PROBES, rows, generator=generator)


class ReadOutRatio(DriftCompensation):
    """The ratio of two read-outs of single weights, at programming and now; 1 with compensation `none`.

    Formula: aihwkit's GlobalDriftCompensation, with and without exact reference, and PerColumnDriftCompensation. An
    ADC whose steps are not much smaller than the weights rounds those that drifted to 0, and the factor comes out too
    large: at 6 bits and a bound of 12 by a third after ten years.
    """

    def factor(self, tile: TileReadOut) -> Tensor | float:
        """Read-out at programming / read-out now."""
        if self.kind == "none":
            return 1.0
        if self.kind == "global-exact":
            before = self._mean(tile.target.abs().mean(dim=1).double())
        else:
            before = self.read_out(tile.programmed, tile.first_noise, tile.adc_offset)
        return before / self.read_out(tile.drifted, tile.noise, tile.adc_offset)

    def expected(self, target_K: Tensor, before_2K: Tensor, now_2K: Tensor) -> tuple[Tensor, Tensor]:
        """Mean magnitudes that the ADC gives for single weights, see `Converters.expected_magnitude`."""
        if self.kind == "none":
            return torch.ones_like(target_K), torch.ones_like(target_K)
        magnitude = self.converters.expected_magnitude
        return target_K if self.kind == "global-exact" else magnitude(*before_2K), magnitude(*now_2K)

    def read_out(self, weight: Tensor, normals: PooledNormal, adc_offset: Tensor | None = None) -> Tensor:
        """The mean magnitude of a tile's outputs for each input in turn set to 1, of the tile or of each column.

        Args:
            weight: (columns, rows), in tile units.
            normals: source of the noise.
            adc_offset: (columns,), in tile units: offset of each column's ADC; None: 0.
        """
        converters, unit = self.converters, self.converters.output_unit
        if converters.effects.active or adc_offset is not None:
            levels_TI = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device) / converters.input_unit
            steps_IO = weight.t() * (converters.input_unit / unit)
            offset_O = None if adc_offset is None else adc_offset / unit
            product = converters.disturbed_product(levels_TI, steps_IO, offset_O, normals)
            output = converters.convert_output(product).t()
        else:
            output = converters.digitize(weight / unit, normals)
        converters.saturate(output)
        return self._mean(output.double().abs().mean(dim=1) * unit)

    @property
    def in_loops(self) -> LoopReadOut | None:
        """Read-outs at programming and now."""
        if self.kind not in ("global", "per-column"):
            return None
        converters, unit = self.converters, self.converters.output_unit
        levels = 1.0 if converters.adc_step else 0.0
        numbers = [1.0 / unit, converters.noise_steps, levels, converters.limit]

        def mean(magnitude_O: NDArray[np.float64]) -> NDArray[np.float64]:
            mean_O = magnitude_O if self.kind == "per-column" else magnitude_O.mean()
            return np.maximum(mean_O * unit, SMALLEST_READ_OUT)

        return LoopReadOut(np.array(numbers, dtype=np.float32), lambda before_O, now_O: mean(before_O) / mean(now_O))

    def _mean(self, magnitude_O: Tensor) -> Tensor:
        """The read-out from the mean magnitude of each column's outputs, in tile units and double precision."""
        mean = magnitude_O if self.kind == "per-column" else magnitude_O.mean()
        return torch.clamp(mean, min=SMALLEST_READ_OUT)
