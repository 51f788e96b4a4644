"""The noise of training: draws of weight noise that forward passes share, reproducible from seed and step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.seeds import derive_seed

NoiseScope = Literal["forward", "step"]


@dataclass(frozen=True)
class NoiseDraw:
    """One draw of the weight noise of a whole model: a statistical chip."""

    step: int
    """Optimizer step."""
    number: int
    """Forward pass of the step that the draw belongs to; 0: the draw of the whole step."""
    strength: float
    """Multiplies `hardware.weight_noise_size`."""


@dataclass(frozen=True)
class LayerNoise:
    """Noise of one layer in one forward pass; enough to compute the same weights once more."""

    strength: float = 0.0
    """Standard deviation of the weight noise, relative to the column scale, or to that of the device where the layer's
    state has moments; 0: none."""
    weight_seed: int = 0
    output_seed: int | None = None
    """Seed of the noise before the ADC; None: torch's default generator decides."""


NO_NOISE = LayerNoise()
"""That of a layer in evaluation."""


@dataclass(frozen=True)
class Moment:
    """A moment of a training between two calls of layers."""

    step: int
    forward_pass: int
    strength: float
    rollout: NoiseDraw | None
    calls: Mapping[str, int]
    """Calls of each layer in the forward pass so far."""


class TrainingNoise:
    """Source of the training noise of all layers of a model, which counts steps and forward passes.

    The weight noise of a layer is a function of (seed, step, forward pass of the step, layer): the same on every
    rank, because all ranks simulate one chip, the same when a run resumes, and the same when gradient checkpointing
    computes a layer again. The output noise also depends on the rank, because ranks see different samples, and on the
    call, where a forward pass calls a layer more than once: its chip is the same then, its products are not.

    A backward pass uses the draw of its own forward pass, whatever forward passes came between. Gradient checkpointing,
    which computes layers again in the backward pass, does so with `checkpoint_contexts` as torch's `context_fn`.

    Args:
        seed: seed of the training.
        rank: rank of this process among those that train together.
        scope: `forward`: each forward pass of the whole model draws new weight noise; `step`: all forward passes of
            an optimizer step share one draw.
    """

    def __init__(self, seed: int, rank: int = 0, scope: NoiseScope = "forward") -> None:
        self.seed = seed
        self.rank = rank
        self.scope = scope
        self.step = 0
        self.forward_pass = 0
        self.strength = 1.0
        """Multiplies the weight noise; a schedule may change it from step to step."""
        self._rollout: NoiseDraw | None = None
        self._calls: Counter[str] = Counter()
        """Calls of each layer in the present forward pass."""

    def begin_step(self, step: int) -> None:
        """Start an optimizer step."""
        self.step = step
        self.forward_pass = 0
        self._calls.clear()

    def begin_forward(self) -> None:
        """Start a forward pass of the whole model."""
        self.forward_pass += 1
        self._calls.clear()

    @property
    def draw(self) -> NoiseDraw:
        """The draw of weight noise that a forward pass sees now."""
        number = self.forward_pass if self.scope == "forward" else 0
        return self._rollout or NoiseDraw(self.step, number, self.strength)

    @contextmanager
    def rollout(self, draw: NoiseDraw | None = None) -> Iterator[NoiseDraw]:
        """Let all forward passes inside see one draw of weight noise, in evaluation mode too.

        A generated sequence and its scores then come from one statistical chip. The output noise stays new in each
        forward pass.

        Args:
            draw: draw of an earlier rollout, to score what it generated; None: a new one.

        Yields:
            the draw.
        """
        if draw is None:
            self.begin_forward()
            draw = self.draw
        before, self._rollout = self._rollout, draw
        try:
            yield draw
        finally:
            self._rollout = before

    def checkpoint_contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """The contexts of a checkpointed block: `context_fn` of `torch.utils.checkpoint.checkpoint`.

        The second one, for the recomputation, brings back the moment of the first computation.
        """
        return nullcontext(), _Recall(self)

    @property
    def moment(self) -> Moment:
        """All that the noise depends on besides seed and rank; may be set to an earlier value."""
        return Moment(self.step, self.forward_pass, self.strength, self._rollout, self._calls.copy())

    @moment.setter
    def moment(self, moment: Moment) -> None:
        self.step, self.forward_pass, self.strength = moment.step, moment.forward_pass, moment.strength
        self._rollout, self._calls = moment.rollout, Counter(moment.calls)

    def of_layer(self, name: str, hardware: HardwareConfig, training: bool) -> LayerNoise:
        """The noise of a layer in its next call in the present forward pass; counts the call.

        Args:
            name: name of the layer.
            hardware: hardware of the layer.
            training: whether the layer is in training mode; if not, it has weight noise in rollouts only.
        """
        if not (training or self._rollout):
            return NO_NOISE
        draw, output_seed = self.draw, None
        if training:
            # The first call has no number.
            call = [self._calls[name]] if name in self._calls else []
            output_seed = derive_seed(self.seed, self.step, self.forward_pass, "output", name, self.rank, *call)
            self._calls[name] += 1
        weights = self.of_weights(draw, name, hardware)
        return LayerNoise(weights.strength, weights.weight_seed, output_seed)

    def of_weights(self, draw: NoiseDraw, name: str, hardware: HardwareConfig) -> LayerNoise:
        """The noise of a layer's weights in a draw, without that of its outputs; counts no call.

        Args:
            draw: the draw.
            name: name of the layer.
            hardware: hardware of the layer.
        """
        if not hardware.weight_noise_size:
            return NO_NOISE
        seed = derive_seed(self.seed, draw.step, draw.number, "weight", name)
        return LayerNoise(hardware.weight_noise_size * draw.strength, seed)


class _Recall(AbstractContextManager[None]):
    """Brings back the moment of its creation, as often as it is entered: once for each backward pass.

    Args:
        noise: noise of the model.
    """

    def __init__(self, noise: TrainingNoise) -> None:
        self.noise = noise
        self.moment = self.before = noise.moment

    def __enter__(self) -> None:
        self.before, self.noise.moment = self.noise.moment, self.moment

    def __exit__(self, *error: object) -> None:
        self.noise.moment = self.before
