"""Recalibration of one chip at one time in closed form: a low-rank correction of each layer's product.

On a chip the weights on tiles are off by programming errors and drift. What that does to the products is found from
inputs alone, without labels or gradients, and taken back along the directions of most of their energy.
For a layer with inputs x_t of the digital model on training data (tokens t, padding left out), with W rows of tiles:

    a_tr  = max |x_t| on row of tiles r
    w_t^2 = 1 / sum_r a_tr^2                          the noise of a token's product is proportional to 1 / w_t
    U     = the first K eigenvectors of C = sum_t w_t^2 x_t x_t^T, with eigenvalues l_j: not centred
    e_tn  = exact product of x_t - analog product in read n = 1 ... N
    b_jn  = sum_t w_t^2 e_tn (u_j . x_t) / l_j        weighted least squares: u_j . x_t are uncorrelated, so each
                                                      direction is fitted by itself
    v_j   = sum over outputs of the variance of b_jn over reads / N
    d_j   = mean_n b_jn * max(0, 1 - v_j / |mean_n b_jn|^2)     shrinkage by the noise of the fit
    y    += D (U^T x)

Without the weights a few tokens with massive activations decide the fit, and a language model gets worse. Reads of the
calibration have numbers of their own, so that an evaluation never sees their noise: what is fitted to noise does not
help it.

Of the candidates of all layers those directions are kept that explain the largest share of their layer's energy for
each parameter of theirs, |d_j|^2 l_j / sum_t w_t^2 |exact product|^2 / (inputs + outputs), until a budget is used:
as many parameters as `rank` directions in each layer would have.

Cost of a chip and time: tokens * reads analog products of each layer, as many as an evaluation on N times as many
tokens, and no backward pass. The inputs come from one forward pass of the digital model, kept for all chips and times
where those of all layers fit the workspace; else one for each group of layers whose inputs do, again for each chip and
time. The directions are found once. The correction has two narrow digital matrices a layer, as a LoRA adapter of that
rank.

Axes of tensors by suffix: T tokens, I inputs, O outputs, K candidates, 1 a length of one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from analog_lora_cli.config.recalibration import Recalibration
from analog_lora_cli.hardware.seeds import seeded_globally
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.models.error_fit import Correction, Directions, ErrorFit, principal_directions
from analog_lora_cli.models.tiling import AnalogModel
from analog_lora_cli.models.training_inputs import batches_with_tokens, stored_inputs
from analog_lora_cli.models.workspace import in_groups

CANDIDATES = 2
"""Candidate directions of a layer, relative to the rank that all layers would have alike."""
FIRST_READ = 2_000_000
"""Number of a calibration's first read: those of an evaluation count from 0, those of a training from 1,000,000."""


