"""The tables of `inspect-tiles` that need no weights: what lies where, and what it costs."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from analog_lora_cli.inspection.grouping import name_note, row_name, rows_of
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.models.placement import PlacedLayer
from analog_lora_cli.runtime import console


def tile_table(inspection: Inspection, show_all: bool) -> Table:
    """Each kind of layer on its tiles."""
    layers = len(inspection.placement.analog)
    table = console.table(
        f"{escape(inspection.source.name)}: {layers} layers on {inspection.tiles} tiles{inspection.tile_size}",
        "layers", "n", "shape", "tiles", "devices", "used", "rank", "adapter",
        caption=f"{name_note(inspection.placement)}shape: outputs x inputs; tiles: rows x columns of each layer;\n"
        "used: cells of its tiles that hold a weight; devices, adapter: of all n",
        collapse_padding=True,
    )  # fmt: skip
    for row in rows_of(inspection.placement, show_all):
        first = row[0]
        assert first.tiles is not None
        ranks = sorted({inspection.ranks.get(layer.name, 0) for layer in row})
        table.add_row(
            row_name(row, inspection.placement),
            str(len(row)),
            "x".join(map(str, first.shape)),
            f"{first.tiles[0]}x{first.tiles[1]}",
            short(inspection.devices(row)),
            f"{inspection.utilisation(row):.1%}",
            "-" if ranks == [0] else "..".join(map(str, dict.fromkeys((ranks[0], ranks[-1])))),
            short(sum(layer.adapter_parameters for layer in row)),
        )
    return table


def digital_table(inspection: Inspection) -> Table:
    """Modules that stay digital, with the reason."""
    table = console.table("Stays digital", "what", "why", "n", "parameters", "adapter", left=2, collapse_padding=True)
    reasons: dict[tuple[str, str], list[PlacedLayer]] = {}
    chosen = inspection.config.hardware.digital_layers or []
    for layer in inspection.placement.layers:
        if not layer.analog:
            reasons.setdefault((layer.name if layer.name in chosen else layer.kind, layer.reason), []).append(layer)
    for (kind, reason), group in reasons.items():
        adapter = sum(layer.adapter_parameters for layer in group)
        name = group[0].name if len(group) == 1 else kind
        parameters = sum(layer.parameters for layer in group)
        table.add_row(name, reason, str(len(group)), short(parameters), short(adapter) if adapter else "-")
    analog = inspection.placement.analog
    biases = sum(layer.parameters for layer in analog) - inspection.cells(analog)
    if biases:
        table.add_row("biases", "added after the ADC", str(len(analog)), short(biases), "-")
    return table


def totals_table(inspection: Inspection) -> Table:
    """The sums over all layers."""
    layers, analog = inspection.placement.layers, inspection.placement.analog
    total = sum(layer.parameters for layer in layers)
    adapters = sum(layer.adapter_parameters for layer in layers)
    cells = inspection.cells(analog)
    table = console.table("Totals", "", "", left=2, show_header=False)
    table.add_row(
        "tiles", f"{inspection.tiles}{inspection.tile_size}, {inspection.utilisation(analog):.1%} of their cells used"
    )
    hardware = inspection.config.hardware
    if inspection.packed is not None:
        saved = inspection.tiles - inspection.arrays
        used = cells / (inspection.arrays * hardware.tile_rows * hardware.tile_columns)
        table.add_row(
            "shared", f"{inspection.arrays} arrays, {used:.1%} used: {saved} fewer ({saved / inspection.tiles:.1%})"
        )
    each = inspection.devices_per_weight
    table.add_row("devices", f"{inspection.devices(analog):,}, {each} for each weight ({hardware.converter_name})")
    if hardware.references:
        table.add_row("references", f"{hardware.references} columns of each tile, their devices counted above")
    table.add_row("on tiles", f"{cells:,} of {total:,} parameters ({cells / total:.1%})")
    table.add_row(
        "digital",
        f"{total - cells:,} parameters of the base ({1 - cells / total:.1%}), "
        f"{inspection.placement.digital_macs:.1%} of its multiplications",
    )
    beyond = inspection.placement.unsupported_share
    if beyond:
        table.add_row("unsupported", f"{beyond:.1%} of the weights that multiply inputs: no tile can hold them")
    variant = inspection.config.adapter.variant
    overhead = f"{adapters:,} parameters ({variant}), {adapters / total:.2%} of the base"
    table.add_row("adapters", overhead if adapters else "none")
    return table


def short(number: int) -> str:
    """A count in five characters or so: `921`, `12.3k`, `4.7M`."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= 0.9995 * size:  # So that 999,999 is 1M, not 1000k.
            return f"{number / size:.3g}{unit}"
    return str(number)
