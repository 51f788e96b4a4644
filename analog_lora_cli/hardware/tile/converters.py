"""The converters of a tile, and the digital scales around it.

Axes of tensors by suffix: T tokens, I inputs of a row of tiles, 1 a length of one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.random import PooledNormal
from analog_lora_cli.hardware.tile.product_effects import ProductEffects

MOST_BITS: dict[torch.dtype | None, int] = {torch.bfloat16: 9, torch.float16: 11}
"""Bits of the finest converters that a product in half precision is good enough for: it has 8 and 11 significant
bits, the sign not counted. An ideal converter is finer than any."""


@dataclass(frozen=True)
class Converters:
    """The converters of a tile and the noise before the ADC.

    Tile units: inputs and weights in [-1, 1]. Inside, numbers are counted in steps of the converters, so that
    converting is rounding to whole numbers.
    """

    dac_step: float
    """Distance of two levels of the DAC in tile units: 2 / (2^bits - 2); 0: ideal."""
    adc_step: float
    """Distance of two levels of the ADC in tile units: 2 adc_bound / (2^bits - 2); 0: ideal."""
    adc_bound: float
    """Largest output in tile units; infinite where nothing limits it."""
    output_noise: float
    """Standard deviation of the noise before the ADC, in tile units."""
    iterative: bool
    """Repeat the product of a saturated token with halved inputs."""
    effects: ProductEffects
    """Effects on a product that depend on its inputs and weights."""

    @classmethod
    def of(cls, hardware: HardwareConfig) -> Converters:
        """The converters that the configuration describes; steps as in aihwkit (`inp_res`, `out_res`)."""
        return cls(
            dac_step=2.0 * (1.0 / (2**hardware.dac_bits - 2)) if hardware.dac_bits else 0.0,
            adc_step=2.0 * hardware.adc_bound * (1.0 / (2**hardware.adc_bits - 2)) if hardware.adc_bits else 0.0,
            adc_bound=hardware.adc_bound or float("inf"),
            output_noise=hardware.output_noise,
            iterative=hardware.bound_management == "iterative" and hardware.adc_bound > 0,
            effects=ProductEffects.of(hardware),
        )

    @property
    def input_unit(self) -> float:
        """One step of the DAC in tile units; 1 for an ideal one."""
        return self.dac_step or 1.0

    @property
    def output_unit(self) -> float:
        """One step of the ADC in tile units; 1 for an ideal one."""
        return self.adc_step or 1.0

    @property
    def limit(self) -> float:
        """Largest output in steps of the ADC: its highest level, a whole number; infinite where nothing limits it."""
        # The quotient may come out just below the highest level, which would then count as beyond the bound.
        return float(round(self.adc_bound / self.adc_step)) if self.adc_step else self.adc_bound

    @property
    def noise_steps(self) -> float:
        """Standard deviation of the noise before the ADC, in its steps."""
        return self.output_noise / self.output_unit

    @cached_property
    def output_numbers(self) -> tuple[np.float32, bool, np.float32]:
        """For compiled loops: `noise_steps`, whether the ADC has levels, `limit`."""
        return np.float32(self.noise_steps), self.adc_step > 0, np.float32(self.limit)

    def product_type(self, dtype: torch.dtype | None) -> torch.dtype | None:
        """Type of the products under autocast; None: that of the weights, because `dtype` is too coarse.

        Levels of a converter are whole numbers, which half precision tells apart up to a number of bits only.
        """
        if dtype not in MOST_BITS:
            return dtype
        levels = 2.0 ** MOST_BITS[dtype] - 1.0
        steps = self.dac_step, self.adc_step / self.adc_bound
        return dtype if all(step and 2.0 / step < levels for step in steps) else None

    def convert_input(self, x_TI: Tensor, input_scale_T1: Tensor) -> Tensor:
        """x / input_scale in steps of the DAC, a new tensor.

        Args:
            x_TI: inputs of a row of tiles, or of several, (rows of tiles, tokens, inputs).
            input_scale_T1: the magnitude that stands for 1 in tile units, at least that of the token.
        """
        smallest = torch.finfo(input_scale_T1.dtype).tiny  # A token of zeros must give zeros, not NaN.
        levels_TI = x_TI * input_scale_T1.clamp(min=smallest).reciprocal_()
        if self.dac_step:
            # Not one product of both factors: a halved input is often half-way between two levels, and must round
            # as in aihwkit.
            return levels_TI.div_(self.dac_step).round_()
        return levels_TI.clamp_(-1.0, 1.0)

    def expected_magnitude(self, mean: Tensor, deviation: Tensor) -> Tensor:
        """Mean magnitude of the ADC's outputs, in tile units, of normal products with the noise before the ADC.

        With d the ADC's step and s^2 = deviation^2 + output_noise^2:

            E|y| = d sum_k [Phi((mean - (k - 1/2) d) / s) + Phi((-mean - (k - 1/2) d) / s)]    k = 1, 2, ...

        without steps, or with some much smaller than s, that of a folded normal. Saturation is left out.

        Args:
            mean: of the products, in tile units and double precision.
            deviation: their standard deviation.
        """
        spread = (deviation.square() + self.output_noise**2).sqrt().clamp(min=1e-9)
        step = self.adc_step
        if step < 0.1 * float(spread.min()):
            z = mean / spread
            density = torch.exp(-(z**2) / 2) * math.sqrt(2 / math.pi)
            return spread * density + mean * torch.erf(z / math.sqrt(2))
        largest = float((mean.abs() + 6 * spread).max())
        edges = (torch.arange(1, int(largest / step) + 2, dtype=mean.dtype) - 0.5)[:, None] * step
        beyond = torch.special.ndtr((mean - edges) / spread) + torch.special.ndtr((-mean - edges) / spread)
        expected: Tensor = step * beyond.sum(dim=0)
        return expected

    def digitize(self, output: Tensor, normals: PooledNormal) -> Tensor:
        """Add the output noise and convert, in place; the bound is left to the caller.

        Args:
            output: (..., columns), in steps of the ADC.
            normals: source of the noise.
        """
        if self.output_noise:
            noise = normals.draw(*output.shape, dtype=output.dtype)
            output.add_(noise, alpha=self.noise_steps)
        return self.convert_output(output)

    def disturbed_product(
        self, levels_TI: Tensor, weight_IO: Tensor, offset_O: Tensor | None, normals: PooledNormal
    ) -> Tensor:
        """The product with all that comes before the ADC's rounding, in its steps: `effects`, noise and offset.

        Args:
            levels_TI: inputs in steps of the DAC.
            weight_IO: change of the output by an input of one step, in steps of the ADC.
            offset_O: offset of each column's ADC, in its steps; None: 0.
            normals: source of the noise.
        """
        output_TO = levels_TI @ weight_IO
        variance: Tensor | float = self.noise_steps**2
        if self.effects.active:
            q_TI, tile_IO = levels_TI * self.input_unit, weight_IO * (self.output_unit / self.input_unit)
            if self.effects.ir_drop:
                output_TO.sub_(self.effects.loss(q_TI, tile_IO), alpha=1.0 / self.output_unit)
            if self.effects.read_noise:
                # One normal stands for the sum of two.
                variance = variance + self.effects.noise_variance(q_TI, tile_IO) / self.output_unit**2
        if isinstance(variance, Tensor) or variance:
            noise_TO = normals.draw(*output_TO.shape, dtype=output_TO.dtype)
            output_TO.add_(noise_TO.mul_(variance**0.5))
        return output_TO if offset_O is None else output_TO.add_(offset_O)

    def convert_output(self, output: Tensor) -> Tensor:
        """Round to the levels of the ADC, in place; the bound is left to the caller."""
        return output.round_() if self.adc_step else output

    def saturate(self, output: Tensor, with_mask: bool = False) -> Tensor | None:
        """Limit digitized outputs, in place.

        Args:
            output: (..., columns), in steps of the ADC.
            with_mask: whether to return a mask.

        Returns:
            mask, true where the ADC was beyond its bound; None without `with_mask`, or if that is known to be nowhere.
        """
        limit = self.limit
        if limit == float("inf"):
            return None
        beyond = None
        if with_mask:
            # Saturation is rare: on a CPU, looking for it is cheaper than a mask that says so for each output.
            on_cpu = output.device.type == "cpu"
            if on_cpu and (not output.numel() or (output.amax().item() <= limit and output.amin().item() >= -limit)):
                return None
            beyond = output.abs() > limit
        output.clamp_(-limit, limit)
        return beyond


@dataclass(frozen=True)
class DigitalScales:
    """The digital numbers around a layer's tiles, in which a converter's step counts as 1."""

    weight_scale: Tensor
    """(rows of tiles, out_features): factor of the weights; inputs in DAC steps then give outputs in ADC steps."""
    output_scale: Tensor
    """(rows of tiles, out_features): factor of the ADC's result, which is in its steps."""

    @cached_property
    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both as numpy's arrays, for compiled loops: on the CPU, in float32."""
        return self.weight_scale.numpy(), self.output_scale.numpy()

    @classmethod
    def of(cls, scales: Tensor, compensation: Tensor | None, converters: Converters) -> DigitalScales:
        """Scales of a layer.

        Args:
            scales: (rows of tiles, out_features), column scales.
            compensation: (rows of tiles, out_features), drift-compensation factors; None: 1.
            converters: those of the tiles.
        """
        unit = converters.input_unit / converters.output_unit
        compensated = scales if compensation is None else scales * compensation.to(scales.dtype)
        # A column of zeros has the scale 0: its tile weights are 0, not NaN.
        return cls(
            weight_scale=torch.where(scales < torch.finfo(scales.dtype).tiny, 0.0, unit / scales),
            output_scale=compensated * converters.output_unit,
        )
