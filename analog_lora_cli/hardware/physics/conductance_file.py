"""Analog layers as conductances in files: written by `analora export --format conductances`, read back here.

A folder holds

    conductances.json         what the tensors are, the tiles of each layer, the hardware
    conductances.safetensors  what the devices are to be programmed to
    chip.safetensors          only for one chip at one time: what its devices hold, and its drift-compensation factors

Every tile has tensors of its own, called `LAYER/ROW.COLUMN/WHAT`, ROW counting the layer's tiles along its inputs and
COLUMN along its outputs:

    g_plus, g_minus       (word lines, bit lines) = (inputs, outputs) of the tile, in uS. With several pairs a cell
                          `g_plus_0`, `g_minus_0`, `g_plus_1`, ..., lowest significance first; with a single device
                          `g`. `cell.devices` in the JSON lists them.
    rounding              (word lines, bit lines), in uS: what float32 leaves out of a cell's conductances, so that the
                          weights come back bit by bit. Below 1e-6 of g_max: nothing that one could program
    column_scale          (bit lines,), in the unit of the layer's weight: what the ADC's result is multiplied with
    compensation          (bit lines,), without unit, only in chip.safetensors: the drift-compensation factor

and `LAYER/bias` is (outputs,), digital. In tile units a cell holds

    pairs:   w = (sum_k significance_k (g_plus_k - g_minus_k) + rounding) / scale
    single:  w = offset + (g + rounding - g_min) / scale

with `scale` (uS for each unit) and `offset` of the tile in the JSON. A weight of the layer is w times its column's
scale. How tiles compute is said by `AnalogLinear`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import AnaloraError, CheckpointError
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.conductances import (
    TileConductances,
    cell_microsiemens,
    significance_of,
    target_conductances,
)
from analog_lora_cli.hardware.physics.devices import noise_model
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.mapping import tile_weights
from analog_lora_cli.hardware.tile.state import TileState

FORMAT = "analora-conductances"
VERSION = 1
MAP = "conductances.json"
TARGETS = "conductances.safetensors"
CHIP = "chip.safetensors"


@dataclass(frozen=True)
class ChipMoment:
    """One chip at one time."""

    chip: Chip
    seconds: float
    """After programming."""


def write_layers(
    folder: Path, layers: dict[str, AnalogLinear], hardware: HardwareConfig, moment: ChipMoment | None = None
) -> None:
    """Write layers as conductances; see the module's text for the files.

    Args:
        folder: an existing folder.
        layers: the analog layers, by name.
        hardware: theirs.
        moment: also write what this chip holds at this time.

    Raises:
        AnaloraError: a tile has no conductances on this hardware.
    """
    from safetensors.torch import save_file

    converter = noise_model(hardware).g_converter
    cell = _cell(converter)
    targets: dict[str, Tensor] = {}
    aged: dict[str, Tensor] = {}
    entries = []
    for name, layer in layers.items():
        programmed = [target_conductances(converter, weight) for _, weight in tile_weights(layer, torch.float64)]
        entries.append(_describe(name, layer, programmed))
        targets |= _device_tensors(entries[-1], programmed, cell)
        targets |= _column_tensors(entries[-1], "column_scale", layer.column_scale)
        if layer.bias is not None:
            targets[f"{name}/bias"] = layer.bias.detach().cpu()
        if moment is not None:
            aged |= _device_tensors(entries[-1], moment.chip.conductances(name, moment.seconds), cell)
            moment.chip.age(moment.seconds)
            assert layer.state is not None
            aged |= _column_tensors(entries[-1], "compensation", layer.state.compensation)
    broken = [key for key, tensor in (targets | aged).items() if not torch.isfinite(tensor).all()]
    if broken:
        raise AnaloraError(
            f"{broken[0]}: not finite: device {hardware.device} with converter {hardware.converter_name} has no "
            "conductances for this tile"
        )
    content = {
        "format": FORMAT,
        "version": VERSION,
        "unit": "uS",
        "axes": ["word line (input)", "bit line (output)"],
        "cell": cell,
        "chip": None if moment is None else {"seed": moment.chip.seed, "seconds": moment.seconds},
        "hardware": hardware.model_dump(mode="json"),
        "layers": entries,
    }
    (folder / MAP).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    save_file({key: tensor.contiguous() for key, tensor in targets.items()}, str(folder / TARGETS))
    if moment is not None:
        save_file({key: tensor.contiguous() for key, tensor in aged.items()}, str(folder / CHIP))


def read_layers(folder: Path, output_noise: float | None = None) -> dict[str, AnalogLinear]:
    """Build analog layers from conductances.

    Their weights are what the devices should hold. If the folder holds a chip, the layers hold what its devices do,
    and compensate drift with its factors.

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
    aged = _tensors(folder / CHIP) if content["chip"] is not None else None
    hardware = HardwareConfig.model_validate(content["hardware"])
    if output_noise is not None:
        hardware = hardware.model_copy(update={"output_noise": output_noise})
    try:
        return {
            entry["name"]: _layer(entry, content["cell"], hardware, targets, aged).eval() for entry in content["layers"]
        }
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{folder}: tensors and {MAP} do not fit together: {error}") from None


