"""The result of `inspect-tiles` as JSON and CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

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
from analog_lora_cli.models.placement import PlacedLayer

FORMAT = 1


def inspection_json(found: Inspection) -> dict[str, Any]:
    """Everything that was found, for programs; conductances in uS, times in ns, shares from 0 to 1."""
    return {
        "format": FORMAT,
        "source": found.source.name,
        "model": found.config.model.name,
        "method": found.config.method,
        "adapter": found.config.adapter.model_dump(mode="json"),
        "hardware": found.config.hardware.model_dump(mode="json"),
        "totals": totals(found),
        "layers": [_layer(found, layer) for layer in found.placement.analog],
        "digital": [
            {key: value for key, value in asdict(layer).items() if key in _DIGITAL_KEYS}
            for layer in found.placement.layers
            if not layer.analog
        ],
        "latency": _latency(found),
        "packing": None if found.packed is None else [_packed(placed) for placed in found.packed],
        "errors_measured_on": _conditions(found),
    }


_DIGITAL_KEYS = {"name", "kind", "shape", "parameters", "reason", "adapter_parameters"}


def totals(found: Inspection) -> dict[str, Any]:
    """The sums over all layers."""
    layers, analog = found.placement.layers, found.placement.analog
    return {
        "layers": len(analog),
        "tiles": found.tiles,
        "arrays": found.arrays,
        "utilisation": found.utilisation(analog),
        "devices_per_weight": found.devices_per_weight,
        "devices": found.cells(analog) * found.devices_per_weight,
        "parameters": sum(layer.parameters for layer in layers),
        "parameters_on_tiles": found.cells(analog),
        "adapter_parameters": sum(layer.adapter_parameters for layer in layers),
    }


def _layer(found: Inspection, layer: PlacedLayer) -> dict[str, Any]:
    report, errors = found.weights.get(layer.name), found.errors.get(layer.name)
    clipping = {"share": layer.clipped / found.cells([layer]), "change": layer.clip_change}
    return {
        "name": layer.name,
        "shape": layer.shape,
        "parameters": layer.parameters,
        "grid": layer.tiles,
        "devices": found.cells([layer]) * found.devices_per_weight,
        "utilisation": found.utilisation([layer]),
        "adapter": {"rank": found.ranks.get(layer.name, 0), "parameters": layer.adapter_parameters},
        "tiles": [
            {
                "row": block.row,
                "column": block.column,
                "inputs": block.inputs,
                "outputs": block.outputs,
                "utilisation": block.inputs * block.outputs / tile_cells(block, found.config.hardware),
            }
            for block in found.blocks[layer.name]
        ],
        "weights": None if report is None else {**asdict(report.weights), "clipping": clipping},
        "conductances": None if report is None else [asdict(device) for device in report.devices],
        "errors": None if errors is None else asdict(errors),
    }


def _latency(found: Inspection) -> dict[str, Any]:
    config = found.config.latency
    all_works = [found.work(layer) for layer in found.placement.analog]
    layers = []
    for work in dict.fromkeys(all_works):
        for time in config.integration_times_ns:
            choices = timings(work, time, config)
            layers.append(
                {
                    **asdict(work),
                    "layers": all_works.count(work),
                    "integration_ns": time,
                    "balanced_tokens": most_balanced(choices).tokens,
                    "fastest_tokens": fastest(choices, config).tokens,
                    "published_ratio": published_ratio(work, time),
                    "batches": [
                        {**asdict(choice), "ratio": choice.ratio, "fits": fits(choice, config)} for choice in choices
                    ],
                }
            )
    model = [model_timing(all_works, time, config) for time in config.integration_times_ns]
    return {
        "constants": origins(config),
        "layers": layers,
        "model": [{**asdict(one), "overhead": one.overhead} for one in model],
    }


def _packed(placed: Any) -> dict[str, Any]:
    return {**asdict(placed.block), "array": placed.array, "at_row": placed.first_row, "at_column": placed.first_column}


def _conditions(found: Inspection) -> dict[str, Any] | None:
    if not found.errors:
        return None
    drift = found.config.drift
    return {
        "inputs": found.inputs,
        "chips": [drift.seed + index for index in range(drift.chips)],
        "times": list(drift.times),
    }


def inspection_csv(found: Inspection) -> str:
    """One line for each layer on tiles; units in the headings."""
    lines = [_flat(found, layer) for layer in found.placement.analog]
    columns = dict.fromkeys(key for line in lines for key in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(found: Inspection, layer: PlacedLayer) -> dict[str, object]:
    assert layer.tiles is not None
    line: dict[str, object] = {
        "layer": layer.name,
        "outputs": layer.shape[0],
        "inputs": layer.shape[1],
        "rows_of_tiles": layer.tiles[0],
        "columns_of_tiles": layer.tiles[1],
        "devices": found.cells([layer]) * found.devices_per_weight,
        "utilisation": found.utilisation([layer]),
        "adapter_rank": found.ranks.get(layer.name, 0),
        "adapter_parameters": layer.adapter_parameters,
    }
    config, work = found.config.latency, found.work(layer)
    for time in config.integration_times_ns:
        choices = timings(work, time, config)
        line |= _flat_timing(f"{time:g}ns", most_balanced(choices), fastest(choices, config))
    if layer.name in found.weights:
        report = found.weights[layer.name]
        line |= {"weight_std": report.weights.std, "weight_largest": report.weights.largest}
        line |= {"clipped_share": layer.clipped / found.cells([layer]), "clip_change": layer.clip_change}
        for device in report.devices:
            line |= {f"{device.name}_mean_uS": device.mean, f"{device.name}_std_uS": device.std}
            line[f"{device.name}_at_minimum"] = device.at_minimum
    if layer.name in found.errors:
        errors = found.errors[layer.name]
        line["error_clipping"] = errors.clipping
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
