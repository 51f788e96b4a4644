"""The analog matrix-vector product (MVM) in torch's operations: DAC, product in the memory, noise, ADC, digital scale.

Axes of tensors by suffix: T tokens, I inputs (of all rows of tiles, or of one), O outputs (of all columns of tiles, or
of one), 1 a length of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_lora_cli.hardware.kernels.random import PooledNormal
from analog_lora_cli.hardware.tile.array import GradientNeeds, MvmResult, TileArray
from analog_lora_cli.hardware.tile.converters import Converters
from analog_lora_cli.hardware.tile.input_scale import InputScale

MAX_HALVINGS_FACTOR = 1000.0
MAX_HALVINGS_STEPS = 0.25
"""Iterative bound management gives up when inputs were reduced by more than the factor, or when the reduction times
the DAC's step exceeds the second number: aihwkit's `max_bm_factor` and `max_bm_res`."""

BLOCK = 1 << 20
"""Outputs of one block of tokens: few enough to stay in a processor's cache from the product to the ADC."""


def analog_mvm(
    x: Tensor,
    tiles: TileArray,
    bias: Tensor | None,
    normals: PooledNormal,
    needs: GradientNeeds | None = None,
    dtype: torch.dtype | None = None,
) -> MvmResult:
    """Multiply inputs with all tiles of a layer and add up the rows of tiles digitally.

    Args:
        x: (..., in_features).
        tiles: tiles of the layer.
        bias: (out_features,), added digitally; None: none.
        normals: source of the output noise.
        needs: results to keep for the backward pass; None: nothing.
        dtype: type of the products; None: that of the weights.
    """
    weight_OI, grid, converters = tiles.weight, tiles.grid, tiles.converters
    needs = needs or GradientNeeds()
    bias = None if bias is None else bias.to(weight_OI.dtype)
    x_TI = x.reshape(-1, x.shape[-1]).to(weight_OI.dtype)
    # In its final shape from the beginning: a view made in here could not be changed in place, as AdaLoRA does.
    result = torch.empty(*x.shape[:-1], weight_OI.shape[0], dtype=weight_OI.dtype, device=weight_OI.device)
    y_TO = result.view(-1, weight_OI.shape[0])
    if tiles.compiled and dtype in (None, weight_OI.dtype) and not converters.iterative and tiles.plain:
        # Here, because numba cannot be loaded everywhere.
        from analog_lora_cli.hardware.tile.cpu_mvm import mvm_of_rows

        return MvmResult(result, *mvm_of_rows(x_TI, tiles, bias, normals, y_TO, needs))
    # Without iterative bound management all tiles side by side see the same input: one product serves them.
    groups = grid.columns if converters.iterative else [(0, weight_OI.shape[0])]
    saturated: list[Tensor | None] = []
    inputs: list[list[Tensor]] = []
    for row, (start, stop) in enumerate(grid.rows):
        masks: list[tuple[slice, slice, Tensor]] = []
        inputs.append([])
        for first, last in groups:
            step_OI = weight_OI[first:last, start:stop] * tiles.scales.weight_scale[row, first:last, None]
            output_scale_O = tiles.scales.output_scale[row, first:last]
            offset_O = None if tiles.adc_offset is None else tiles.adc_offset[row, first:last] / converters.output_unit
            product_OI = step_OI.to(dtype or weight_OI.dtype)
            group = _Group(product_OI, output_scale_O, converters, tiles.input_scale, row, offset_O)
            target_TO = y_TO[:, first:last]
            # The first row of tiles starts from the bias, the others add to the sum so far.
            addend = target_TO if row else (None if bias is None else bias[first:last])
            blocks, input_TI = group.multiply(x_TI[:, start:stop], target_TO, addend, normals, needs)
            masks.extend((block, slice(first, last), mask) for block, mask in blocks)
            spans = [(first, last)] if converters.iterative else grid.columns
            inputs[-1].extend([input_TI] * len(spans) if input_TI is not None else [])
        saturated.append(_join_masks(masks, y_TO))
    return MvmResult(result, saturated, inputs if needs.inputs else None)


