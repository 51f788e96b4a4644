"""All tables of `inspect-tiles`."""

from __future__ import annotations

from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.report.tiles.energy import energy_table
from analog_lora_cli.report.tiles.latency import latency_table
from analog_lora_cli.report.tiles.quality import error_table, further_table, statistics_table
from analog_lora_cli.report.tiles.ranges import range_table
from analog_lora_cli.report.tiles.simulation import simulation_table
from analog_lora_cli.report.tiles.tables import digital_table, tile_table, totals_table
from analog_lora_cli.runtime import console


def print_inspection(inspection: Inspection, show_all: bool) -> None:
    """Print the tables that an inspection has content for.

    Args:
        inspection: what to show.
        show_all: one row for each layer, not for each kind.
    """
    tables = [
        tile_table(inspection, show_all),
        digital_table(inspection),
        totals_table(inspection),
        simulation_table(inspection),
        latency_table(inspection),
        energy_table(inspection),
    ]
    if inspection.weights:
        tables.append(statistics_table(inspection, show_all))
    if inspection.errors:
        tables.append(error_table(inspection, show_all))
        further = further_table(inspection, show_all)
        tables.extend([] if further is None else [further])
        if inspection.config.hardware.input_range != "dynamic":
            tables.append(range_table(inspection, show_all))
    for index, table in enumerate(tables):
        if index:
            console.results().print()
        console.results().print(table)
