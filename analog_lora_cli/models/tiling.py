"""Models on tiles: linear layers replaced by analog ones, which compute with exact weights or those of a chip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import CheckpointError
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.gaussian import gaussian_state
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.mapping import Clipping, clip_weight_
from analog_lora_cli.hardware.tile.rotation import input_rotation
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise
from analog_lora_cli.models.fingerprints import tensor_sha256
from analog_lora_cli.models.loaded import LoadedModel
from analog_lora_cli.models.modules import module_facts, weight_modules
from analog_lora_cli.models.placement import Placement, decide, placement_of


@dataclass(frozen=True)
class AnalogModel:
    """A model with layers on tiles. They compute with exact weights, unless a chip sets their state."""

    loaded: LoadedModel
    """The model itself; its module contains `layers`."""
    hardware: HardwareConfig
    layers: Mapping[str, AnalogLinear]
    """The layers on tiles by their name in the plain model; never empty."""
    placement: Placement
    mapped: Mapping[str, str]
    """sha256 of the weights that were put onto the tiles, by the layer's name."""
    noise: TrainingNoise | None = None
    """Training noise of all layers; None: no noise in training."""

    @contextmanager
    def digital(self) -> Iterator[None]:
        """Compute all layers digitally inside the block, with the same weights."""
        before = {name: layer.analog for name, layer in self.layers.items()}
        for layer in self.layers.values():
            layer.analog = False
        try:
            yield
        finally:
            for name, layer in self.layers.items():
                layer.analog = before[name]

    @contextmanager
    def on_chip(self, chip: Chip, seconds: float, read: int = 0) -> Iterator[None]:
        """Set the layers to the state of a chip at a time, inside the block.

        Args:
            chip: result of `program`.
            seconds: time after programming, in seconds.
            read: number of the reading; another number draws other read noise.
        """
        before = {name: layer.state for name, layer in self.layers.items()}
        try:
            chip.age(seconds, read)
            yield
        finally:
            for name, layer in self.layers.items():
                layer.state = before[name]

    @contextmanager
    def with_gaussian_noise(self, seed: int, level: float) -> Iterator[None]:
        """Add static Gaussian noise to the weights on tiles, inside the block.

        Args:
            seed: seed of the draw.
            level: standard deviation, relative to the largest weight of each column.
        """
        before = {name: layer.state for name, layer in self.layers.items()}
        try:
            for name, layer in self.layers.items():
                layer.state = gaussian_state(seed, level, name, layer)
            yield
        finally:
            for name, layer in self.layers.items():
                layer.state = before[name]

    def program(self, seed: int) -> Chip:
        """A chip with this model's layers on it; valid until their weights change."""
        return Chip(seed, self.layers, self.hardware)

    def input_ranges(self) -> dict[str, Tensor]:
        """The ranges of the inputs, (rows of tiles,) by layer, on the CPU; empty with `input_range: dynamic`."""
        ranges = {name: layer.input_range for name, layer in self.layers.items()}
        return {name: one.detach().abs().cpu() for name, one in ranges.items() if one is not None}

    def analog_sha256(self) -> dict[str, str]:
        """sha256 of the present weights of each layer on tiles, by the layer's name."""
        return {name: tensor_sha256(self.layers[name].weight) for name in sorted(self.layers)}


def put_on_tiles(loaded: LoadedModel, hardware: HardwareConfig, noise: TrainingNoise | None = None) -> AnalogModel:
    """Replace linear layers, or the `base_layer` of adapted ones, by analog layers; clips their weights once.

    The analog layers take over the tensors of the linear ones, one layer at a time, and clip them in place: a second
    copy of a large model would not fit beside the first.

    Args:
        loaded: the model; its layers are replaced and their weights clipped, so that it must not be used without the
            result any more.
        hardware: tiles, converters, and layers to map.
        noise: training noise of all layers; None: no noise in training.

    Raises:
        UsageError: no layer can be mapped, or a pattern of `hardware.layers` matches nothing.
        CheckpointError: the weights on tiles are not those that the checkpoint's chip was programmed with.
    """
    layers, placement = replace_linear_layers(
        loaded.plain, loaded.digital_heads, hardware, noise, loaded.programmed.only
    )
    mapped = {name: tensor_sha256(layers[name].weight) for name in sorted(layers)}
    for name, expected in loaded.programmed.sha256.items():
        if name in mapped and mapped[name] != expected:
            raise CheckpointError(
                f"{name}: the weights on tiles are not those of the training (sha256 {mapped[name][:12]}..., the "
                f"manifest says {expected[:12]}...); the base model or this tool has changed, train again"
            )
    return AnalogModel(loaded, hardware, layers, placement, mapped, noise)


def replace_linear_layers(
    model: nn.Module,
    heads: Mapping[str, str],
    hardware: HardwareConfig,
    noise: TrainingNoise | None,
    only: frozenset[str] | None = None,
) -> tuple[dict[str, AnalogLinear], Placement]:
    """Replace layers of any plain model by analog ones, see `put_on_tiles`.

    Args:
        model: the plain model (inside a PEFT model: its base model).
        heads: reasons why modules of the head stay digital, by name; empty: none does.
        hardware: tiles, converters, and layers to map.
        noise: training noise of all layers; None: no noise in training.
        only: names of the layers that were programmed; others stay digital. None: no limit.

    Returns:
        the analog layers by their name in the plain model, and the table of all layers.

    Raises:
        UsageError: no layer can be mapped, or a pattern of `hardware.layers` matches nothing.
    """
    layers: dict[str, AnalogLinear] = {}
    clippings: dict[str, Clipping] = {}
    facts = module_facts(model)
    reasons = decide(facts, heads, hardware, only)
    # A list, because the walk goes through the modules that are replaced.
    for item in list(weight_modules(model)):
        if not reasons[item.name] and isinstance(item.module, nn.Linear):
            layer, clippings[item.name] = _analog_layer(item.module, hardware, item.name, noise)
            item.replace(layer)
            layers[item.name] = layer
    return layers, placement_of(facts, reasons, hardware, clippings)


@torch.no_grad()
def clip_in_place(layers: Mapping[str, AnalogLinear]) -> None:
    """Clip the weights of trained layers again, in the present tile units, and take new column scales from them."""
    for layer in layers.values():
        hardware = layer.hardware
        clip_weight_(layer.weight, layer.grid, hardware.clip_sigma, hardware.clip_scope, layer.column_scale)
        layer.refresh_scales()


def _analog_layer(
    linear: nn.Linear, hardware: HardwareConfig, name: str, noise: TrainingNoise | None
) -> tuple[AnalogLinear, Clipping]:
    from analog_lora_cli.hardware.physics.aihwkit_tiles import AihwkitLinear

    weight = linear.weight.detach()
    grid = TileGrid.of(weight.shape[0], weight.shape[1], hardware)
    rotation = input_rotation(hardware, name, weight.shape[1])
    if rotation is not None:
        weight.copy_(rotation.of_weight(weight))
    clipping = clip_weight_(weight, grid, hardware.clip_sigma, hardware.clip_scope)
    bias = None if linear.bias is None else linear.bias.detach()
    build = AnalogLinear if hardware.simulator == "fast" else AihwkitLinear
    layer = build(weight, bias, hardware, name, noise, rotation)
    layer.train(linear.training)
    return layer, clipping
