"""The weight noise of a rollout: one draw for all its forward passes, drawn once where that is faster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch

from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.effective_weights import EffectiveWeights
from analog_lora_cli.hardware.tile.state import TileState
from analog_lora_cli.hardware.tile.training_noise import NoiseDraw, TrainingNoise


class RolloutNoise:
    """Lets all forward passes of a rollout see one draw of the weight noise.

    A completion of a hundred tokens is a hundred forward passes, and on a CPU it takes longer to draw the noise of a
    matrix than to multiply a few tokens with it. So there the noisy weights are kept as long as the draw lasts, for as
    much memory as the weights on tiles take in float32. On a GPU the noise is drawn within the product, which takes
    about as long as to read a copy.

    Args:
        noise: noise of the layers.
        layers: the layers on tiles by name.
    """

    def __init__(self, noise: TrainingNoise, layers: Mapping[str, AnalogLinear]) -> None:
        self.noise = noise
        self.layers = layers
        self._kept: NoiseDraw | None = None
        """The draw of the weights that are kept; None: none are."""

    @contextmanager
    def of(self, draw: NoiseDraw) -> Iterator[None]:
        """Let the forward passes inside see a draw."""
        if self._kept != draw:
            self.release()
            self._keep(draw)
        # What is kept has its noise already.
        with self.noise.rollout(draw if self._kept is None else replace(draw, strength=0.0)):
            yield

    def release(self) -> None:
        """Return to the exact weights, if noisy ones are kept."""
        if self._kept is not None:
            for layer in self.layers.values():
                layer.state = None
        self._kept = None

    @torch.no_grad()
    def _keep(self, draw: NoiseDraw) -> None:
        if not all(map(_can_keep, self.layers.values())):
            return
        for name, layer in self.layers.items():
            own = self.noise.of_weights(draw, name, layer.hardware)
            weight = EffectiveWeights(layer, None, own, layer.input_scale).weight()
            layer.state = TileState(weight, torch.ones_like(layer.column_scale))
        self._kept = draw


def _can_keep(layer: AnalogLinear) -> bool:
    """Whether a layer's noisy weights can be kept: not if a chip has set its weights, or the optimizer changes them."""
    exact = layer.state is None and not layer.weight.requires_grad
    return exact and layer.weight.device.type == "cpu" and layer.hardware.weight_noise_type == "gaussian"
