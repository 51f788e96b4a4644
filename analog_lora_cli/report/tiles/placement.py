"""The placement table: what became analog, what stayed digital, and why."""

from __future__ import annotations

from rich.table import Table

from analog_lora_cli.inspection.grouping import groups, name_note, row_name
from analog_lora_cli.models.placement import PlacedLayer, Placement
from analog_lora_cli.runtime import console


def placement_table(placement: Placement) -> Table:
    """One row for each kind of layer, layers of like name and shape together."""
    analog = placement.analog
    on_tiles = sum(layer.parameters for layer in analog)
    total = sum(layer.parameters for layer in placement.layers)
    tiles = sum(layer.tiles[0] * layer.tiles[1] for layer in analog if layer.tiles)
    beyond = placement.unsupported_share
    unsupported = f"; no tile can hold {beyond:.1%} of the weights that multiply inputs" if beyond else ""
    table = console.table(
        f"Placement: {len(analog)} layers on {tiles} tiles, {on_tiles / total:.1%} of {total / 1e6:.1f} M parameters"
        f"{unsupported}",
        "layers", "n", "shape", "tiles", "clipped", "change",
        caption=f"{name_note(placement)}tiles: rows x columns for each layer; clipped: share of the weights\n"
        "change: largest relative change of a matrix by clipping (Frobenius norm)",
        collapse_padding=True,
    )  # fmt: skip
    for group in groups(analog):
        first = group[0]
        assert first.tiles is not None
        weights = sum(layer.shape[0] * layer.shape[1] for layer in group)
        table.add_row(
            row_name(group, placement),
            str(len(group)),
            "x".join(map(str, first.shape)),
            f"{first.tiles[0]}x{first.tiles[1]}",
            f"{sum(layer.clipped for layer in group) / weights:.2%}",
            f"{max(layer.clip_change for layer in group):.2%}",
        )
    table.add_section()
    reasons: dict[tuple[str, str], list[PlacedLayer]] = {}
    for layer in placement.layers:
        if not layer.analog:
            reasons.setdefault((layer.kind, layer.reason), []).append(layer)
    for (kind, reason), group in reasons.items():
        name = group[0].name if len(group) == 1 else kind
        shape = "x".join(map(str, group[0].shape)) if len(group) == 1 else ""
        table.add_row(f"[dim]{name}: digital, {reason}[/dim]", str(len(group)), shape, "", "", "")
    return table
