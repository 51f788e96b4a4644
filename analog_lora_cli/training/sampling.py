"""The order of the training samples: a function of seed and epoch, the same for any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch.utils.data import RandomSampler, Sampler, SequentialSampler
from transformers.trainer_pt_utils import LengthGroupedSampler

if TYPE_CHECKING:
    from transformers import TrainingArguments

MEGA_BATCHES = 50
"""Batches that are shuffled together before they are sorted by length."""


class EpochSampler(Sampler[int]):
    """Indices of one epoch after another.

    transformers' own length-grouped sampler draws from torch's global generator, so that a resumed run sees another
    order, and groups by the batch of one process, so that the order depends on their number. This one depends on
    (seed, epoch) alone and groups by the samples of one optimizer step.

    Args:
        samples: size of the data set.
        strategy: `random`, `sequential` or `group_by_length`.
        step_samples: samples of one optimizer step, over all processes and accumulated batches.
        seed: the run's seed.
        lengths: tokens of each sample; `group_by_length` needs them.
    """

    def __init__(
        self, samples: int, strategy: str, step_samples: int, seed: int, lengths: Sequence[int] | None = None
    ) -> None:
        self.samples = samples
        self.strategy = strategy
        self.step_samples = step_samples
        self.seed = seed
        self.lengths = lengths
        self.epoch = 0

    def __len__(self) -> int:
        return self.samples

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch from the next iteration on."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.strategy == "sequential":
            return iter(range(self.samples))
        generator = torch.Generator().manual_seed(_epoch_seed(self.seed, self.epoch))
        order = torch.randperm(self.samples, generator=generator).tolist()
        if self.strategy == "group_by_length":
            assert self.lengths is not None
            order = self._grouped(order, self.lengths, generator)
        return iter(order)

    def _grouped(self, order: list[int], lengths: Sequence[int], generator: torch.Generator) -> list[int]:
        size = self.step_samples
        batches: list[list[int]] = []
        for start in range(0, len(order), MEGA_BATCHES * size):
            part = sorted(order[start : start + MEGA_BATCHES * size], key=lambda index: -lengths[index])
            batches.extend(part[i : i + size] for i in range(0, len(part), size))
        # An incomplete batch stays at the end, or all the following steps would be cut differently.
        last = [batches.pop()] if batches and len(batches[-1]) < size else []
        shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        return [index for batch in [*shuffled, *last] for index in batch]


def samples_per_step(args: TrainingArguments) -> int:
    """Samples of one optimizer step, over all processes and accumulated batches."""
    return int(args.train_batch_size * args.gradient_accumulation_steps * args.world_size)


def reproducible(sampler: Sampler[int] | None, args: TrainingArguments) -> Sampler[int] | None:
    """Put an `EpochSampler` in the place of transformers' own samplers; leave those of other trainers.

    Args:
        sampler: sampler of a trainer; None for data without a length.
        args: strategy, batches and seed.
    """
    if not isinstance(sampler, RandomSampler | SequentialSampler | LengthGroupedSampler):
        return sampler
    lengths = getattr(sampler, "lengths", None)
    return EpochSampler(
        samples=len(sampler),
        strategy=args.train_sampling_strategy,
        step_samples=samples_per_step(args),
        seed=_seed(args),
        lengths=None if lengths is None else list(lengths),
    )


def begin_epoch(sampler: Sampler[int], epoch: int, args: TrainingArguments) -> None:
    """Make the order of a sampler that of an epoch, whatever was drawn from it before.

    Samplers without `set_epoch` draw one epoch after another from a generator, so that a resumed run would begin with
    the first epoch's order again: the generator is seeded for the epoch, with the run's seed in the first one.
    """
    generator = getattr(sampler, "generator", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    elif isinstance(generator, torch.Generator):
        generator.manual_seed(_epoch_seed(_seed(args), epoch))


def _seed(args: TrainingArguments) -> int:
    return int(args.seed if args.data_seed is None else args.data_seed)


def _epoch_seed(seed: int, epoch: int) -> int:
    return seed + 1_000_003 * epoch
