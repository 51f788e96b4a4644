"""Running out of memory, explained by the keys that decide how much is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import AnaloraError


@contextmanager
def explaining_out_of_memory(config: Config) -> Iterator[None]:
    """Say what to do when the training in the block needs more memory than there is.

    Raises:
        AnaloraError: out of memory, on a GPU or on a CPU.
    """
    try:
        yield
    except RuntimeError as error:
        # On a CPU torch has no class of its own for it.
        if not isinstance(error, torch.OutOfMemoryError) and "not enough memory" not in str(error):
            raise
        size = f"train.per_device_train_batch_size {config.train.per_device_train_batch_size}"
        if config.task.longest is not None:
            size += f" and task.max_length {config.task.longest}"
        raise AnaloraError(
            f"out of memory with {size}: {str(error).splitlines()[0]}\n"
            "Halve the batch and double train.gradient_accumulation_steps: the result is the same. "
            "train.gradient_checkpointing=true saves more, for time"
        ) from None
