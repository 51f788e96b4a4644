"""The order of the training samples: a function of seed and epoch, the same for any number of processes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from analog_lora_cli.config.schema import Config
from analog_lora_cli.runtime import processes

MEGA_BATCHES = 50
"""Batches that are shuffled together before they are sorted by length."""


class EpochSampler(Sampler[int]):
    """Indices of one epoch after another.

    transformers' own length-grouped sampler draws from torch's global generator, so that a resumed run sees another
    order, and groups by the batch of one process, so that the order depends on their number. This one depends on
    (seed, epoch) alone and groups by the samples of one optimizer step.

    Args:
        lengths: tokens of each sample.
        strategy: `random`, `sequential` or `group_by_length`.
        step_samples: samples of one optimizer step, over all processes and accumulated batches.
        seed: the run's seed.
    """

    def __init__(self, lengths: list[int], strategy: str, step_samples: int, seed: int) -> None:
        self.lengths = lengths
        self.strategy = strategy
        self.step_samples = step_samples
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch from the next iteration on."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.strategy == "sequential":
            return iter(range(len(self.lengths)))
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        if self.strategy == "group_by_length":
            order = self._grouped(order, generator)
        return iter(order)

    def _grouped(self, order: list[int], generator: torch.Generator) -> list[int]:
        size = self.step_samples
        batches: list[list[int]] = []
        for start in range(0, len(order), MEGA_BATCHES * size):
            part = sorted(order[start : start + MEGA_BATCHES * size], key=lambda index: -self.lengths[index])
            batches.extend(part[i : i + size] for i in range(0, len(part), size))
        # An incomplete batch stays at the end, or all the following steps would be cut differently.
        last = [batches.pop()] if batches and len(batches[-1]) < size else []
        shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        return [index for batch in [*shuffled, *last] for index in batch]


def planned_steps(config: Config, samples: int) -> int:
    """Optimizer steps of a run, as the Trainer counts them.

    Args:
        config: the configuration.
        samples: training features.
    """
    if config.train.max_steps > 0:
        return config.train.max_steps
    batches = math.ceil(samples / (config.train.per_device_train_batch_size * processes.world_size()))
    per_epoch = max(batches // config.train.gradient_accumulation_steps, 1)
    if batches % config.train.gradient_accumulation_steps and batches > config.train.gradient_accumulation_steps:
        per_epoch += 1
    return math.ceil(config.train.num_train_epochs * per_epoch)
