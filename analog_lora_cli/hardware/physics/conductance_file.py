"""Analog layers as conductances in files: written by `analora export --format conductances`, read back here.

A folder holds

    conductances.json         devices of a cell, tiles of each layer, hardware
    conductances.safetensors  targets that the devices are to be programmed to
    chip.safetensors          only for one chip at one time: conductances of its devices, and drift-compensation factors

Every tile has tensors of its own, called `LAYER/ROW.COLUMN/WHAT`, ROW counting the layer's tiles along its inputs and
COLUMN along its outputs:

    g_plus, g_minus       (word lines, bit lines) = (inputs, outputs) of the tile, in uS. With several pairs a cell
                          `g_plus_0`, `g_minus_0`, `g_plus_1`, ..., lowest significance first; with a single device
                          `g`. `cell.devices` in the JSON lists them.
    rounding              (word lines, bit lines), in uS: remainder of a cell's conductances in float32, which makes
                          the weights bit-identical. Below 1e-6 of g_max: nothing that one could program
    reference             (word lines, reference columns), in uS, only where tiles have reference columns
    column_scale          (bit lines,), in the unit of the layer's weight: factor of the ADC's result
    compensation          (bit lines,), without unit, only in chip.safetensors: the drift-compensation factor
    adc_gain, adc_offset  (bit lines,), only in chip.safetensors, and only on hardware with dead columns or mismatch:
                          factor of the product at the ADC, 0 for a dead column, and addend in tile units

and `LAYER/bias` is (outputs,), digital; `LAYER/input_range` is (rows of tiles,), in the unit of the layer's inputs,
unless `hardware.input_range` is `dynamic`. In tile units a cell holds

    pairs:   w = (sum_k significance_k (g_plus_k - g_minus_k) + rounding) / scale
    single:  w = offset + (g + rounding - g_min) / scale, or with reference columns
             w = (g - mean(reference) + rounding) / scale

with `scale` (uS for each unit) and `offset` of the tile in the JSON. A weight of the layer is w times its column's
scale. `AnalogLinear` says how tiles compute.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import AnaloraError, CheckpointError
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.conductance_map import (
    FORMAT,
    MAP,
    VERSION,
    CellEntry,
    ChipEntry,
    ConductanceMap,
    LayerEntry,
    read_map,
)
from analog_lora_cli.hardware.physics.conductance_tensors import (
    adc_columns,
    adc_tensors,
    column_tensors,
    columns_of_tiles,
    device_tensors,
    scale_of_weights,
    tile_units,
)
from analog_lora_cli.hardware.physics.conductances import (
    TileConductances,
    significance_of,
    target_conductances,
    with_references,
)
from analog_lora_cli.hardware.physics.devices import noise_model
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.mapping import tile_weights
from analog_lora_cli.hardware.tile.rotation import input_rotation
from analog_lora_cli.hardware.tile.state import TileState

if TYPE_CHECKING:
    from aihwkit.inference.converter.base import BaseConductanceConverter

TARGETS = "conductances.safetensors"
CHIP = "chip.safetensors"


@dataclass(frozen=True)
class ChipMoment:
    """One chip at one time."""

    chip: Chip
    seconds: float
    """Time after programming, in seconds."""


def write_layers(
    folder: Path, layers: dict[str, AnalogLinear], hardware: HardwareConfig, moment: ChipMoment | None = None
) -> None:
    """Write layers as conductances; see the module's text for the files.

    Args:
        folder: an existing folder.
        layers: analog layers by name.
        hardware: hardware of the layers.
        moment: chip and time to write the conductances of, too.

    Raises:
        AnaloraError: a tile has no conductances on this hardware.
    """
    from safetensors.torch import save_file

    converter, references = noise_model(hardware).g_converter, hardware.references
    cell = _cell_entry(converter, references)
    targets: dict[str, Tensor] = {}
    aged: dict[str, Tensor] = {}
    entries: list[LayerEntry] = []
    if moment is not None:
        moment.chip.age(moment.seconds)
    for name, layer in layers.items():
        tiles = []
        for _, weight in tile_weights(layer, torch.float64):
            tile = target_conductances(converter, with_references(weight.cpu(), references))
            tiles.append(replace(tile, weight=weight.cpu()))
        entry = _layer_entry(name, layer, tiles)
        entries.append(entry)
        targets |= device_tensors(entry, tiles, cell)
        targets |= column_tensors(entry, "column_scale", layer.column_scale)
        if layer.bias is not None:
            targets[f"{name}/bias"] = layer.bias.detach().cpu()
        if layer.input_range is not None:
            targets[f"{name}/input_range"] = layer.input_range.detach().abs().cpu()
        if moment is not None:
            aged |= device_tensors(entry, moment.chip.conductances(name, moment.seconds), cell)
            assert layer.state is not None
            aged |= column_tensors(entry, "compensation", layer.state.compensation)
            aged |= adc_tensors(entry, moment.chip)
    not_finite = [key for key, tensor in (targets | aged).items() if not torch.isfinite(tensor).all()]
    if not_finite:
        raise AnaloraError(
            f"{not_finite[0]}: not finite: device {hardware.device} with converter {hardware.converter_name} has no "
            "conductances for this tile"
        )
    content = ConductanceMap(
        format=FORMAT,
        version=VERSION,
        unit="uS",
        axes=["word line (input)", "bit line (output)"],
        cell=cell,
        chip=None if moment is None else ChipEntry(seed=moment.chip.seed, seconds=moment.seconds),
        hardware=hardware.model_dump(mode="json"),
        layers=entries,
    )
    (folder / MAP).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    save_file({key: tensor.contiguous() for key, tensor in targets.items()}, str(folder / TARGETS))
    if moment is not None:
        save_file({key: tensor.contiguous() for key, tensor in aged.items()}, str(folder / CHIP))


def read_layers(folder: Path, output_noise: float | None = None) -> dict[str, AnalogLinear]:
    """Build analog layers from conductances.

    Their weights are the targets. If the folder holds a chip, the layers have its state: the weights that its devices
    hold, and its drift-compensation factors.

    Args:
        folder: an export of the format `conductances`.
        output_noise: standard deviation of the noise before the ADC, in tile units; None: as in the file.

    Returns:
        the layers by name, in evaluation mode.

    Raises:
        CheckpointError: the folder is no such export, damaged, or of a later version.
    """
    content = read_map(folder)
    targets = _tensors(folder / TARGETS)
    try:
        aged = _tensors(folder / CHIP) if content["chip"] is not None else None
        # The kernels are a choice of the machine that wrote the file.
        hardware = HardwareConfig.model_validate({**content["hardware"], "kernels": "auto"})
        if output_noise is not None:
            hardware = hardware.model_copy(update={"output_noise": output_noise})
        return {
            entry["name"]: _read_layer(entry, content["cell"], hardware, targets, aged).eval()
            for entry in content["layers"]
        }
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{folder}: tensors and {MAP} do not fit together: {error}") from None


def _cell_entry(converter: BaseConductanceConverter, references: int) -> CellEntry:
    significance = significance_of(converter)
    if not significance:
        devices = ["g"]
    elif len(significance) == 1:
        devices = ["g_plus", "g_minus"]
    else:
        devices = [f"{sign}_{pair}" for pair in range(len(significance)) for sign in ("g_plus", "g_minus")]
    return CellEntry(
        devices=devices,
        significance=significance,
        g_min=float(converter.g_min),
        g_max=float(converter.g_max),
        reference_columns=references,
    )


def _layer_entry(name: str, layer: AnalogLinear, tiles: list[TileConductances]) -> LayerEntry:
    return {
        "name": name,
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.bias is not None,
        "tiles": [
            {
                "row": tile.row,
                "column": tile.column,
                "inputs": list(tile.inputs),
                "outputs": list(tile.outputs),
                "scale": conductances.scale,
                "offset": conductances.offset,
            }
            for tile, conductances in zip(layer.grid, tiles, strict=True)
        ],
    }


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except Exception as error:  # safetensors has an error of its own.
        raise CheckpointError(f"{path}: cannot be read: {error}") from None


def _read_layer(
    entry: LayerEntry,
    cell: CellEntry,
    hardware: HardwareConfig,
    targets: dict[str, Tensor],
    aged: dict[str, Tensor] | None,
) -> AnalogLinear:
    scales = columns_of_tiles(entry, "column_scale", targets)
    bias = targets[f"{entry['name']}/bias"] if entry["bias"] else None
    # The product before it is rounded: the weight was divided by its scale in double precision.
    weight = (tile_units(entry, cell, targets) * scale_of_weights(entry, scales.double())).float()
    rotation = input_rotation(hardware, entry["name"], entry["in_features"])
    layer = AnalogLinear(weight, bias, hardware, entry["name"], rotation=rotation)
    if hardware.input_range != "dynamic":
        layer.set_input_range(targets[f"{entry['name']}/input_range"])
    if aged is not None:
        # As a chip computes it: rounded, then multiplied.
        held = tile_units(entry, cell, aged).float()
        gain, offset = (adc_columns(entry, kind, aged) for kind in ("adc_gain", "adc_offset"))
        if gain is not None:
            held *= scale_of_weights(entry, gain)
        weight = held * scale_of_weights(entry, scales)
        layer.state = TileState(weight, columns_of_tiles(entry, "compensation", aged), offset)
    return layer
