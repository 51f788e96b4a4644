"""Which layer goes onto tiles, which stays digital, and why; planned from shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import UsageError
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.mapping import Clipping
from analog_lora_cli.models.modules import ModuleFacts, is_inside, match_names, no_linear_layer


@dataclass(frozen=True)
class PlacedLayer:
    """One module with weights of its own."""

    name: str
    kind: str
    """Class of the module in the plain model."""
    shape: list[int]
    parameters: int
    """Number of parameters of the base, without adapters."""
    analog: bool
    reason: str
    """Why it stays digital; empty for a layer on tiles."""
    tiles: list[int] | None = None
    """Rows and columns of tiles."""
    clipped: int = 0
    """Weights moved by clipping."""
    clip_change: float = 0.0
    """Relative change of the matrix by clipping, Frobenius norm."""
    adapter_parameters: int = 0


@dataclass(frozen=True)
class Placement:
    """Where every layer of a model ended up."""

    layers: list[PlacedLayer]

    @property
    def analog(self) -> list[PlacedLayer]:
        """The layers on tiles."""
        return [layer for layer in self.layers if layer.analog]

    def as_json(self) -> list[dict[str, Any]]:
        """For the manifest."""
        return [asdict(layer) for layer in self.layers]


def plan(
    facts: list[ModuleFacts], heads: list[str], hardware: HardwareConfig, only: frozenset[str] | None = None
) -> Placement:
    """Where every layer would go: what `put_on_tiles` does to a model, without its weights, and so without clipping.

    Args:
        facts: from `module_facts`.
        heads: names of modules that stay digital because they are the trained head; empty: none.
        hardware: tiles, and which layers.
        only: names of the layers that were programmed; others stay digital. None: no limit.

    Raises:
        UsageError: no layer can be mapped, or a pattern of `hardware.layers` matches nothing.
    """
    return placement_of(facts, decide(facts, heads, hardware, only), hardware, {})


def decide(
    facts: list[ModuleFacts], heads: list[str], hardware: HardwareConfig, only: frozenset[str] | None = None
) -> dict[str, str]:
    """Why each module stays digital, by name; empty for those that go onto tiles.

    Arguments and errors as for `plan`.
    """
    linear = [fact.name for fact in facts if fact.unsupported_reason is None]
    unsupported = no_linear_layer(facts, heads)
    all_of_them = hardware.layers is None or unsupported is not None
    chosen = set(linear) if all_of_them else match_names(linear, hardware.layers or [], "hardware.layers")
    reasons = {fact.name: _reason(fact, heads, chosen, only) for fact in facts}
    if all(reasons.values()):
        why = unsupported or "; ".join(sorted({reasons[name] for name in linear}))
        raise UsageError(f"no layer of this model can be put on tiles: {why}; expected torch.nn.Linear")
    return reasons


def _reason(fact: ModuleFacts, heads: list[str], chosen: set[str], only: frozenset[str] | None) -> str:
    if fact.unsupported_reason is not None:
        return fact.unsupported_reason
    if is_inside(fact.name, heads):
        return "task head, trained"
    if fact.shared:
        return "weights shared with another layer"
    if fact.name not in chosen:
        return "not in hardware.layers"
    if only is not None and fact.name not in only:
        return "not on this chip"
    return ""


def placement_of(
    facts: list[ModuleFacts], reasons: dict[str, str], hardware: HardwareConfig, clippings: Mapping[str, Clipping]
) -> Placement:
    """The table of all layers.

    Args:
        facts: from `module_facts`.
        reasons: from `decide`.
        hardware: the tiles.
        clippings: what clipping did to layers on tiles, by name; empty where there are no weights.
    """
    rows = []
    for fact in facts:
        reason, clipping = reasons[fact.name], clippings.get(fact.name)
        grid = None if reason else TileGrid.of(fact.shape[0], fact.shape[1], hardware)
        rows.append(
            PlacedLayer(
                name=fact.name,
                kind=fact.kind,
                shape=fact.shape,
                parameters=fact.parameters,
                analog=not reason,
                reason=reason,
                tiles=[len(grid.rows), len(grid.columns)] if grid is not None else None,
                clipped=clipping.clipped if clipping else 0,
                clip_change=clipping.change if clipping else 0.0,
                adapter_parameters=fact.adapter_parameters,
            )
        )
    return Placement(rows)
