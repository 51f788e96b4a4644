"""Reading tiles: DAC, product in the memory, noise, ADC, and the digital scaling after it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels.normals import Normals
from analog_lora_cli.hardware.tile.mapping import TileGrid

MAX_HALVINGS_FACTOR = 1000.0
MAX_HALVINGS_STEPS = 0.25
"""Iterative bound management gives up when inputs were reduced by more than the factor, or when the reduction times
the DAC's step exceeds the second number: aihwkit's `max_bm_factor` and `max_bm_res`."""

BLOCK = 1 << 20
"""Outputs that are worked on at a time: few enough to stay in a processor's cache from the product to the ADC."""

LEAST_WEIGHTS = 1 << 14
"""Weights of a layer from which compiled loops are used on a CPU."""


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

    @property
    def input_unit(self) -> float:
        """One step of the DAC in tile units; 1 for an ideal one."""
        return self.dac_step or 1.0

    @property
    def output_unit(self) -> float:
        """One step of the ADC in tile units; 1 for an ideal one."""
        return self.adc_step or 1.0

    @property
    def noise_steps(self) -> float:
        """Standard deviation of the noise before the ADC, in its steps."""
        return self.output_noise / self.output_unit

    def convert_input(self, x: Tensor, factor: Tensor) -> Tensor:
        """x / factor in steps of the DAC, a new tensor.

        Args:
            x: (tokens, rows).
            factor: (tokens, 1): the magnitude that stands for 1 in tile units, at least that of the token.
        """
        levels = x * factor.clamp(min=torch.finfo(factor.dtype).tiny).reciprocal_()
        if self.dac_step:
            # Not one product of both factors: a halved input is often half-way between two levels, and must round
            # as in aihwkit.
            return levels.div_(self.dac_step).round_()
        return levels.clamp_(-1.0, 1.0)

    def digitize(self, output: Tensor, normals: Normals) -> Tensor:
        """Add the output noise and convert, in place; the bound is left to the caller.

        Args:
            output: (tokens, columns), in steps of the ADC.
            normals: source of the noise.
        """
        if self.output_noise:
            noise = normals.draw(*output.shape, dtype=output.dtype)
            output.add_(noise, alpha=self.noise_steps)
        return self.convert_output(output)

    def convert_output(self, output: Tensor) -> Tensor:
        """Round to the levels of the ADC, in place; the bound is left to the caller."""
        return output.round_() if self.adc_step else output

    def saturate(self, output: Tensor, find: bool = False) -> Tensor | None:
        """Limit digitized outputs, in place.

        Args:
            output: (tokens, columns), in steps of the ADC.
            find: whether to say where the limit was passed.

        Returns:
            where the ADC was beyond its bound; None if it is known to be nowhere, or was not to be found.
        """
        limit = self.adc_bound / self.output_unit
        if limit == float("inf"):
            return None
        beyond = None
        if find:
            # Saturation is rare: on a CPU, looking for it is cheaper than a mask that says so for each output.
            on_cpu = output.device.type == "cpu"
            if on_cpu and output.amax().item() <= limit and output.amin().item() >= -limit:
                return None
            beyond = output.abs() > limit
        output.clamp_(-limit, limit)
        return beyond


@dataclass(frozen=True)
class DigitalScales:
    """The digital numbers around a layer's tiles, in which a converter's step counts as 1."""

    into: Tensor
    """(rows of tiles, out_features): multiplies weights; then an input of one DAC step adds them in ADC steps."""
    after: Tensor
    """(rows of tiles, out_features): multiplies what the ADC gives, in its steps."""

    @classmethod
    def of(cls, scales: Tensor, compensation: Tensor | None, converters: Converters) -> DigitalScales:
        """From column scales and the factor against drift, both (rows of tiles, out_features); None: 1."""
        unit = converters.input_unit / converters.output_unit
        after = scales if compensation is None else scales * compensation.to(scales.dtype)
        return cls(
            into=torch.where(scales < torch.finfo(scales.dtype).tiny, 0.0, unit / scales),
            after=after * converters.output_unit,
        )


