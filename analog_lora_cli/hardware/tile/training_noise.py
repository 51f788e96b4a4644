"""The random numbers of training: one draw of weight noise per forward pass, reproducible from seed and step."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: object) -> int:
    """A 63-bit seed that depends on every part and on nothing else."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class TrainingNoise:
    """The clock that all tiles of a model draw their training noise from.

    The weight noise of a layer is a function of (seed, step, forward pass of the step, layer): the same on every
    rank, because all ranks simulate one chip, the same when a run resumes, and the same when gradient checkpointing
    computes a layer again. The output noise also depends on the rank, because ranks see different samples.

    Args:
        seed: the run's seed.
        rank: of this process among those that train together.
    """

    def __init__(self, seed: int, rank: int = 0) -> None:
        self.seed = seed
        self.rank = rank
        self.step = 0
        self.forward_pass = 0
        self.strength = 1.0
        """Multiplies the weight noise; a schedule may change it from step to step."""

    def begin_step(self, step: int) -> None:
        """Start an optimizer step."""
        self.step = step
        self.forward_pass = 0

    def begin_forward(self) -> None:
        """Start a forward pass of the whole model."""
        self.forward_pass += 1

    def weight_seed(self, layer: str) -> int:
        """The seed of a layer's weight noise in this forward pass."""
        return derive_seed(self.seed, self.step, self.forward_pass, "weight", layer)

    def output_seed(self, layer: str) -> int:
        """The seed of a layer's output noise in this forward pass, on this rank."""
        return derive_seed(self.seed, self.step, self.forward_pass, "output", layer, self.rank)
