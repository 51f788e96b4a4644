"""The simulation table of `inspect-tiles`: memory and time that it takes here."""

from __future__ import annotations

import torch
from rich.table import Table

from analog_lora_cli.config.times import duration
from analog_lora_cli.hardware.tile.mapping import tile_dtype
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.inspection.simulation import CHIP_NS_PER_WEIGHT, model_dtype
from analog_lora_cli.runtime import console


def simulation_table(inspection: Inspection) -> Table:
    """Memory of the model and of a chip, and the time that a chip takes; without activations."""
    cost = inspection.simulation(inspection.placement.layers)
    dtype = model_dtype(inspection.config)
    on_tiles = _name(tile_dtype(dtype))
    table = console.table(
        "Simulation: memory, and time on one thread", "", "", "", left=1, show_header=False,
        caption=f"chip time: {CHIP_NS_PER_WEIGHT:g} ns a weight with the pcm device; no activations, no training",
    )  # fmt: skip
    table.columns[2].justify = "left"
    table.add_row("model", size(cost.weights), f"in {_name(dtype)} (model.dtype)")
    if cost.adapters:
        table.add_row("adapters", size(cost.adapters), "in float32")
    table.add_row("workspace", size(cost.workspace), f"the largest layer in {on_tiles}")
    table.add_row("chip", size(cost.chip), f"weights in {on_tiles}, once for all chips and times")
    table.add_row("chip time", duration(cost.chip_seconds), "to program a chip and age it to one time")
    return table


def size(number: int) -> str:
    """A number of bytes in three digits: `512 B`, `84 MB`, `16.1 GB`."""
    for unit, length in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= 0.9995 * length:  # So that 999,999 B is 1 MB, not 1000 kB.
            return f"{number / length:.3g} {unit}"
    return f"{number} B"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
