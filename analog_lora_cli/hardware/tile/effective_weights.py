"""What the devices of a layer hold in one forward pass, how they are read, and the gradient of the input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from analog_lora_cli.hardware.kernels.normals import Normals
from analog_lora_cli.hardware.tile.mvm import Reading, fits_kernels, read_tiles

if TYPE_CHECKING:
    from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear


@dataclass(frozen=True)
class TileState:
    """What the devices of one layer hold at one moment, as a chip sets it."""

    weight: Tensor
    """(out_features, in_features): the programmed and drifted weights, in the unit of the layer's weight."""
    compensation: Tensor
    """(rows of tiles, out_features): the digital factor against drift, without unit."""


class HeldWeights:
    """What the devices of a layer hold in one forward pass: exact or aged weights, with training noise.

    The noise is drawn again in the backward pass instead of being kept: it would be as large as the model.
    """

    def __init__(self, layer: AnalogLinear) -> None:
        self.layer = layer
        self.state = layer.state
        self.strength = 0.0
        """Standard deviation of the noise, relative to the column scale."""
        self.seed = 0
        self.output_seed: int | None = None
        """Of the noise before the ADC; None: torch's default generator decides."""
        if layer.training and layer.noise is not None:
            self.output_seed = layer.noise.output_seed(layer.name)
            if layer.hardware.weight_noise_type == "gaussian":
                self.strength = layer.hardware.weight_noise * layer.noise.strength
                self.seed = layer.noise.weight_seed(layer.name)

    @torch.no_grad()
    def weight(self) -> Tensor:
        """(out_features, in_features), in the unit of the layer's weight."""
        exact, grid = self.layer.weight.detach() if self.state is None else self.state.weight, self.layer.grid
        if self.strength == 0:
            return exact
        scales, normals = self.layer.column_scale, Normals(self.seed, exact.device)
        if fits_kernels(exact):
            from analog_lora_cli.hardware.tile.cpu_mvm import noisy_weights

            return noisy_weights(exact, self.strength, scales, grid, normals)
        noisy = normals.draw(*exact.shape, dtype=exact.dtype)
        for deviation, (start, stop) in zip(scales * self.strength, grid.rows, strict=True):
            noisy[:, start:stop].mul_(deviation[:, None])
        return noisy.add_(exact)

    def read(
        self, x: Tensor, bias: Tensor | None, dtype: torch.dtype | None, keep_inputs: bool, find_saturated: bool
    ) -> Reading:
        """Read the tiles once, see `read_tiles`."""
        layer = self.layer
        held, scales, normals = self.weight(), layer.digital_scales(), Normals(self.output_seed, x.device)
        return read_tiles(
            x, held, scales, bias, layer.grid, layer.converters, normals, keep_inputs, find_saturated, dtype
        )

    @property
    def compensation(self) -> Tensor | None:
        """(rows of tiles, out_features): the factor against drift; None: 1."""
        return None if self.state is None else self.state.compensation

    def partial_gradients(self, grad: Tensor, saturated: Sequence[Tensor | None]) -> Iterator[tuple[int, Tensor]]:
        """For each row of tiles its number and the gradient of its output before the digital addition.

        Args:
            grad: (tokens, out_features).
            saturated: for each row of tiles, where an ADC was beyond its bound.
        """
        for index, mask in enumerate(saturated):
            partial = grad if self.compensation is None else grad * self.compensation[index].to(grad.dtype)
            yield index, partial if mask is None else partial.masked_fill(mask, 0)

    def input_gradient(self, grad: Tensor, saturated: Sequence[Tensor | None]) -> Tensor:
        """The straight-through gradient of the input, (..., in_features); arguments as above, grad of any rank."""
        held, flat = self.weight(), grad.reshape(-1, grad.shape[-1])
        result = grad.new_empty(flat.shape[0], held.shape[1])
        for index, partial in self.partial_gradients(flat, saturated):
            start, stop = self.layer.grid.rows[index]
            torch.mm(partial, held[:, start:stop].to(partial.dtype), out=result[:, start:stop])
        return result.reshape(*grad.shape[:-1], held.shape[1])
