"""Least squares of a layer's error along principal directions of its inputs; the formulas are in `recalibration`.

Axes of tensors by suffix: T tokens, I inputs, O outputs, K directions, 1 a length of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from analog_lora_cli.hardware.seeds import derive_seed, seed_generator
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear

INPUTS_PER_DIRECTION = 4
"""Inputs of a layer for each direction at least: fewer say too little about it."""
PASSES = 4
"""Products with the inputs that find their directions, by subspace iteration."""
TOKENS_AT_ONCE = 512
"""Tokens that a layer is computed for at a time: few enough to stay in a processor's cache."""
_SMALLEST = 1e-30


@dataclass(frozen=True)
class Correction:
    """The correction of one layer: x becomes `after` (`before` x), which is added to the product."""

    before: Tensor
    """(K, I), orthonormal rows: U^T."""
    after: Tensor
    """(O, K): D."""

    @property
    def rank(self) -> int:
        """Number of directions."""
        return len(self.before)

    @property
    def parameters(self) -> int:
        """Numbers in both matrices."""
        return self.before.numel() + self.after.numel()

    def of(self, x: Tensor) -> Tensor:
        """The correction for inputs (..., I), (..., O), in the type of the matrices."""
        return functional.linear(functional.linear(x.to(self.before.dtype), self.before), self.after)


def token_weights(layer: AnalogLinear, x_TI: Tensor) -> Tensor:
    """(T, 1): w of each token, see the module; 0 for a token of zeros.

    Also where the DACs have fixed ranges: there it keeps a few tokens of large inputs from deciding alone.

    Args:
        layer: a layer on tiles.
        x_TI: its inputs.
    """
    x_TI = layer.at_tiles(x_TI)
    scales = [x_TI[:, start:stop].abs().amax(dim=1) for start, stop in layer.grid.rows]
    scale_T1 = torch.stack(scales).square().sum(dim=0).sqrt()[:, None]
    return torch.where(scale_T1 > 0, 1 / scale_T1, 0.0)


@dataclass(frozen=True)
class Directions:
    """Candidate directions of a layer's inputs, over all tokens weighted."""

    vectors_IK: Tensor
    """Orthonormal columns, largest energy first."""
    energy_K: Tensor
    """Energy of the inputs along each, positive."""
    output_energy: float
    """Energy of the exact product."""
    fit_TK: Tensor
    """w_t^2 (u_j . x_t) / l_j: products with it are an output's part along each direction."""
    exact_OK: Tensor
    """That part of the exact product, W U. The same for all chips, times and reads."""


@torch.no_grad()
def principal_directions(layer: AnalogLinear, x: Tensor, count: int) -> Directions:
    """Principal directions of a layer's inputs by subspace iteration, which needs no matrix of inputs by inputs.

    Args:
        layer: the layer, whose name seeds the first directions.
        x: its inputs, (..., I).
        count: number of directions; fewer are found where the inputs bear fewer.
    """
    rows_TI = _rows(x, layer)
    weight_T1 = token_weights(layer, rows_TI)
    x_TI = rows_TI * weight_T1
    generator = torch.Generator()
    seed_generator(generator, derive_seed("directions", layer.name))
    image_IK = torch.randn(layer.in_features, count, generator=generator).to(x_TI)
    for _ in range(PASSES):
        basis_IK = torch.linalg.qr(image_IK)[0]
        image_IK = x_TI.T @ (x_TI @ basis_IK)
    inner_KK = basis_IK.T @ image_IK
    energy_K, turn_KK = torch.linalg.eigh((inner_KK + inner_KK.T) / 2)
    energy_K, vectors_IK = energy_K.flip(0), basis_IK @ turn_KK.flip(1)
    # What rounding leaves of an energy of 0 would be divided by.
    inputs = int((weight_T1 > 0).sum())
    real = int((energy_K > energy_K[0] * 1e-6).sum()) if inputs else 0
    count = min(real, inputs // INPUTS_PER_DIRECTION)
    output_energy = sum(
        float(functional.linear(part_TI, _exact(layer)).square().sum()) for part_TI in x_TI.split(TOKENS_AT_ONCE)
    )
    vectors_IK, energy_K = vectors_IK[:, :count].contiguous(), energy_K[:count]
    fit_TK = (rows_TI * weight_T1.square()) @ vectors_IK / energy_K
    exact_OK = _exact(layer) @ (rows_TI.T @ fit_TK)
    if layer.bias is not None:
        exact_OK += torch.outer(layer.bias.detach().to(exact_OK), fit_TK.sum(dim=0))
    return Directions(vectors_IK, energy_K, output_energy, fit_TK, exact_OK)


class ErrorFit:
    """The error of a layer along its directions, read by read: each costs the analog products and their fit alone.

    Args:
        directions: its directions.
        layer: the layer, in any state.
    """

    def __init__(self, directions: Directions, layer: AnalogLinear) -> None:
        self.directions = directions
        self.layer = layer
        self._sum_OK = torch.zeros_like(directions.exact_OK)
        self._squares_K = torch.zeros_like(directions.energy_K)
        self._reads = 0

    @torch.no_grad()
    def add_read(self, x: Tensor) -> None:
        """Read the layer in its present state, and fit the errors.

        Args:
            x: the inputs that the directions were found on: they are large, and so not kept.
        """
        own_OK, x_TI = self.directions.exact_OK.clone(), x.reshape(-1, x.shape[-1])
        fits = self.directions.fit_TK.split(TOKENS_AT_ONCE)
        for part_TI, fit_TK in zip(x_TI.split(TOKENS_AT_ONCE), fits, strict=True):
            own_OK.addmm_(_analog(self.layer, _rows(part_TI, self.layer)).T, fit_TK, alpha=-1)
        self._sum_OK += own_OK
        self._squares_K += own_OK.square().sum(dim=0)
        self._reads += 1

    @cached_property
    def _mean_OK(self) -> Tensor:
        return self._sum_OK / self._reads

    @cached_property
    def _kept_K(self) -> Tensor:
        """The share of each direction's fit that is not noise."""
        energy_K = self._mean_OK.square().sum(dim=0)
        if self._reads == 1:
            return torch.ones_like(energy_K)
        variance_K = (self._squares_K - self._reads * energy_K).clamp(min=0) / (self._reads - 1)
        return (1 - variance_K / self._reads / energy_K.clamp(min=_SMALLEST)).clamp(min=0)

    def gain_K(self) -> Tensor:
        """(K,): share of the layer's output energy that the correction along each direction has."""
        energy_K = (self._mean_OK * self._kept_K).square().sum(dim=0) * self.directions.energy_K
        return energy_K / max(self.directions.output_energy, _SMALLEST)

    def correction(self, indices: list[int]) -> Correction:
        """The correction along some directions."""
        before_KI = self.directions.vectors_IK[:, indices].T.contiguous()
        return Correction(before_KI, (self._mean_OK * self._kept_K)[:, indices].contiguous())


def _rows(x: Tensor, layer: AnalogLinear) -> Tensor:
    """Inputs (..., I) as (T, I), in float32 at least."""
    return x.reshape(-1, x.shape[-1]).to(torch.promote_types(x.dtype, torch.float32))


def _exact(layer: AnalogLinear) -> Tensor:
    """(O, I): the exact weights, in float32 at least."""
    return layer.model_weight.to(layer.column_scale.dtype)


def _analog(layer: AnalogLinear, x_TI: Tensor) -> Tensor:
    """The product as the tiles compute it, without training noise."""
    training = layer.training
    layer.eval()
    try:
        product: Tensor = layer(x_TI)
    finally:
        layer.train(training)
    return product
