"""The tensors of an export of conductances: numbers of tiles by name, and back; see `conductance_file`."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.physics.conductance_map import CellEntry, LayerEntry, TileEntry
from analog_lora_cli.hardware.physics.conductances import TileConductances, cell_microsiemens


def device_tensors(entry: LayerEntry, tiles: list[TileConductances], cell: CellEntry) -> dict[str, Tensor]:
    """Conductances of each tile's devices and reference columns, and what rounding them leaves of the weights.

    Args:
        entry: the layer.
        tiles: its tiles on the scale of the entry, reference columns last among the columns.
        cell: devices of a cell.
    """
    tensors: dict[str, Tensor] = {}
    for tile, conductances in zip(entry["tiles"], tiles, strict=True):
        columns = len(conductances.weight)
        devices = [device.float() for device in conductances.devices]
        held = dict(zip(cell["devices"], (device[:columns] for device in devices), strict=True))
        if cell["reference_columns"]:
            held["reference"] = devices[0][columns:]
        difference = _difference(held, cell, tile["scale"], tile["offset"])
        held["rounding"] = (conductances.weight.double() * tile["scale"] - difference).float()
        tensors |= {f"{_prefix(entry, tile)}/{kind}": tensor.t() for kind, tensor in held.items()}
    return tensors


def column_tensors(entry: LayerEntry, kind: str, values: Tensor) -> dict[str, Tensor]:
    """Cut (rows of tiles, out_features) into the columns of each tile."""
    return {
        f"{_prefix(entry, tile)}/{kind}": values[tile["row"], slice(*tile["outputs"])].detach().cpu().clone()
        for tile in entry["tiles"]
    }


def adc_tensors(entry: LayerEntry, chip: Chip) -> dict[str, Tensor]:
    """Gains and offsets of the ADCs, where they differ."""
    tensors: dict[str, Tensor] = {}
    for tile, (gain, offset) in zip(entry["tiles"], chip.adc(entry["name"]), strict=True):
        named = {"adc_gain": gain, "adc_offset": offset}
        tensors |= {f"{_prefix(entry, tile)}/{kind}": one for kind, one in named.items() if one is not None}
    return tensors


def tile_units(entry: LayerEntry, cell: CellEntry, tensors: dict[str, Tensor]) -> Tensor:
    """The weights that the devices hold, (out_features, in_features) in tile units, in double precision."""
    weight = torch.zeros(entry["out_features"], entry["in_features"], dtype=torch.float64)
    for tile in entry["tiles"]:
        prefix = _prefix(entry, tile)
        kinds = [*cell["devices"], *(["reference"] if cell["reference_columns"] else [])]
        held = {kind: tensors[f"{prefix}/{kind}"].t() for kind in kinds}
        rounding = tensors[f"{prefix}/rounding"].t().double()
        units = (_difference(held, cell, tile["scale"], tile["offset"]) + rounding) / tile["scale"]
        weight[slice(*tile["outputs"]), slice(*tile["inputs"])] = units
    return weight


def columns_of_tiles(entry: LayerEntry, kind: str, tensors: dict[str, Tensor]) -> Tensor:
    """(rows of tiles, out_features), put together from the columns of each tile: the inverse of `column_tensors`."""
    values = torch.zeros(1 + max(tile["row"] for tile in entry["tiles"]), entry["out_features"])
    for tile in entry["tiles"]:
        values[tile["row"], slice(*tile["outputs"])] = tensors[f"{_prefix(entry, tile)}/{kind}"]
    return values


def adc_columns(entry: LayerEntry, kind: str, tensors: dict[str, Tensor]) -> Tensor | None:
    """`columns_of_tiles`, or None where all ADCs are alike."""
    return columns_of_tiles(entry, kind, tensors) if f"{_prefix(entry, entry['tiles'][0])}/{kind}" in tensors else None


def scale_of_weights(entry: LayerEntry, scales: Tensor) -> Tensor:
    """The scale of each weight, (out_features, in_features)."""
    scale_OI = scales.new_zeros(entry["out_features"], entry["in_features"])
    for tile in entry["tiles"]:
        outputs = slice(*tile["outputs"])
        scale_OI[outputs, slice(*tile["inputs"])] = scales[tile["row"], outputs, None]
    return scale_OI


def _difference(held: dict[str, Tensor], cell: CellEntry, scale: float, offset: float) -> Tensor:
    """Conductances that stand for the weights times the scale, (columns, rows) in uS and double precision.

    Args:
        held: conductances of a tile's devices, each (columns, rows), and of its reference columns.
        cell: devices of a cell.
        scale: uS for each tile unit of weight.
        offset: single device: weight at g_min, in tile units.
    """
    total = cell_microsiemens([held[device] for device in cell["devices"]], cell["significance"])
    if cell["significance"]:
        return total
    if cell["reference_columns"]:
        return total - held["reference"].double().mean(dim=0)
    return total - (cell["g_min"] - offset * scale)


def _prefix(entry: LayerEntry, tile: TileEntry) -> str:
    return f"{entry['name']}/{tile['row']}.{tile['column']}"
