"""What the last bits of a training depend on besides its configuration and seed."""

from __future__ import annotations

from typing import Any

import torch

from analog_lora_cli.runtime import processes


def arithmetic() -> dict[str, Any]:
    """For the manifest: with what a result was computed, and how far the same seed gives it again.

    Sums of products are cut into pieces, by threads, by vector width and by processes; each way of cutting rounds
    differently. What is drawn at random depends on none of this but on the processes, see `TrainingNoise`.
    """
    cuda = torch.cuda.is_available()
    fixed = torch.are_deterministic_algorithms_enabled()
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": processes.world_size(),
        "deterministic_algorithms": fixed,
    }
    if cuda and not fixed:
        found["same_seed_gives"] = "results equal up to rounding: a GPU adds in no fixed order"
    else:
        found["same_seed_gives"] = (
            "the same bits with the same data, packages, device, instructions, threads and processes; "
            "results equal up to rounding where one of these differs"
        )
    return found
