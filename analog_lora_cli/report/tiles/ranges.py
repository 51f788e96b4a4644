"""The table of `inspect-tiles` on input ranges: what one range for all tokens costs."""

from __future__ import annotations

from statistics import fmean

from rich.table import Table

from analog_lora_cli.inspection.grouping import name_note, row_name, rows_of
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.inspection.tile_errors import RangeCost
from analog_lora_cli.runtime import console


def range_table(inspection: Inspection, show_all: bool) -> Table:
    """Ranges of the inputs of each kind of layer, and the error of the converters with and without them."""
    kind = inspection.config.hardware.input_range
    table = console.table(
        f"Cost of {kind} input ranges", "layers", "range", "beyond", "dynamic", kind,
        caption=f"{name_note(inspection.placement)}"
        "range: smallest and largest of all rows of tiles; beyond: share of the inputs\n"
        "dynamic: error of the product in percent with DAC, ADC and output noise, if each\n"
        f"token had a range of its own; {kind}: with these ranges; {inspection.inputs}",
        collapse_padding=True,
    )  # fmt: skip
    for row in rows_of(inspection.placement, show_all):
        errors = [inspection.errors[layer.name] for layer in row if layer.name in inspection.errors]
        costs = [(one.input_range, one.effects[0].error) for one in errors if one.input_range is not None]
        if costs:
            table.add_row(row_name(row, inspection.placement), *_numbers(costs))
    return table


def _numbers(costs: list[tuple[RangeCost, float]]) -> list[str]:
    ranges = [value for cost, _ in costs for value in cost.ranges]
    return [
        f"{min(ranges):.3g} to {max(ranges):.3g}" if len(ranges) > 1 else f"{ranges[0]:.3g}",
        f"{fmean(cost.beyond for cost, _ in costs):.2%}",
        f"{100 * fmean(cost.dynamic for cost, _ in costs):.1f}",
        f"{100 * fmean(error for _, error in costs):.1f}",
    ]
