"""The result of `inspect-tiles` as JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import asdict
from math import isfinite
from typing import Any

from analog_lora_cli.hardware.tile.mapping import tile_dtype
from analog_lora_cli.inspection import energy
from analog_lora_cli.inspection.inspect import Inspection, tile_cells
from analog_lora_cli.inspection.latency import (
    BatchTiming,
    fastest,
    fits,
    model_timing,
    most_balanced,
    origins,
    published_ratio,
    timings,
)
from analog_lora_cli.inspection.packing import PackedBlock
from analog_lora_cli.inspection.simulation import CHIP_NS_PER_WEIGHT, SimulationCost, model_dtype
from analog_lora_cli.models.placement import PlacedLayer

FORMAT = 1


def inspection_json(inspection: Inspection) -> dict[str, Any]:
    """Content of the JSON file; conductances in uS, shares from 0 to 1.

    Times in ns and energies in nJ, or as their names say.
    """
    return {
        "format": FORMAT,
        "source": inspection.source.name,
        "model": inspection.config.model.name,
        "method": inspection.config.method,
        "adapter": inspection.config.adapter.model_dump(mode="json"),
        "hardware": inspection.config.hardware.model_dump(mode="json"),
        "totals": totals(inspection),
        "layers": [_layer(inspection, layer) for layer in inspection.placement.analog],
        "digital": [
            {key: value for key, value in asdict(layer).items() if key in _DIGITAL_KEYS}
            for layer in inspection.placement.layers
            if not layer.analog
        ],
        "simulation": _simulation(inspection),
        "latency": _latency(inspection),
        "energy": _energy(inspection),
        "packing": None if inspection.packed is None else [_packed(block) for block in inspection.packed],
        "errors_measured_on": _conditions(inspection),
    }


_DIGITAL_KEYS = {"name", "kind", "shape", "parameters", "reason", "adapter_parameters"}


def totals(inspection: Inspection) -> dict[str, Any]:
    """Sums over all layers."""
    layers, analog = inspection.placement.layers, inspection.placement.analog
    return {
        "layers": len(analog),
        "tiles": inspection.tiles,
        "arrays": inspection.arrays,
        "utilisation": inspection.utilisation(analog),
        "devices_per_weight": inspection.devices_per_weight,
        "devices": inspection.devices(analog),
        "parameters": sum(layer.parameters for layer in layers),
        "parameters_on_tiles": inspection.cells(analog),
        "adapter_parameters": sum(layer.adapter_parameters for layer in layers),
        "macs": sum(layer.macs for layer in layers),
        "macs_on_tiles": sum(layer.macs for layer in analog),
        "unsupported_share": inspection.placement.unsupported_share,
    }


def _layer(inspection: Inspection, layer: PlacedLayer) -> dict[str, Any]:
    weights, errors = inspection.weights.get(layer.name), inspection.errors.get(layer.name)
    clipping = {"share": layer.clipped / inspection.cells([layer]), "change": layer.clip_change}
    return {
        "name": layer.name,
        "shape": layer.shape,
        "parameters": layer.parameters,
        "grid": layer.tiles,
        "devices": inspection.devices([layer]),
        "utilisation": inspection.utilisation([layer]),
        "simulation": _cost(inspection.simulation([layer])),
        "adapter": {"rank": inspection.ranks.get(layer.name, 0), "parameters": layer.adapter_parameters},
        "energy": {
            "tiles": _components(energy.layer_energy(inspection, layer)),
            "adapter": _components(energy.adapter_energy(inspection, layer)),
        },
        "tiles": [
            {
                "row": block.row,
                "column": block.column,
                "inputs": block.inputs,
                "outputs": block.outputs,
                "reference_columns": block.references,
                "utilisation": block.inputs * block.outputs / tile_cells(block, inspection.config.hardware),
            }
            for block in inspection.blocks[layer.name]
        ],
        "weights": None if weights is None else {**asdict(weights.weights), "clipping": clipping},
        "conductances": None if weights is None else [asdict(device) for device in weights.devices],
        "errors": None if errors is None else asdict(errors),
    }


def _simulation(inspection: Inspection) -> dict[str, Any]:
    dtype = model_dtype(inspection.config)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "tile_dtype": str(tile_dtype(dtype)).removeprefix("torch."),
        "chip_ns_per_weight": CHIP_NS_PER_WEIGHT,
        **_cost(inspection.simulation(inspection.placement.layers)),
    }


def _cost(cost: SimulationCost) -> dict[str, float]:
    return {
        "weight_bytes": cost.weights,
        "adapter_bytes": cost.adapters,
        "workspace_bytes": cost.workspace,
        "chip_bytes": cost.chip,
        "chip_seconds": cost.chip_seconds,
    }


def _latency(inspection: Inspection) -> dict[str, Any]:
    config = inspection.config.latency
    works = inspection.works()
    layers = []
    for work, count in Counter(works).items():
        for time in config.integration_times_ns:
            choices = timings(work, time, config)
            layers.append(
                {
                    **asdict(work),
                    "layers": count,
                    "integration_ns": time,
                    "balanced_tokens": most_balanced(choices).tokens,
                    "fastest_tokens": fastest(choices, config).tokens,
                    "published_ratio": published_ratio(work, time),
                    "batches": [
                        {**asdict(choice), "ratio": choice.ratio, "fits": fits(choice, config)} for choice in choices
                    ],
                }
            )
    model = [model_timing(works, time, config) for time in config.integration_times_ns]
    return {
        "constants": origins(config),
        "layers": layers,
        "model": [{**asdict(one), "overhead": one.overhead} for one in model],
    }


def _energy(inspection: Inspection) -> dict[str, Any]:
    model = energy.model_energy(inspection)
    parts = {
        "tiles": model.tiles,
        "adapters": model.adapters,
        "attention": model.attention,
        "digital_layers": model.digital_layers,
        "model": model.all,
    }
    return {
        "constants": energy.origins(inspection.config.energy),
        **{name: _components(part) for name, part in parts.items()},
        "digital_share": model.digital_share,
        # JSON knows no infinity, of tiles that cost nothing.
        "tile_tops_per_watt": model.tile_tops_per_watt if isfinite(model.tile_tops_per_watt) else None,
    }


def _components(part: energy.Energy) -> dict[str, float]:
    return {**asdict(part), "total": part.total}


def _packed(block: PackedBlock) -> dict[str, Any]:
    return {**asdict(block.block), "array": block.array, "at_row": block.first_row, "at_column": block.first_column}


def _conditions(inspection: Inspection) -> dict[str, Any] | None:
    if not inspection.errors:
        return None
    drift = inspection.config.drift
    return {
        "inputs": inspection.inputs,
        "chips": [drift.seed + index for index in range(drift.chips)],
        "times": list(drift.times),
    }


def inspection_csv(inspection: Inspection) -> str:
    """Content of the CSV file: one line for each layer on tiles, units in the headings."""
    lines = [_flat(inspection, layer) for layer in inspection.placement.analog]
    columns = dict.fromkeys(key for line in lines for key in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(inspection: Inspection, layer: PlacedLayer) -> dict[str, object]:
    assert layer.tiles is not None
    line: dict[str, object] = {
        "layer": layer.name,
        "outputs": layer.shape[0],
        "inputs": layer.shape[1],
        "rows_of_tiles": layer.tiles[0],
        "columns_of_tiles": layer.tiles[1],
        "devices": inspection.devices([layer]),
        "utilisation": inspection.utilisation([layer]),
        "adapter_rank": inspection.ranks.get(layer.name, 0),
        "adapter_parameters": layer.adapter_parameters,
        **_cost(inspection.simulation([layer])),
    }
    config, work = inspection.config.latency, inspection.work(layer)
    for time in config.integration_times_ns:
        choices = timings(work, time, config)
        line |= _flat_timing(f"{time:g}ns", most_balanced(choices), fastest(choices, config))
    tiles, adapter = energy.layer_energy(inspection, layer), energy.adapter_energy(inspection, layer)
    line |= {f"energy_{name}_nJ": value for name, value in _components(tiles).items()}
    line["energy_adapter_nJ"] = adapter.total
    if layer.name in inspection.weights:
        layer_weights = inspection.weights[layer.name]
        line |= {"weight_std": layer_weights.weights.std, "weight_largest": layer_weights.weights.largest}
        line |= {"clipped_share": layer.clipped / inspection.cells([layer]), "clip_change": layer.clip_change}
        for device in layer_weights.devices:
            line |= {f"{device.name}_mean_uS": device.mean, f"{device.name}_std_uS": device.std}
            line[f"{device.name}_at_minimum"] = device.at_minimum
    if layer.name in inspection.errors:
        errors = inspection.errors[layer.name]
        line["error_clipping"] = errors.clipping
        if errors.input_range is not None:
            line |= {"inputs_beyond_range": errors.input_range.beyond, "error_dynamic": errors.input_range.dynamic}
        line |= {f"error_{effect.name.replace(' ', '_')}": effect.error for effect in errors.effects}
    return line


def _flat_timing(label: str, balanced: BatchTiming, best: BatchTiming) -> dict[str, object]:
    return {
        f"balanced_tokens_{label}": balanced.tokens,
        f"ratio_{label}": balanced.ratio,
        f"fastest_tokens_{label}": best.tokens,
        f"overhead_{label}": best.overhead,
        f"memory_KiB_{label}": best.memory_bytes / 1024,
    }