@dataclass(frozen=True)
class Reading:
    """The result of reading all tiles of a layer."""

    output: Tensor
    """(..., out_features)."""
    saturated: list[Tensor | None]
    """For each row of tiles (tokens, out_features): where the ADC was beyond its bound; None: nowhere."""
    inputs: list[list[Tensor]] | None
    """For each row and column of tiles the inputs as the DAC gave them, (tokens, rows), in the input's unit."""


def read_tiles(
    x: Tensor,
    held: Tensor,
    scales: DigitalScales,
    bias: Tensor | None,
    grid: TileGrid,
    converters: Converters,
    normals: Normals,
    keep_inputs: bool = False,
    find_saturated: bool = False,
    dtype: torch.dtype | None = None,
) -> Reading:
    """Read all tiles of a layer and add up their rows digitally.

    Args:
        x: (..., in_features).
        held: (out_features, in_features): the weights in the devices, in the unit of the layer's weight.
        scales: the digital numbers around the tiles.
        bias: (out_features,), added digitally; None: none.
        grid: the layer's tiles.
        converters: DAC, ADC and output noise.
        normals: source of the output noise.
        keep_inputs: return the converted inputs, for the gradient of the weights.
        find_saturated: say where ADCs were beyond their bound, for the gradient.
        dtype: of the products; None: that of the weights.
    """
    tokens = x.reshape(-1, x.shape[-1]).to(held.dtype)
    # In its final shape from the beginning: a view made in here could not be changed in place, as AdaLoRA does.
    result = torch.empty(*x.shape[:-1], held.shape[0], dtype=held.dtype, device=held.device)
    output = result.view(-1, held.shape[0])
    if fits_kernels(held) and dtype in (None, held.dtype) and not converters.iterative:
        from analog_lora_cli.hardware.tile.cpu_mvm import read_rows

        saturated, inputs = read_rows(
            tokens, held, scales, bias, grid, converters, normals, output, keep_inputs, find_saturated
        )
        return Reading(result, saturated, inputs)
    # Without iterative bound management all tiles side by side see the same input: one product serves them.
    columns = grid.columns if converters.iterative else [(0, held.shape[0])]
    saturated, inputs = [], []
    for index, (start, stop) in enumerate(grid.rows):
        masks: list[tuple[slice, slice, Tensor]] = []
        inputs.append([])
        for first, last in columns:
            weight = held[first:last, start:stop] * scales.into[index, first:last, None]
            tile = _Tile(weight.to(dtype or held.dtype), scales.after[index, first:last], converters)
            target = output[:, first:last]
            added = target if index else (None if bias is None else bias[first:last])
            blocks, seen = tile.read_all(tokens[:, start:stop], target, added, normals, keep_inputs, find_saturated)
            masks.extend((block, slice(first, last), mask) for block, mask in blocks)
            spans = [(first, last)] if converters.iterative else grid.columns
            inputs[-1].extend([seen] * len(spans) if seen is not None else [])
        saturated.append(_joined(masks, output))
    return Reading(result, saturated, inputs if keep_inputs else None)


def fits_kernels(weight: Tensor) -> bool:
    """Whether a layer is read by `cpu_kernels`; a small one is not worth loading a compiler."""
    fits = weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= LEAST_WEIGHTS
    return fits and kernels_load()


@cache
def kernels_load() -> bool:
    """Whether `cpu_kernels` can be used here; torch's operations do the same without it, more slowly.

    numba's threads need the system's OpenMP library (Debian's libgomp1), which some containers lack.
    """
    try:
        import analog_lora_cli.hardware.kernels.cpu  # noqa: F401
    except (ImportError, ValueError):
        return False
    return True