def read_map(folder: Path) -> dict[str, Any]:
    """The content of conductances.json.

    Raises:
        CheckpointError: it is missing, damaged, or of a later version.
    """
    try:
        content = json.loads((folder / MAP).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / MAP}: cannot be read: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{folder / MAP}: not an export of conductances")
    if content["version"] != VERSION:
        raise CheckpointError(f"{folder / MAP}: version {content['version']}, expected {VERSION}")
    return content


def _cell(converter: Any) -> dict[str, Any]:
    """The devices of a cell, as the JSON describes them; conductances in uS."""
    significance = significance_of(converter)
    if not significance:
        devices = ["g"]
    elif len(significance) == 1:
        devices = ["g_plus", "g_minus"]
    else:
        devices = [f"{sign}_{pair}" for pair in range(len(significance)) for sign in ("g_plus", "g_minus")]
    limits = {"g_min": float(converter.g_min), "g_max": float(converter.g_max)}
    return {"devices": devices, "significance": significance, **limits}


def _describe(name: str, layer: AnalogLinear, tiles: list[TileConductances]) -> dict[str, Any]:
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


def _prefix(entry: dict[str, Any], place: dict[str, Any]) -> str:
    return f"{entry['name']}/{place['row']}.{place['column']}"


def _device_tensors(entry: dict[str, Any], tiles: list[TileConductances], cell: dict[str, Any]) -> dict[str, Tensor]:
    tensors = {}
    for place, tile in zip(entry["tiles"], tiles, strict=True):
        devices = [device.float() for device in tile.devices]
        exact = tile.weight.double() * tile.scale
        if not cell["significance"]:
            exact += cell["g_min"] - tile.offset * tile.scale
        rounding = (exact - cell_microsiemens(devices, cell["significance"])).float()
        for what, tensor in zip([*cell["devices"], "rounding"], [*devices, rounding], strict=True):
            tensors[f"{_prefix(entry, place)}/{what}"] = tensor.t()
    return tensors


def _column_tensors(entry: dict[str, Any], what: str, values: Tensor) -> dict[str, Tensor]:
    """Cut (rows of tiles, out_features) into the columns of each tile."""
    return {
        f"{_prefix(entry, place)}/{what}": values[place["row"], slice(*place["outputs"])].detach().cpu().clone()
        for place in entry["tiles"]
    }


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except Exception as error:  # safetensors has an error of its own.
        raise CheckpointError(f"{path}: cannot be read: {error}") from None


def _layer(
    entry: dict[str, Any],
    cell: dict[str, Any],
    hardware: HardwareConfig,
    targets: dict[str, Tensor],
    aged: dict[str, Tensor] | None,
) -> AnalogLinear:
    scales = _columns(entry, "column_scale", targets)
    bias = targets[f"{entry['name']}/bias"] if entry["bias"] else None
    # The product before it is rounded: the weight was divided by its scale in double precision.
    weight = (_units(entry, cell, targets) * _spread(entry, scales.double())).float()
    layer = AnalogLinear(weight, bias, hardware, entry["name"])
    if aged is not None:
        # As a chip computes it: rounded, then multiplied.
        layer.state = TileState(
            _units(entry, cell, aged).float() * _spread(entry, scales), _columns(entry, "compensation", aged)
        )
    return layer


def _columns(entry: dict[str, Any], what: str, tensors: dict[str, Tensor]) -> Tensor:
    values = torch.zeros(1 + max(place["row"] for place in entry["tiles"]), entry["out_features"])
    for place in entry["tiles"]:
        values[place["row"], slice(*place["outputs"])] = tensors[f"{_prefix(entry, place)}/{what}"]
    return values


def _spread(entry: dict[str, Any], scales: Tensor) -> Tensor:
    """The scale of each weight, (out_features, in_features)."""
    spread = scales.new_zeros(entry["out_features"], entry["in_features"])
    for place in entry["tiles"]:
        outputs = slice(*place["outputs"])
        spread[outputs, slice(*place["inputs"])] = scales[place["row"], outputs, None]
    return spread


def _units(entry: dict[str, Any], cell: dict[str, Any], tensors: dict[str, Tensor]) -> Tensor:
    """The weights that the devices hold, (out_features, in_features) in tile units, in double precision."""
    weight = torch.zeros(entry["out_features"], entry["in_features"], dtype=torch.float64)
    for place in entry["tiles"]:
        prefix = _prefix(entry, place)
        devices = [tensors[f"{prefix}/{device}"] for device in cell["devices"]]
        conductance = cell_microsiemens(devices, cell["significance"]) + tensors[f"{prefix}/rounding"].double()
        single = 0.0 if cell["significance"] else cell["g_min"]
        block = place["offset"] + (conductance - single) / place["scale"]
        weight[slice(*place["outputs"]), slice(*place["inputs"])] = block.t()
    return weight
