"""Copies of layers on tiles, beside a model that stays digital: what tiles would change is measured on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.calibration import LayerInputs
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.mapping import clip_weight_
from analog_lora_cli.hardware.tile.rotation import input_rotation
from analog_lora_cli.models.loaded import LoadedModel
from analog_lora_cli.models.modules import linear_modules, module_facts
from analog_lora_cli.models.placement import decide
from analog_lora_cli.models.training_inputs import Batch, layer_inputs
from analog_lora_cli.models.workspace import in_groups


def future_layers(loaded: LoadedModel, hardware: HardwareConfig) -> dict[str, nn.Linear]:
    """The layers that `put_on_tiles` would put on tiles, by name, digital as they are.

    Args:
        loaded: the model; not changed.
        hardware: layers to map.

    Raises:
        UsageError: no layer can be mapped, or a pattern of `hardware.layers` matches nothing.
    """
    reasons = decide(module_facts(loaded.plain), loaded.digital_heads, hardware, loaded.programmed.only)
    return {name: layer for name, layer in linear_modules(loaded.plain).items() if not reasons[name]}


def in_parts(layers: Mapping[str, nn.Linear], squares: bool) -> Iterator[dict[str, nn.Linear]]:
    """The layers in groups whose copies fit the workspace together; a larger one by itself.

    Args:
        layers: the layers by name.
        squares: whether matrices of inputs by inputs are needed too, in float64.
    """
    sizes = {}
    for name, layer in layers.items():
        inputs, outputs = layer.in_features, layer.out_features
        sizes[name] = 4 * 3 * inputs * outputs + (8 * inputs * (inputs + outputs) if squares else 0)
    for names in in_groups(sizes):
        yield {name: layers[name] for name in names}


def analog_copies(
    loaded: LoadedModel, layers: Mapping[str, nn.Linear], hardware: HardwareConfig, batches: Sequence[Batch]
) -> dict[str, AnalogLinear]:
    """Clipped copies of layers on tiles of this project, without bias; the layers stay as they are.

    Args:
        loaded: the model.
        layers: some of its linear layers, by name.
        hardware: tiles and converters.
        batches: training data that ranges of inputs are calibrated on, where the checkpoint has none.

    Raises:
        AnaloraError: the inputs of a layer are not finite.
    """
    copies = {}
    for name, layer in layers.items():
        rotation = input_rotation(hardware, name, layer.in_features)
        weight = layer.weight.detach().clone() if rotation is None else rotation.of_weight(layer.weight)
        grid = TileGrid.of(weight.shape[0], weight.shape[1], hardware)
        clip_weight_(weight, grid, hardware.clip_sigma, hardware.clip_scope)
        copies[name] = AnalogLinear(weight, None, hardware, name, rotation=rotation)
    if hardware.input_range != "dynamic":
        ranges = loaded.input_ranges
        if not ranges.keys() >= layers.keys():
            ranges = _calibrated(loaded, layers, copies, batches)
        for name, copy in copies.items():
            copy.set_input_range(ranges[name])
    return copies


def _calibrated(
    loaded: LoadedModel, layers: Mapping[str, nn.Linear], copies: Mapping[str, AnalogLinear], batches: Sequence[Batch]
) -> dict[str, Tensor]:
    inputs = {name: LayerInputs(copy.grid, copy.hardware) for name, copy in copies.items()}
    layer_inputs(loaded.module, layers, batches, lambda name, x: inputs[name].add(copies[name].at_tiles(x)))
    return {name: one.ranges() for name, one in inputs.items()}