@dataclass(frozen=True)
class _Tile:
    """One tile, or several that share their inputs, ready to be read."""

    weight: Tensor
    """(columns, rows): what an input of one DAC step adds to the output, in ADC steps."""
    after: Tensor
    """(columns,): the digital scale after the ADC, by its steps."""
    converters: Converters

    def read_all(
        self,
        x: Tensor,
        target: Tensor,
        added: Tensor | None,
        normals: Normals,
        keep_inputs: bool,
        find_saturated: bool,
    ) -> tuple[list[tuple[slice, Tensor]], Tensor | None]:
        """Read for all tokens, block by block.

        Args:
            x: (tokens, rows).
            target: (tokens, columns): where the result goes.
            added: what is added to it: (tokens, columns), (columns,) or None. May be `target`.
            normals: source of the noise.
            keep_inputs: return the inputs too.
            find_saturated: return masks.

        Returns:
            blocks of tokens with masks of where the ADC was beyond its bound, and the inputs as the DAC gave them.
        """
        size = max(BLOCK // max(target.shape[1], x.shape[1]), 16) if x.device.type == "cpu" else max(len(x), 1)
        masks: list[tuple[slice, Tensor]] = []
        kept = []
        for start in range(0, len(x), size):
            block = slice(start, start + size)
            read, factor, levels = self._read(x[block], normals)
            mask = self.converters.saturate(read, find_saturated)
            if mask is not None:
                masks.append((block, mask))
            read.mul_(self.after)
            if added is None:
                torch.mul(read, factor, out=target[block])
            else:
                base = added if added.ndim == 1 else added[block]
                torch.addcmul(base, read, factor, out=target[block])
            if keep_inputs:
                kept.append(levels * (factor * self.converters.input_unit))
        if not keep_inputs:
            return masks, None
        return masks, torch.cat(kept) if kept else x.clone()

    def _read(self, x: Tensor, normals: Normals) -> tuple[Tensor, Tensor, Tensor]:
        """Digitized outputs in steps of the ADC, not yet limited; each token's factor; inputs in steps of the DAC."""
        converters = self.converters
        factor = x.abs().amax(dim=1, keepdim=True)
        levels = converters.convert_input(x, factor)
        read = self._digitized(levels, normals)
        if converters.iterative:
            limit = converters.adc_bound / converters.output_unit
            reduction = 1.0
            pending = (read.abs() > limit).any(dim=1).nonzero()[:, 0]
            while (
                len(pending)
                and reduction <= MAX_HALVINGS_FACTOR
                and reduction * converters.dac_step <= MAX_HALVINGS_STEPS
            ):
                reduction *= 2.0
                factor[pending] *= 2.0
                levels[pending] = converters.convert_input(x[pending], factor[pending])
                read[pending] = again = self._digitized(levels[pending], normals)
                pending = pending[(again.abs() > limit).any(dim=1)]
        return read, factor, levels

    def _digitized(self, levels: Tensor, normals: Normals) -> Tensor:
        """Product, noise and ADC: (tokens, columns), in steps of the ADC, not yet limited."""
        converters, weight = self.converters, self.weight.t()
        if converters.output_noise and weight.dtype == levels.dtype:
            # The product is added to the noise where that lies: no pass over the outputs of its own.
            noise = normals.draw(len(levels), weight.shape[1], dtype=levels.dtype)
            return converters.convert_output(noise.addmm_(levels, weight, beta=converters.noise_steps))
        return converters.digitize((levels.to(weight.dtype) @ weight).to(levels.dtype), normals)


def _joined(masks: list[tuple[slice, slice, Tensor]], output: Tensor) -> Tensor | None:
    """One mask (tokens, out_features) from those of blocks of tokens and columns; None without any."""
    if not masks:
        return None
    if len(masks) == 1 and masks[0][2].shape == output.shape:
        return masks[0][2]
    whole = torch.zeros(output.shape, dtype=torch.bool, device=output.device)
    for tokens, columns, mask in masks:
        whole[tokens, columns] = mask
    return whole
