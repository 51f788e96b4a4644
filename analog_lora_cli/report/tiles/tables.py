"""The tables of `inspect-tiles` that need no weights: what lies where, and what it costs."""

from __future__ import annotations

from rich.table import Table

from analog_lora_cli.inspection.grouping import name_note, row_name, rows_of
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.models.placement import PlacedLayer
from analog_lora_cli.runtime import console


def tile_table(found: Inspection, show_all: bool) -> Table:
    """Each kind of layer on its tiles."""
    made = console.table(
        f"{found.source.name}: {len(found.placement.analog)} layers on {found.tiles} tiles{_size(found)}",
        "layers", "n", "shape", "tiles", "devices", "used", "rank", "adapter",
        caption=f"{name_note(found.placement)}shape: outputs x inputs; tiles: rows x columns of each layer;\n"
        "used: cells of its tiles that hold a weight; devices, adapter: of all n",
        collapse_padding=True,
    )  # fmt: skip
    for row in rows_of(found.placement, show_all):
        first = row[0]
        assert first.tiles is not None
        ranks = sorted({found.ranks.get(layer.name, 0) for layer in row})
        made.add_row(
            row_name(row, found.placement),
            str(len(row)),
            "x".join(map(str, first.shape)),
            f"{first.tiles[0]}x{first.tiles[1]}",
            short(found.cells(row) * found.devices_per_weight),
            f"{found.utilisation(row):.1%}",
            "-" if ranks == [0] else "..".join(map(str, dict.fromkeys((ranks[0], ranks[-1])))),
            short(sum(layer.adapter_parameters for layer in row)),
        )
    return made


def digital_table(found: Inspection) -> Table:
    """What stays digital, and why."""
    made = console.table("Stays digital", "what", "why", "n", "parameters", "adapter", left=2, collapse_padding=True)
    reasons: dict[tuple[str, str], list[PlacedLayer]] = {}
    for layer in found.placement.layers:
        if not layer.analog:
            reasons.setdefault((layer.kind, layer.reason), []).append(layer)
    for (kind, reason), group in reasons.items():
        adapter = sum(layer.adapter_parameters for layer in group)
        name = group[0].name if len(group) == 1 else kind
        parameters = sum(layer.parameters for layer in group)
        made.add_row(name, reason, str(len(group)), short(parameters), short(adapter) if adapter else "-")
    analog = found.placement.analog
    biases = sum(layer.parameters for layer in analog) - found.cells(analog)
    if biases:
        made.add_row("biases", "added after the ADC", str(len(analog)), short(biases), "-")
    return made


def _size(found: Inspection) -> str:
    hardware = found.config.hardware
    limited = hardware.tile_rows and hardware.tile_columns
    return f" of {hardware.tile_rows}x{hardware.tile_columns}" if limited else ""


def totals_table(found: Inspection) -> Table:
    """The sums over all layers."""
    layers, analog = found.placement.layers, found.placement.analog
    total = sum(layer.parameters for layer in layers)
    adapters = sum(layer.adapter_parameters for layer in layers)
    cells = found.cells(analog)
    made = console.table("Totals", "", "", left=2, show_header=False)
    made.add_row("tiles", f"{found.tiles}{_size(found)}, {found.utilisation(analog):.1%} of their cells used")
    if found.packed is not None:
        hardware = found.config.hardware
        saved = found.tiles - found.arrays
        used = cells / (found.arrays * hardware.tile_rows * hardware.tile_columns)
        made.add_row("shared", f"{found.arrays} arrays, {used:.1%} used: {saved} fewer ({saved / found.tiles:.1%})")
    each = found.devices_per_weight
    made.add_row("devices", f"{cells * each:,}, {each} for each weight ({found.config.hardware.converter_name})")
    made.add_row("on tiles", f"{cells:,} of {total:,} parameters ({cells / total:.1%})")
    made.add_row("digital", f"{total - cells:,} parameters of the base")
    variant = found.config.adapter.variant
    overhead = f"{adapters:,} parameters ({variant}), {adapters / total:.2%} of the base"
    made.add_row("adapters", overhead if adapters else "none")
    return made


def short(number: int) -> str:
    """A count in five characters or so: `921`, `12.3k`, `4.7M`."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= 0.9995 * size:  # So that 999,999 is 1M, not 1000k.
            return f"{number / size:.3g}{unit}"
    return str(number)
