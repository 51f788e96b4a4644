"""The analog MVM tile by tile in torch's operations: iterative bound management, IR drop, short-term read noise.

Iterative bound management repeats the products of the tokens that saturate, so the host must know which: it waits for a
GPU once for each tile and repetition, by its nature.

Axes of tensors by suffix: T tokens, I inputs of a row of tiles, O outputs (of all columns of tiles, or of one), 1 a
length of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_lora_cli.hardware.kernels.random import PooledNormal
from analog_lora_cli.hardware.tile.array import GradientNeeds, TileArray
from analog_lora_cli.hardware.tile.converters import Converters
from analog_lora_cli.hardware.tile.saturation import pack

MAX_HALVINGS_FACTOR = 1000.0
MAX_HALVINGS_STEPS = 0.25
"""Iterative bound management gives up when inputs were reduced by more than the factor, or when the reduction times
the DAC's step exceeds the second number: aihwkit's `max_bm_factor` and `max_bm_res`."""

CPU_BLOCK = 1 << 20
"""Outputs of one block of tokens: few enough to stay in a processor's cache from the product to the ADC."""


def mvm_by_tile(
    x_TI: Tensor,
    weight_OI: Tensor,
    tiles: TileArray,
    bias: Tensor | None,
    normals: PooledNormal,
    needs: GradientNeeds,
    y_TO: Tensor,
) -> tuple[Tensor | None, Tensor | None]:
    """The product of each tile, added up; arguments and result as in `mvm.multiply_rows`."""
    grid, converters, scales = tiles.grid, tiles.converters, tiles.scales
    # Without iterative bound management all tiles side by side see the same input: one product serves them.
    groups = grid.columns if converters.iterative else [(0, y_TO.shape[1])]
    beyond_RTO = y_TO.new_zeros(len(grid.rows), *y_TO.shape, dtype=torch.bool) if needs.saturation else None
    inputs_CTI = x_TI.new_empty(len(groups), *x_TI.shape) if needs.inputs else None
    any_beyond = False
    size = max(CPU_BLOCK // max(*y_TO.shape[1:], x_TI.shape[1]), 16) if x_TI.device.type == "cpu" else len(x_TI)
    for row, (start, stop) in enumerate(grid.rows):
        for column, (first, last) in enumerate(groups):
            weight_scale_O, output_scale_O = (
                scale[row, first:last] for scale in (scales.weight_scale, scales.output_scale)
            )
            offset_O = None if tiles.adc_offset is None else tiles.adc_offset[row, first:last] / converters.output_unit
            step_OI = weight_OI[first:last, start:stop] * weight_scale_O[:, None].to(weight_OI.dtype)
            tile = _Tile(step_OI, converters, offset_O)
            for begin in range(0, len(x_TI), max(size, 1)):
                block = slice(begin, begin + size)
                part_TI, input_scale_T1 = tiles.input_scale.scaled(x_TI[None, block, start:stop], slice(row, row + 1))
                output_TO, input_scale_T1, levels_TI = tile.digitize(part_TI[0], input_scale_T1[0], normals)
                mask_TO = converters.saturate(output_TO, needs.saturation)
                if mask_TO is not None and beyond_RTO is not None:
                    beyond_RTO[row, block, first:last], any_beyond = mask_TO, True
                target_TO = y_TO[block, first:last]
                addend = target_TO if row else (target_TO.zero_() if bias is None else bias[first:last])
                torch.addcmul(addend, output_TO.mul_(output_scale_O), input_scale_T1, out=target_TO)
                if inputs_CTI is not None:
                    inputs_CTI[column, block, start:stop] = levels_TI * (input_scale_T1 * converters.input_unit)
    return pack(beyond_RTO) if beyond_RTO is not None and any_beyond else None, inputs_CTI


@dataclass(frozen=True)
class _Tile:
    """One tile, or several side by side that share their inputs."""

    weight_OI: Tensor
    """Change of the output by an input of one DAC step, in ADC steps."""
    converters: Converters
    offset_O: Tensor | None
    """Offset of each column's ADC, in its steps; None: 0."""

    def digitize(self, x_TI: Tensor, input_scale_T1: Tensor, normals: PooledNormal) -> tuple[Tensor, Tensor, Tensor]:
        """Digitized outputs in steps of the ADC, not yet limited; each token's scale; inputs in steps of the DAC."""
        converters = self.converters
        levels_TI = converters.convert_input(x_TI, input_scale_T1)
        output_TO = self._multiply_once(levels_TI, normals)
        if converters.iterative:
            reduction = 1.0
            pending = (output_TO.abs() > converters.limit).any(dim=1).nonzero()[:, 0]
            while (
                len(pending)
                and reduction <= MAX_HALVINGS_FACTOR
                and reduction * converters.dac_step <= MAX_HALVINGS_STEPS
            ):
                reduction *= 2.0
                input_scale_T1[pending] *= 2.0
                levels_TI[pending] = converters.convert_input(x_TI[pending], input_scale_T1[pending])
                output_TO[pending] = repeat_TO = self._multiply_once(levels_TI[pending], normals)
                pending = pending[(repeat_TO.abs() > converters.limit).any(dim=1)]
        return output_TO, input_scale_T1, levels_TI

    def _multiply_once(self, levels_TI: Tensor, normals: PooledNormal) -> Tensor:
        """Product, noise and ADC, in steps of the ADC, not yet limited."""
        converters, weight_IO = self.converters, self.weight_OI.t()
        if converters.effects.active or self.offset_O is not None:
            output_TO = converters.disturbed_product(levels_TI, weight_IO.to(levels_TI.dtype), self.offset_O, normals)
            return converters.convert_output(output_TO)
        if converters.output_noise and weight_IO.dtype == levels_TI.dtype:
            # The product is added to the noise in place, which saves a pass over the outputs.
            noise_TO = normals.draw(len(levels_TI), weight_IO.shape[1], dtype=levels_TI.dtype)
            return converters.convert_output(noise_TO.addmm_(levels_TI, weight_IO, beta=converters.noise_steps))
        return converters.digitize((levels_TI.to(weight_IO.dtype) @ weight_IO).to(levels_TI.dtype), normals)
