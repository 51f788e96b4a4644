"""Reading tiles: DAC, product in the memory, noise, ADC, and the digital scaling after it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_lora_cli.config.schema import HardwareConfig
from analog_lora_cli.hardware.mapping import TileGrid

MAX_HALVINGS_FACTOR = 1000.0
MAX_HALVINGS_STEPS = 0.25
"""Iterative bound management gives up when inputs were reduced by more than the factor, or when the reduction times
the DAC's step exceeds the second number: aihwkit's `max_bm_factor` and `max_bm_res`."""


@dataclass(frozen=True)
class Converters:
    """The converters of a tile and the noise before the ADC, in tile units."""

    dac_step: float
    """Distance of two levels of the DAC: 2 / (2^bits - 2); 0: ideal."""
    adc_step: float
    """Distance of two levels of the ADC: 2 adc_bound / (2^bits - 2); 0: ideal."""
    adc_bound: float
    """Largest output; infinite where nothing limits it."""
    output_noise: float
    """Standard deviation of the noise before the ADC."""
    iterative: bool
    """Read a saturated token again with halved inputs."""

    @classmethod
    def of(cls, hardware: HardwareConfig) -> Converters:
        """The converters that the configuration describes; steps as in aihwkit (`inp_res`, `out_res`)."""
        return cls(
            dac_step=2.0 * (1.0 / (2**hardware.dac_bits - 2)) if hardware.dac_bits else 0.0,
            adc_step=2.0 * hardware.adc_bound * (1.0 / (2**hardware.adc_bits - 2)) if hardware.adc_bits else 0.0,
            adc_bound=hardware.adc_bound or float("inf"),
            output_noise=hardware.output_noise,
            iterative=hardware.bound_management == "iterative" and hardware.adc_bound > 0,
        )

    def digitize(self, output: Tensor, generator: torch.Generator | None) -> Tensor:
        """Add the output noise and convert, in place.

        Args:
            output: (tokens, columns), in tile units.
            generator: source of the noise; None takes torch's default one.
        """
        if self.output_noise:
            noise = torch.empty_like(output).normal_(generator=generator)
            output.add_(noise, alpha=self.output_noise)
        if self.adc_step:
            output.div_(self.adc_step).round_().mul_(self.adc_step)
        return output


@dataclass(frozen=True)
class Reading:
    """The result of reading all tiles of a layer."""

    output: Tensor
    """(..., out_features)."""
    saturated: Tensor | None
    """(rows of tiles, tokens, out_features): where the ADC was at its bound; None if nowhere or never looked at."""
    inputs: list[list[Tensor]] | None
    """For each row and column of tiles the inputs as the DAC gave them, (tokens, rows), in the input's unit."""
    dtype: torch.dtype
    """Of the output: the input's, or autocast's."""


def read_tiles(
    x: Tensor,
    held: Tensor,
    scales: Tensor,
    compensation: Tensor | None,
    grid: TileGrid,
    converters: Converters,
    generator: torch.Generator | None,
    keep_inputs: bool = False,
) -> Reading:
    """Read all tiles of a layer and add up their rows digitally.

    Args:
        x: (..., in_features).
        held: (out_features, in_features): the weights in the devices, in the unit of the layer's weight.
        scales: (rows of tiles, out_features): column scales.
        compensation: like `scales`, the factor against drift; None: 1.
        grid: the layer's tiles.
        converters: DAC, ADC and output noise.
        generator: source of the output noise; None takes torch's default one.
        keep_inputs: return the converted inputs, for the gradient of the weights.
    """
    device = x.device.type
    autocast = torch.is_autocast_enabled(device)
    product_dtype = torch.get_autocast_dtype(device) if autocast else held.dtype
    tokens = x.reshape(-1, x.shape[-1]).to(held.dtype)
    output = torch.zeros(tokens.shape[0], held.shape[0], dtype=held.dtype, device=held.device)
    # Without iterative bound management all tiles side by side see the same input: one product serves them.
    columns = grid.columns if converters.iterative else [(0, held.shape[0])]
    saturated = []
    inputs: list[list[Tensor]] = []
    for index, (start, stop) in enumerate(grid.rows):
        inputs.append([])
        masks = []
        for first, last in columns:
            scale = scales[index, first:last]
            read, factor, seen = _read_one(
                tokens[:, start:stop], held[first:last, start:stop], scale, converters, generator, product_dtype
            )
            masks.append(read.abs() > converters.adc_bound)
            read.clamp_(-converters.adc_bound, converters.adc_bound)
            after = scale if compensation is None else scale * compensation[index, first:last]
            output[:, first:last].addcmul_(read.mul_(after), factor)
            if keep_inputs:
                spans = [(first, last)] if converters.iterative else grid.columns
                inputs[-1].extend([seen * factor] * len(spans))
        saturated.append(torch.cat(masks, dim=1) if len(masks) > 1 else masks[0])
    return Reading(
        output=output.reshape(*x.shape[:-1], held.shape[0]),
        saturated=torch.stack(saturated) if converters.adc_bound != float("inf") else None,
        inputs=inputs if keep_inputs else None,
        dtype=product_dtype if autocast else x.dtype,
    )


def _read_one(
    x: Tensor,
    held: Tensor,
    scale: Tensor,
    converters: Converters,
    generator: torch.Generator | None,
    product_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Read one tile, or several that share their inputs.

    Returns:
        (tokens, columns) in tile units, not yet limited; (tokens, 1) the factor that undoes the input's scaling;
        (tokens, rows) the inputs as the DAC gave them, in [-1, 1].
    """
    factor = x.abs().amax(dim=1, keepdim=True)
    inverse_scale = torch.where(_without_inverse(scale), torch.zeros_like(scale), 1.0 / scale)
    seen = _convert_input(x, factor, converters)
    read = _product(seen, held, inverse_scale, product_dtype)
    read = converters.digitize(read, generator)
    if converters.iterative:
        reduction = 1.0
        pending = (read.abs() > converters.adc_bound).any(dim=1).nonzero()[:, 0]
        while (
            len(pending) and reduction <= MAX_HALVINGS_FACTOR and reduction * converters.dac_step <= MAX_HALVINGS_STEPS
        ):
            reduction *= 2.0
            factor[pending] *= 2.0
            seen[pending] = _convert_input(x[pending], factor[pending], converters)
            again = _product(seen[pending], held, inverse_scale, product_dtype)
            read[pending] = again = converters.digitize(again, generator)
            pending = pending[(again.abs() > converters.adc_bound).any(dim=1)]
    return read, factor, seen


def _convert_input(x: Tensor, factor: Tensor, converters: Converters) -> Tensor:
    scaled = x * (1.0 / torch.where(_without_inverse(factor), torch.ones_like(factor), factor))
    if converters.dac_step:
        scaled.div_(converters.dac_step).round_().mul_(converters.dac_step)
    return scaled.clamp_(-1.0, 1.0)


def _without_inverse(scale: Tensor) -> Tensor:
    """Where a magnitude is zero, or so small (below 1e-38 in float32) that its inverse would be infinite."""
    return scale < torch.finfo(scale.dtype).tiny


def _product(seen: Tensor, held: Tensor, inverse_scale: Tensor, dtype: torch.dtype) -> Tensor:
    product = seen.to(dtype) @ held.to(dtype).t()
    return product.to(held.dtype).mul_(inverse_scale)