@dataclass(frozen=True)
class _Group:
    """One tile, or several side by side that share their inputs."""

    weight_OI: Tensor
    """Change of the output by an input of one DAC step, in ADC steps."""
    output_scale_O: Tensor
    """The digital scale after the ADC, by its steps."""
    converters: Converters
    input_scale: InputScale
    row: int
    """Row of tiles."""
    offset_O: Tensor | None
    """Offset of each column's ADC, in its steps; None: 0."""

    def multiply(
        self, x_TI: Tensor, target_TO: Tensor, addend: Tensor | None, normals: PooledNormal, needs: GradientNeeds
    ) -> tuple[list[tuple[slice, Tensor]], Tensor | None]:
        """The product for all tokens, block by block.

        Args:
            x_TI: inputs.
            target_TO: output.
            addend: tensor to add to the product: (tokens, columns), (columns,) or None. May be `target_TO`.
            normals: source of the noise.
            needs: results to keep for the backward pass.

        Returns:
            masks of where the ADC was beyond its bound, with their blocks of tokens; and the inputs after the DAC.
        """
        tokens, on_cpu = len(x_TI), x_TI.device.type == "cpu"
        size = max(BLOCK // max(target_TO.shape[1], x_TI.shape[1]), 16) if on_cpu else max(tokens, 1)
        masks: list[tuple[slice, Tensor]] = []
        inputs = []
        for start in range(0, tokens, size):
            block = slice(start, start + size)
            output_TO, input_scale_T1, levels_TI = self._digitize(x_TI[block], normals)
            mask = self.converters.saturate(output_TO, needs.saturation)
            if mask is not None:
                masks.append((block, mask))
            output_TO.mul_(self.output_scale_O)
            if addend is None:
                torch.mul(output_TO, input_scale_T1, out=target_TO[block])
            else:
                base = addend if addend.ndim == 1 else addend[block]
                torch.addcmul(base, output_TO, input_scale_T1, out=target_TO[block])
            if needs.inputs:
                inputs.append(levels_TI * (input_scale_T1 * self.converters.input_unit))
        if not needs.inputs:
            return masks, None
        return masks, torch.cat(inputs) if inputs else x_TI.clone()

    def _digitize(self, x_TI: Tensor, normals: PooledNormal) -> tuple[Tensor, Tensor, Tensor]:
        """Digitized outputs in steps of the ADC, not yet limited; each token's scale; inputs in steps of the DAC."""
        converters = self.converters
        x_TI, input_scale_T1 = self.input_scale.scaled(x_TI, self.row)
        levels_TI = converters.convert_input(x_TI, input_scale_T1)
        output_TO = self._multiply_once(levels_TI, normals)
        if converters.iterative:
            limit = converters.adc_bound / converters.output_unit
            reduction = 1.0
            pending = (output_TO.abs() > limit).any(dim=1).nonzero()[:, 0]
            while (
                len(pending)
                and reduction <= MAX_HALVINGS_FACTOR
                and reduction * converters.dac_step <= MAX_HALVINGS_STEPS
            ):
                reduction *= 2.0
                input_scale_T1[pending] *= 2.0
                levels_TI[pending] = converters.convert_input(x_TI[pending], input_scale_T1[pending])
                output_TO[pending] = repeat_TO = self._multiply_once(levels_TI[pending], normals)
                pending = pending[(repeat_TO.abs() > limit).any(dim=1)]
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


def _join_masks(masks: list[tuple[slice, slice, Tensor]], y_TO: Tensor) -> Tensor | None:
    """One mask of the shape of the output from those of blocks of tokens and columns; None without any."""
    if not masks:
        return None
    if len(masks) == 1 and masks[0][2].shape == y_TO.shape:
        return masks[0][2]
    mask_TO = torch.zeros(y_TO.shape, dtype=torch.bool, device=y_TO.device)
    for tokens, columns, mask in masks:
        mask_TO[tokens, columns] = mask
    return mask_TO
