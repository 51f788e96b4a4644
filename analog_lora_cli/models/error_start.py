"""First value of a LoRA adapter in closed form: the best correction of what clipping and converters change.

For a layer with inputs x_t of the digital model on training data (tokens t, padding left out), with W its weights
before clipping and f the product of its tiles with clipped weights, DACs, ADCs and IR drop, but no random noise:

    e_t   = W x_t - f(x_t)
    w_t^2 = 1 / sum_r max |x_t on row of tiles r|^2          as in `recalibration`
    C     = sum_t w_t^2 x_t x_t^T + RIDGE mean(eigenvalues) 1 = V L V^T
    P     = sum_t w_t^2 e_t x_t^T
    P V L^(-1/2) = U S Q^T                                   singular values, largest first
    BA    = sum_(j <= rank) u_j s_j (V L^(-1/2) q_j)^T / scaling

Of all matrices M of that rank, M = scaling BA has the smallest sum_t w_t^2 |e_t - M x_t|^2 (reduced-rank regression,
Izenman 1975; for quantized weights the same is known as QERA, arXiv 2410.06040), but for the ridge, which keeps
directions out that hardly any input has. Rows of A have the norm that PEFT's own have, 1 / sqrt(3), so that B learns at
the usual rate however small the correction is.

Cost: one forward pass of the digital model on TOKENS tokens for each group of layers that fits the workspace, and as
many analog products; an eigenvalue and a singular value decomposition a layer. No labels, no gradients.

Axes of tensors by suffix: T tokens, I inputs, O outputs, K singular values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from analog_lora_cli.errors import UsageError
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.models.adapter_variants import Factors
from analog_lora_cli.models.analog_copies import analog_copies, future_layers, in_parts
from analog_lora_cli.models.error_fit import token_weights
from analog_lora_cli.models.loaded import LoadedModel
from analog_lora_cli.models.training_inputs import batches_with_tokens, layer_inputs
from analog_lora_cli.runtime import processes

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

TOKENS = 4096
"""Tokens of training data that the errors are measured on."""
RIDGE = 1e-4
"""Added to the eigenvalues of C, relative to their mean."""
_ROW_NORM = 3**-0.5
_SMALLEST_ERROR = 1e-10
"""Energy of the errors relative to the products' that rounding alone leaves."""


class ErrorStatistics:
    """Sums over the tokens of one layer: C, P and energies.

    Args:
        weight: (out_features, in_features), before clipping.
        tiles: the clipped layer on tiles, without bias and random noise.
    """

    def __init__(self, weight: Tensor, tiles: AnalogLinear) -> None:
        self._weight_OI = weight.detach().to(tiles.column_scale.dtype)
        self._tiles = tiles
        outputs, inputs = weight.shape
        self._inner_II = weight.new_zeros(inputs, inputs, dtype=torch.float64)
        self._cross_OI = weight.new_zeros(outputs, inputs, dtype=torch.float64)
        self.error_energy = 0.0
        """sum_t w_t^2 |e_t|^2."""
        self.output_energy = 0.0
        """sum_t w_t^2 |W x_t|^2."""

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Count inputs (..., I)."""
        x_TI = x.reshape(-1, x.shape[-1]).to(self._weight_OI.dtype)
        exact_TO = functional.linear(x_TI, self._weight_OI)
        weight_T1 = token_weights(self._tiles, x_TI)
        error_TO = (exact_TO - self._tiles(x_TI)) * weight_T1
        x_TI = x_TI * weight_T1
        self._inner_II += x_TI.T @ x_TI
        self._cross_OI += error_TO.T @ x_TI
        self.error_energy += float(error_TO.square().sum())
        self.output_energy += float((exact_TO * weight_T1).square().sum())

    def best(self, rank: int) -> Factors:
        """The best correction of a rank, or of the largest that the layer can have; `before` has rows of norm 1."""
        energy_I, vectors_II = torch.linalg.eigh(self._inner_II)
        ridge = RIDGE * float(energy_I.mean())
        root_I = (energy_I.clamp(min=0) + ridge).clamp(min=torch.finfo(torch.float64).tiny).rsqrt()
        left_OK, size_K, right_KI = torch.linalg.svd(self._cross_OI @ vectors_II * root_I, full_matrices=False)
        before_KI = right_KI[:rank] * root_I @ vectors_II.T
        norm_K = before_KI.norm(dim=1)
        return Factors(before_KI / norm_K[:, None], left_OK[:, :rank] * size_K[:rank] * norm_K)


def begin_with_correction(loaded: LoadedModel) -> None:
    """Give the adapters of all layers that will lie on tiles their first value.

    The same in each process and at each call.

    Args:
        loaded: the model with a new LoRA adapter, before anything is on tiles; its adapter is changed.

    Raises:
        UsageError: the tiles change nothing that could be corrected.
        DataError, HubError: the training data cannot be read.
    """
    from peft.tuners.lora import LoraLayer

    adapted = {name: part for name, part in loaded.plain.named_modules() if isinstance(part, LoraLayer)}
    layers = {name: layer for name, layer in future_layers(loaded, loaded.config.hardware).items() if name in adapted}
    ranks = {name: next(iter(adapted[name].r.values())) for name in layers}
    for name, correction in processes.gather(_corrections(loaded, layers, ranks))[0].items():
        _set(adapted[name], correction)


def _corrections(loaded: LoadedModel, layers: Mapping[str, nn.Linear], ranks: Mapping[str, int]) -> dict[str, Factors]:
    hardware = loaded.config.hardware.model_copy(update={"output_noise": 0.0, "read_noise_per_product": 0.0})
    batches = batches_with_tokens(loaded, TOKENS)
    corrections, largest_error = {}, 0.0
    for part in in_parts(layers, squares=True):
        copies = analog_copies(loaded, part, hardware, batches)
        sums = {name: ErrorStatistics(layer.weight, copies[name]) for name, layer in part.items()}

        def add(name: str, x: Tensor, sums: Mapping[str, ErrorStatistics] = sums) -> None:
            sums[name].add(x)

        layer_inputs(loaded.module, part, batches, add)
        for name, one in sums.items():
            largest_error = max(largest_error, one.error_energy / max(one.output_energy, 1e-30))
            corrections[name] = one.best(ranks[name])
    if largest_error < _SMALLEST_ERROR:
        raise UsageError(
            "adapter.init: error-aware has nothing to correct: with this hardware no weight of an adapted layer is "
            "clipped, and converters change no product; use init default"
        )
    return corrections


@torch.no_grad()
def _set(layer: LoraLayer, correction: Factors) -> None:
    """Set PEFT's matrices; rows of A beyond the largest rank that the layer can have stay random, with a B of 0."""
    name = next(iter(layer.r))
    count = len(correction.before)
    before, after = layer.lora_A[name].weight, layer.lora_B[name].weight
    before[:count] = correction.before.to(before) * _ROW_NORM
    after[:, :count] = correction.after.to(after) / (_ROW_NORM * layer.scaling[name])
