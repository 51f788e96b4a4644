"""Placement of each layer, on tiles or digital, and the reason; planned from shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod

from torch import nn

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
    """Number of parameters of the base, without adapters, and without those that a module before it has."""
    analog: bool
    reason: str
    """Reason why it stays digital; empty for a layer on tiles."""
    tiles: list[int] | None = None
    """Rows and columns of tiles."""
    clipped: int = 0
    """Weights moved by clipping."""
    clip_change: float = 0.0
    """Relative change of the matrix by clipping, Frobenius norm."""
    adapter_parameters: int = 0
    macs: int = 0
    """Multiplications with its weights for each token; 0 for what multiplies no inputs with a matrix."""


@dataclass(frozen=True)
class Placement:
    """Placement of all layers of a model."""

    layers: list[PlacedLayer]
    unsupported_share: float = 0.0
    """As `unsupported_share` gives it."""

    @property
    def analog(self) -> list[PlacedLayer]:
        """The layers on tiles."""
        return [layer for layer in self.layers if layer.analog]

    @property
    def digital_macs(self) -> float:
        """Share of the multiplications with weights that stay digital, adapters and attention scores not counted."""
        total = sum(layer.macs for layer in self.layers)
        return 1 - sum(layer.macs for layer in self.analog) / max(total, 1)

    def as_json(self) -> list[dict[str, object]]:
        """Entries for the manifest."""
        return [asdict(layer) for layer in self.layers]


def plan(
    facts: list[ModuleFacts], heads: Mapping[str, str], hardware: HardwareConfig, only: frozenset[str] | None = None
) -> Placement:
    """The placement that `put_on_tiles` gives a model, without its weights and so without clipping.

    Args:
        facts: result of `module_facts`.
        heads: reasons why modules of the head stay digital, by name; empty: none does.
        hardware: tile sizes and layers to map.
        only: names of the layers that were programmed; others stay digital. None: no limit.

    Raises:
        UsageError: no layer can be mapped, or a pattern of `hardware.layers` or `digital_layers` matches nothing.
    """
    return placement_of(facts, decide(facts, heads, hardware, only), hardware, {})


def decide(
    facts: list[ModuleFacts], heads: Mapping[str, str], hardware: HardwareConfig, only: frozenset[str] | None = None
) -> dict[str, str]:
    """Reasons why modules stay digital, by name; empty for those that go onto tiles.

    Arguments and errors as for `plan`.
    """
    linear = [fact.name for fact in facts if fact.unsupported_reason is None]
    unsupported = no_linear_layer(facts, heads)
    if hardware.unmeasured:
        raise UsageError(
            f"hardware.layers: the layers of {hardware.layers} are measured when a training begins, and this is none: "
            "name them in hardware.digital_layers, as a trained checkpoint does in analora.yaml"
        )
    left_out = dict.fromkeys(linear, "")
    # A pattern cannot match where no layer can be mapped: that reason is the one to report.
    if unsupported is None:
        if hardware.named_layers is not None:
            selection = match_names(linear, hardware.named_layers, "hardware.layers")
            left_out |= dict.fromkeys(set(linear) - selection, "not in hardware.layers")
        digital = match_names(linear, hardware.digital_layers or [], "hardware.digital_layers")
        why = "in hardware.digital_layers" if hardware.fragile is None else f"most fragile, {hardware.layers}"
        left_out |= dict.fromkeys(digital, why)
    reasons = {fact.name: _reason(fact, heads, left_out, only) for fact in facts}
    if all(reasons.values()):
        why = unsupported or "; ".join(sorted({reasons[name] for name in linear}))
        raise UsageError(f"no layer of this model can be put on tiles: {why}; expected torch.nn.Linear")
    return reasons


def _reason(
    fact: ModuleFacts, heads: Mapping[str, str], left_out: Mapping[str, str], only: frozenset[str] | None
) -> str:
    if fact.unsupported_reason is not None:
        return fact.unsupported_reason
    head = next((reason for name, reason in heads.items() if is_inside(fact.name, [name])), None)
    if head is not None:
        return f"{head}, tied" if fact.shared else head
    if fact.shared:
        return "weights shared with another layer"
    if left_out[fact.name]:
        return left_out[fact.name]
    if only is not None and fact.name not in only:
        return "not on this chip"
    return ""


def placement_of(
    facts: list[ModuleFacts], reasons: dict[str, str], hardware: HardwareConfig, clippings: Mapping[str, Clipping]
) -> Placement:
    """The table of all layers.

    Args:
        facts: result of `module_facts`.
        reasons: result of `decide`.
        hardware: tile sizes.
        clippings: effect of clipping on layers on tiles, by name; empty where there are no weights.
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
                macs=prod(fact.shape) if fact.multiplies else 0,
            )
        )
    return Placement(rows, unsupported_share(facts))


def unsupported_share(facts: list[ModuleFacts]) -> float:
    """Share of the parameters of all modules that multiply their inputs with a matrix, which no choice of layers could
    put on tiles: 0.96 for a mixture of experts whose matrices lie in 3-D parameters."""
    products = [fact for fact in facts if fact.multiplies]
    beyond = sum(fact.parameters for fact in products if fact.unsupported_reason is not None)
    return beyond / max(sum(fact.parameters for fact in products), 1)


def require_tiles(facts: list[ModuleFacts], hardware: HardwareConfig) -> None:
    """Check that what a model computes on tiles is what its placement says, and enough of it.

    Args:
        facts: result of `module_facts`.
        hardware: layers to map, and the limit.

    Raises:
        UsageError: fused kernels would compute layers past their tiles and `hardware.layers` does not leave them out;
            or more than `hardware.max_unsupported_share` cannot lie on tiles.
    """
    past_tiles = [fact for fact in facts if fact.unsupported_reason is not None and fact.kind == nn.Linear.__name__]
    if past_tiles and hardware.named_layers is None:
        names = sorted({fact.name.rpartition(".")[2] for fact in past_tiles})
        raise UsageError(
            f"model.name: cannot lie on tiles as a whole: {past_tiles[0].unsupported_reason} ({', '.join(names)}); "
            "name the layers to put on tiles in hardware.layers, or use another model"
        )
    share = unsupported_share(facts)
    if share > hardware.max_unsupported_share:
        products = [fact for fact in facts if fact.multiplies and fact.unsupported_reason is not None]
        reason = max(products, key=lambda fact: fact.parameters).unsupported_reason
        raise UsageError(
            f"model.name: {share:.1%} of the weights that multiply inputs cannot lie on tiles ({reason}), more than "
            f"hardware.max_unsupported_share ({hardware.max_unsupported_share:.0%}): raise it to go on with the "
            "rest, or use another model"
        )
