"""The energy table of `inspect-tiles`: each component for a token, by shape and by part of the model."""

from __future__ import annotations

from typing import NamedTuple

from rich.table import Table

from analog_lora_cli.inspection.energy import Energy, ModelEnergy, layer_energy, model_energy, origins
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.report.tiles.latency import constant_lines
from analog_lora_cli.runtime import console

UNITS = {"mJ": 1e6, "uJ": 1e3, "nJ": 1.0, "pJ": 1e-3}
"""In nJ, the largest first."""


def energy_table(inspection: Inspection) -> Table:
    """One row for the layers of a shape together, then what is digital, then the model; fits 80 columns."""
    model = model_energy(inspection)
    unit = next((name for name, size in UNITS.items() if model.all.total >= size), "pJ")
    table = console.table(
        f"Energy of a token in {unit}: tiles, and what is digital",
        "part", "n", "read", "DAC", "ADC", "digital", "memory", "total", "%",
        caption="\n".join(_caption(inspection, model.tile_tops_per_watt)), collapse_padding=True,
    )  # fmt: skip
    table.columns[0].no_wrap = True
    *parts, whole = energy_parts(inspection, model)
    for part in parts:
        table.add_row(part.name, part.layers, *_cells(part.energy, UNITS[unit], model.all.total))
    table.add_section()
    table.add_row(whole.name, whole.layers, *_cells(whole.energy, UNITS[unit], model.all.total))
    return table


class Part(NamedTuple):
    """Energy of a part of the model for a token."""

    name: str
    layers: str
    """Number of layers; empty where it is no sum over layers on tiles."""
    energy: Energy


def energy_parts(inspection: Inspection, model: ModelEnergy) -> list[Part]:
    """The layers on tiles by shape, then what is digital, then the whole model."""
    shapes: dict[str, list[Energy]] = {}
    for layer in inspection.placement.analog:
        shapes.setdefault("x".join(map(str, layer.shape)), []).append(layer_energy(inspection, layer))
    tiles = [Part(name, str(len(layers)), sum(layers, Energy())) for name, layers in shapes.items()]
    return [
        *tiles,
        Part("adapters", "", model.adapters),
        Part("attention", "", model.attention),
        Part("digital layers", "", model.digital_layers),
        Part("model", "", model.all),
    ]


def _cells(energy: Energy, unit: float, whole: float) -> list[str]:
    parts = (energy.read, energy.dac, energy.adc, energy.digital, energy.memory, energy.total)
    share = 100 * energy.total / whole if whole else 0.0
    return [*("-" if part == 0 else f"{part / unit:.3g}" for part in parts), f"{share:.1f}"]


def _caption(inspection: Inspection, tops_per_watt: float) -> list[str]:
    return [
        f"digital: multiplications; memory: what is moved; tiles {tops_per_watt:.3g} TOPS/W",
        f"attention over {inspection.config.latency.sequence_tokens} tokens; no normalisation, softmax or leakage",
        "sources of the constants: analora explain energy",
        *constant_lines(origins(inspection.config.energy)),
    ]
