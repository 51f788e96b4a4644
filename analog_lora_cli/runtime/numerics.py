"""Numerics of a run: all that the last bits of a result depend on besides its configuration and seed."""

from __future__ import annotations

import torch

from analog_lora_cli.runtime.ranks import world_size


def numerics() -> dict[str, str | int]:
    """Numerics for the manifest: device, threads and processes of a result, and how far the same seed reproduces it.

    Sums of products are cut into pieces, by threads, by vector width and by processes; each way of cutting rounds
    differently. Random draws depend on none of this but on the processes, see `TrainingNoise`.
    """
    cuda = torch.cuda.is_available()
    deterministic = torch.are_deterministic_algorithms_enabled()
    if cuda and not deterministic:
        same_seed = "results equal up to rounding: a GPU adds in no fixed order"
    else:
        same_seed = (
            "bit-identical results with the same data, packages, device, instructions, threads and processes; "
            "results equal up to rounding where one of these differs"
        )
    return {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "deterministic_algorithms": deterministic,
        "same_seed_gives": same_seed,
    }
