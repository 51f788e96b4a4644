"""The tables of `inspect-tiles` that need the weights: distributions, conductances and errors."""

from __future__ import annotations

import re
from statistics import fmean, median

from rich.table import Table

from analog_lora_cli.hardware.physics.compensation import coarse_read_out
from analog_lora_cli.inspection.grouping import name_note, row_name, rows_of
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.inspection.tile_errors import (
    ADC,
    CONVERTERS,
    DEAD,
    IR_DROP,
    PROGRAMMING,
    READ,
    SHORT_TERM,
    STUCK,
    effect_names,
    read_label,
)
from analog_lora_cli.models.placement import PlacedLayer
from analog_lora_cli.runtime import console

_FURTHER = {
    SHORT_TERM: ("short", "read noise of each product"),
    IR_DROP: ("IR", "drop along the bit lines"),
    STUCK: ("stuck", "devices at g_min and g_max for good"),
    DEAD: ("dead", "columns without current"),
    ADC: ("ADC", "gains and offsets that differ"),
}
"""Effects that hardware may lack: headings and meanings of the table of their own."""
FRAGILE = 1.5
"""A layer is marked when its error exceeds the median of all layers by this factor."""


def statistics_table(inspection: Inspection, show_all: bool) -> Table:
    """Weights before clipping, what clipping did, and the conductances that are programmed."""
    g_min, g_max = inspection.config.hardware.conductance_range
    devices = next(iter(inspection.weights.values())).devices
    spread = "±std" if len(devices) <= 2 else ""
    table = console.table(
        "Weights and conductances", "layers", "std", "peak", "clip", "change",
        *(device.name for device in devices), "off",
        caption=f"{name_note(inspection.placement)}"
        "std: of the weights before clipping; peak: the largest of them in std\n"
        "clip: share of the weights; change: the largest of n (Frobenius norm)\n"
        f"{', '.join(device.name for device in devices)}: targets in uS, mean{spread}, from {g_min:g} to {g_max:g}\n"
        "off: share of the devices at the smallest conductance",
        collapse_padding=True,
    )  # fmt: skip
    for row in rows_of(inspection.placement, show_all):
        reports = [inspection.weights[layer.name] for layer in row]
        cells = []
        for index in range(len(devices)):
            of_row = [report.devices[index] for report in reports]
            std = f"±{fmean(d.std for d in of_row):.1f}" if len(devices) <= 2 else ""
            cells.append(f"{fmean(d.mean for d in of_row):.1f}{std}")
        off = fmean(device.at_minimum for report in reports for device in report.devices)
        table.add_row(
            row_name(row, inspection.placement),
            f"{fmean(report.weights.std for report in reports):#.3g}",
            f"{max(report.weights.peak for report in reports):.1f}",
            f"{sum(layer.clipped for layer in row) / inspection.cells(row):.2%}",
            f"{max(layer.clip_change for layer in row):.1%}",
            *cells,
            f"{off:.0%}",
        )
    return table


def error_table(inspection: Inspection, show_all: bool) -> Table:
    """The error of each kind of layer, effect after effect, the most fragile first."""
    drift, hardware = inspection.config.drift, inspection.config.hardware
    names = effect_names(hardware, drift.times)
    shown = [index for index, name in enumerate(names) if name not in _FURTHER]
    headings = {CONVERTERS: "conv", PROGRAMMING: "+prog", READ: "+read"}
    rows = [
        row for row in rows_of(inspection.placement, show_all) if all(layer.name in inspection.errors for layer in row)
    ]
    rows.sort(key=lambda row: -max(inspection.errors[layer.name].worst for layer in row))
    biased = "\n".join(console.marked(filter(None, [coarse_read_out(hardware)])))
    chips = f"{drift.chips} chips" if drift.chips > 1 else f"chip {drift.seed}"
    table = console.table(
        "Error of the matrix-vector product in percent, most fragile first", "layers", "clip",
        *(headings.get(names[index], names[index]) for index in shown), *([] if show_all else ["worst"]),
        caption=f"{name_note(inspection.placement)}"
        "||y - y_exact|| / ||y_exact|| over all tokens; each column adds an effect:\n"
        f"DAC, ADC and output noise; programming; read noise (at {read_label(hardware)});\n"
        f"drift with its compensation ({hardware.drift_compensation})\n"
        f"{_included(names)}"
        "clip: change of y_exact by clipping; not in the others, which are\n"
        f"against the clipped weights; {'' if show_all else f'worst: layer and error at {names[-1]}; '}!: more than\n"
        f"{FRAGILE:g} times the median of all layers\n"
        f"{chips}, {inspection.inputs}\n{biased}".rstrip(),
        collapse_padding=True,
    )  # fmt: skip
    limit = FRAGILE * median(errors.worst for errors in inspection.errors.values())
    for row in rows:
        errors = [inspection.errors[layer.name] for layer in row]
        worst = max(row, key=lambda layer: inspection.errors[layer.name].worst)
        fragile = inspection.errors[worst.name].worst > limit
        means = [fmean(one.effects[index].error for one in errors) for index in shown]
        numbers = [_percent(value) for value in (fmean(one.clipping for one in errors), *means)]
        mark = "!" if fragile else " "
        if show_all:
            numbers[-1] += mark
        else:
            numbers.append(f"{_where(worst)} {_percent(inspection.errors[worst.name].worst)}{mark}")
        table.add_row(row_name(row, inspection.placement), *numbers, style="bold red" if fragile else None)
    return table


def further_table(inspection: Inspection, show_all: bool) -> Table | None:
    """The part of each effect in the error that not all hardware has; None without any."""
    names = effect_names(inspection.config.hardware, inspection.config.drift.times)
    further = [index for index, name in enumerate(names) if name in _FURTHER]
    if not further:
        return None
    meanings = "\n".join(f"{heading}: {text}" for heading, text in (_FURTHER[names[index]] for index in further))
    table = console.table(
        "Parts of further effects in that error, in percent", "layers",
        *(_FURTHER[names[index]][0] for index in further),
        caption=f"{name_note(inspection.placement)}"
        f"sqrt(e^2 - e_before^2), the error e with and before this effect\n{meanings}",
        collapse_padding=True,
    )  # fmt: skip
    for row in rows_of(inspection.placement, show_all):
        errors = [inspection.errors[layer.name] for layer in row if layer.name in inspection.errors]
        if errors:
            parts = [fmean(one.effects[index].added for one in errors) for index in further]
            table.add_row(row_name(row, inspection.placement), *map(_percent, parts))
    return table


def _included(names: list[str]) -> str:
    """Line of the caption about effects that have no column."""
    headings = [_FURTHER[name][0] for name in names if name in _FURTHER]
    return f"included from where they act, see the next table: {', '.join(headings)}\n" if headings else ""


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _where(layer: PlacedLayer) -> str:
    """The numbers in a layer's name, which tell it from the others of its kind."""
    numbers = re.findall(r"(?<=\.)\d+(?=\.|$)", layer.name)
    return f"{'.'.join(numbers)}:" if numbers else ""