@dataclass(frozen=True)
class Calibration:
    """The corrections of one chip at one time."""

    corrections: Mapping[str, Correction]
    """By layer; layers whose directions are not worth their parameters have none."""
    explained: float
    """Share of the layers' output energy that the corrections change, the mean over the layers."""
    seconds: float
    """Duration of the calibration, without that of the directions, which serve all chips and times."""

    @property
    def parameters(self) -> int:
        """Numbers in all corrections."""
        return sum(one.parameters for one in self.corrections.values())

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of each correction."""
        return {name: one.rank for name, one in self.corrections.items()}

    @contextmanager
    def applied(self, model: AnalogModel) -> Iterator[None]:
        """Correct the products of the layers inside the block."""
        with ExitStack() as hooks:
            for name, correction in self.corrections.items():
                handle = model.layers[name].register_forward_hook(
                    lambda _, inputs, output, own=correction: output + own.of(inputs[0]).to(output.dtype)
                )
                hooks.callback(handle.remove)
            yield


class Recalibrator:
    """Calibrates chips with a model on them.

    Args:
        model: the model, with its processor and input ranges.
        settings: size of the corrections, tokens and reads.

    Raises:
        DataError, HubError: the training data cannot be read.
    """

    def __init__(self, model: AnalogModel, settings: Recalibration) -> None:
        self.model = model
        self.settings = settings
        self.batches = batches_with_tokens(model.loaded, settings.tokens)
        self._newest: tuple[list[str], dict[str, Tensor]] | None = None
        """The newest inputs after the names of their layers."""

    @property
    def sequences(self) -> int:
        """Number of the training sequences that are read."""
        return sum(len(next(iter(batch.values()))) for batch in self.batches)

    def calibrate(self, seed: int, seconds: float) -> Calibration:
        """Measure a chip at a time, and correct its layers; the chip's state is taken from the layers afterwards.

        Args:
            seed: seed of the chip.
            seconds: time after programming.
        """
        directions, started = self.directions, time.monotonic()
        fits: dict[str, ErrorFit] = {}
        for names in self._parts:
            inputs = self._inputs(names)
            part = {name: ErrorFit(directions[name], self.model.layers[name]) for name in names if name in directions}
            self._read(part, inputs, seed, seconds)
            fits |= part
        gains = {name: fit.gain_K() for name, fit in fits.items()}
        chosen = _chosen(gains, self.model.layers, self.settings.rank)
        corrections = {name: fits[name].correction(indices) for name, indices in chosen.items()}
        explained = sum(float(gains[name][indices].sum()) for name, indices in chosen.items()) / max(len(fits), 1)
        return Calibration(corrections, explained, time.monotonic() - started)

    def _read(self, fits: Mapping[str, ErrorFit], inputs: Mapping[str, Tensor], seed: int, seconds: float) -> None:
        """Read some layers of a chip at a time, as often as the settings say."""
        part = replace(self.model, layers={name: fit.layer for name, fit in fits.items()})
        chip = part.program(seed)
        for read in range(FIRST_READ, FIRST_READ + self.settings.reads):
            with part.on_chip(chip, seconds, read):
                for name, fit in fits.items():
                    # By layer, so that the noise does not depend on the parts.
                    with seeded_globally("output noise", f"chip {seed} at {seconds:.17g} s read {read}", name):
                        fit.add_read(inputs[name])

    @cached_property
    def directions(self) -> dict[str, Directions]:
        """Candidate directions by layer; none for a layer that sees too few inputs."""
        found: dict[str, Directions] = {}
        for names in self._parts:
            for name, x in self._inputs(names).items():
                layer = self.model.layers[name]
                found[name] = principal_directions(layer, x, self._candidates(layer))
        return {name: one for name, one in found.items() if len(one.energy_K)}

    @cached_property
    def _parts(self) -> list[list[str]]:
        """Names of the layers, in groups whose inputs fit the workspace together."""
        tokens = self.settings.tokens  # The last sequence may bring a few more.
        return in_groups(
            {name: tokens * one.in_features * one.weight.element_size() for name, one in self.model.layers.items()}
        )

    def _inputs(self, names: list[str]) -> dict[str, Tensor]:
        """Inputs of some layers without padding, (T, I) by name; the newest are kept."""
        if self._newest is None or self._newest[0] != names:
            self._newest = None  # Both would not fit.
            self._newest = names, stored_inputs(self.model, names, self.batches)
        return self._newest[1]

    def _candidates(self, layer: AnalogLinear) -> int:
        return min(CANDIDATES * self.settings.rank, layer.in_features, layer.out_features)


def _chosen(gains: Mapping[str, Tensor], layers: Mapping[str, AnalogLinear], rank: int) -> dict[str, list[int]]:
    """The directions of each layer that gain most for their parameters, with as many parameters as `rank` in each has.

    Args:
        gains: (K,) by layer.
        layers: all layers on tiles.
        rank: number of directions if all layers had as many.
    """
    cost = {name: layer.in_features + layer.out_features for name, layer in layers.items()}
    candidates = [
        (gain / cost[name], name, index)
        for name, gain_K in gains.items()
        for index, gain in enumerate(gain_K.tolist())
        if gain > 0
    ]
    left, chosen = rank * sum(cost.values()), {name: list[int]() for name in gains}
    for _, name, index in sorted(candidates, key=lambda one: (-one[0], one[1:])):
        if cost[name] <= left:
            left -= cost[name]
            chosen[name].append(index)
    return {name: sorted(indices) for name, indices in chosen.items() if indices}
