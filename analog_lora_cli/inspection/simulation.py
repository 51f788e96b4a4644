"""Memory and time that a simulation takes here: of the model on its tiles, and of each chip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from analog_lora_cli.config.schema import Config
from analog_lora_cli.hardware.tile.mapping import tile_dtype
from analog_lora_cli.models.placement import PlacedLayer

CHIP_NS_PER_WEIGHT = 13.0
"""Time in ns that one thread takes to program a weight and to age it to a time, on the default device with a pair of
conductances. Measured with 512-bit vectors: 10 to 14 on tiles of 512 rows, 15 on those of 288;
`python -m tests.benchmarks.chips` and `.big_models --chip` measure it."""
_DEVICES = 2
"""Devices of a weight there; the time grows with them."""


@dataclass(frozen=True)
class SimulationCost:
    """Memory in bytes and time in seconds; activations and what a training adds are not counted."""

    weights: int
    """Parameters of the base, in `model.dtype`."""
    adapters: int
    """Parameters of the adapters, in float32."""
    workspace: int
    """The largest layer on tiles in the type that tiles compute in: what placing, programming and a product need at a
    time beside the model."""
    chip: int
    """Programmed and aged weights of all layers on tiles, one copy however many chips and times are measured."""
    chip_seconds: float
    """Time to program a chip and age it to one time, on one thread."""


def simulation_cost(layers: Sequence[PlacedLayer], config: Config, devices_per_weight: int) -> SimulationCost:
    """What layers take in a simulation; those that stay digital take no tiles.

    Args:
        layers: some or all layers of a model.
        config: configuration with the type of the weights.
        devices_per_weight: devices of each weight on tiles.
    """
    dtype = model_dtype(config)
    on_tiles = [layer.shape[0] * layer.shape[1] for layer in layers if layer.analog]
    item = tile_dtype(dtype).itemsize
    return SimulationCost(
        weights=dtype.itemsize * sum(layer.parameters for layer in layers),
        adapters=torch.float32.itemsize * sum(layer.adapter_parameters for layer in layers),
        workspace=item * max(on_tiles, default=0),
        chip=item * sum(on_tiles),
        chip_seconds=1e-9 * CHIP_NS_PER_WEIGHT * devices_per_weight / _DEVICES * sum(on_tiles),
    )


def model_dtype(config: Config) -> torch.dtype:
    """Type that the weights of the base are kept in."""
    dtype = getattr(torch, config.model.dtype)
    assert isinstance(dtype, torch.dtype)
    return dtype
