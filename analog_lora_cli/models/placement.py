"""Which layer goes onto tiles, which stays digital, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import UsageError
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.mapping import Clipping, TileGrid, clip_weight
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise


@dataclass(frozen=True)
class PlacedLayer:
    """One module with weights of its own."""

    name: str
    kind: str
    """Class of the module in the plain model."""
    shape: list[int]
    parameters: int
    """Of the base, without adapters."""
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


@dataclass(frozen=True)
class ModuleFacts:
    """What decides where a module goes, and what is reported of it; independent of the hardware."""

    name: str
    kind: str
    """Class of the module in the plain model."""
    shape: list[int]
    parameters: int
    """Of the base, without adapters."""
    obstacle: str | None
    """Why tiles cannot hold it; None if they can."""
    shared: bool
    """Its weights are another module's, too."""
    adapter_parameters: int
    rank: int
    """Of the adapter; 0: none."""


@dataclass(frozen=True)
class _Candidate:
    """A module of the plain model and the places it hangs in the wrapped one."""

    name: str
    module: nn.Module
    parent: nn.Module
    attribute: str
    adapter_parameters: int
    rank: int = 0


def put_on_tiles(
    model: nn.Module,
    heads: list[str],
    hardware: HardwareConfig,
    noise: TrainingNoise | None,
    on_chip: set[str] | None = None,
) -> tuple[dict[str, Any], Placement]:
    """Replace linear layers, or the `base_layer` of adapted ones, by analog layers; clips their weights once.

    Args:
        model: the plain model (inside a PEFT model: its base model).
        heads: names of modules that stay digital because they are the trained head; empty: none.
        hardware: tiles, converters, and which layers.
        noise: training noise of all layers; None: no noise in training.
        on_chip: names of the layers that were programmed; others stay digital. None: no limit.

    Returns:
        the analog layers by their name in the plain model, and the table of all layers.

    Raises:
        UsageError: no layer can be mapped, or a pattern of `hardware.layers` matches nothing.
    """
    analog: dict[str, Any] = {}
    rows = []
    facts = module_facts(model)
    reasons = decide(facts, heads, hardware, on_chip)
    for candidate, fact in zip(list(_candidates(model)), facts, strict=True):
        clipping = None
        if not reasons[fact.name]:
            layer, clipping = _analog_layer(candidate.module, hardware, candidate.name, noise)
            setattr(candidate.parent, candidate.attribute, layer)
            analog[candidate.name] = layer
        rows.append(_row(fact, reasons[fact.name], hardware, clipping))
    return analog, Placement(rows)


def module_facts(model: nn.Module) -> list[ModuleFacts]:
    """The modules of a plain model that have weights of their own, with or without adapters around them."""
    shared = _shared_parameters(model)
    facts = []
    for candidate in _candidates(model):
        module = candidate.module
        weight = getattr(module, "weight", None)
        facts.append(
            ModuleFacts(
                name=candidate.name,
                kind=type(module).__name__,
                shape=list(weight.shape) if weight is not None else [],
                parameters=sum(p.numel() for p in module.parameters(recurse=False)),
                obstacle=_obstacle(module),
                shared=id(weight) in shared,
                adapter_parameters=candidate.adapter_parameters,
                rank=candidate.rank,
            )
        )
    return facts


def decide(
    facts: list[ModuleFacts], heads: list[str], hardware: HardwareConfig, on_chip: set[str] | None = None
) -> dict[str, str]:
    """Why each module stays digital, by name; empty for those that go onto tiles.

    Raises:
        UsageError: no layer can be mapped, or a pattern of `hardware.layers` matches nothing.
    """
    linear = [fact.name for fact in facts if fact.obstacle is None]
    chosen = set(linear) if hardware.layers is None else match_names(linear, hardware.layers, "hardware.layers")
    reasons = {}
    for fact in facts:
        reason = fact.obstacle or ""
        if not reason and any(_inside(fact.name, head) for head in heads):
            reason = "task head, trained"
        elif not reason and fact.shared:
            reason = "weights shared with another layer"
        elif not reason and fact.name not in chosen:
            reason = "not in hardware.layers"
        elif not reason and on_chip is not None and fact.name not in on_chip:
            reason = "not on this chip"
        reasons[fact.name] = reason
    if all(reasons.values()):
        raise UsageError(f"no layer of this model can be put on tiles: {_kinds(facts)}; expected torch.nn.Linear")
    return reasons


def plan(
    facts: list[ModuleFacts], heads: list[str], hardware: HardwareConfig, on_chip: set[str] | None = None
) -> Placement:
    """Where every layer would go: what `put_on_tiles` does to a model, without its weights, and so without clipping.

    Raises:
        UsageError: as `put_on_tiles`.
    """
    reasons = decide(facts, heads, hardware, on_chip)
    return Placement([_row(fact, reasons[fact.name], hardware, None) for fact in facts])


def match_names(names: list[str], patterns: list[str], key: str) -> set[str]:
    """Names that end in one of the dotted suffixes.

    Raises:
        UsageError: a pattern matches nothing.
    """
    chosen = set()
    for pattern in patterns:
        found = {name for name in names if name == pattern or name.endswith(f".{pattern}")}
        if not found:
            leaves = ", ".join(sorted({name.rpartition(".")[2] for name in names}))
            raise UsageError(f"{key}: {pattern!r} matches no linear layer of this model; their last names: {leaves}")
        chosen |= found
    return chosen


def linear_names(model: nn.Module) -> list[str]:
    """Names of all linear layers of a plain model that tiles can hold."""
    return list(linear_modules(model))


def linear_modules(model: nn.Module) -> dict[str, Any]:
    """All linear layers of a plain model that tiles can hold, adapted ones without their adapter, by name."""
    return {candidate.name: candidate.module for candidate in _candidates(model) if _obstacle(candidate.module) is None}


def _candidates(model: nn.Module) -> Iterator[_Candidate]:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    opened: str | None = None
    for name, module in model.named_modules():
        if opened is not None and _inside(name, opened):  # What lies inside a module follows right after it.
            continue
        parent, _, attribute = name.rpartition(".")
        if isinstance(module, BaseTunerLayer):
            opened = name
            base = module.get_base_layer()
            extra = sum(p.numel() for p in module.parameters()) - sum(p.numel() for p in base.parameters())
            yield _Candidate(name, base, module, "base_layer", extra, rank=max(module.r.values()))  # type: ignore[operator, union-attr]
        elif isinstance(module, ModulesToSaveWrapper):
            opened = name
            for inner, child in module.original_module.named_modules():
                if list(child.parameters(recurse=False)):
                    full = f"{name}.{inner}" if inner else name
                    yield _Candidate(full, child, module, "original_module", 0)
        elif list(module.parameters(recurse=False)):
            yield _Candidate(name, module, model.get_submodule(parent), attribute, 0)


def _inside(name: str, other: str) -> bool:
    return name == other or name.startswith(f"{other}.")


def _obstacle(module: nn.Module) -> str | None:
    """Why a module cannot lie on tiles; None if it can."""
    if type(module) is nn.Linear or isinstance(module, AnalogLinear):
        return None
    kind = type(module).__name__
    if isinstance(module, nn.Embedding):
        return "look-up table"
    if "Norm" in kind:
        return "normalisation"
    if kind == "Conv1D":
        return "Conv1D stores its matrix transposed: not supported on tiles"
    return f"{kind}: not a linear layer"


def _shared_parameters(model: nn.Module) -> set[int]:
    counts: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            counts[id(parameter)] = counts.get(id(parameter), 0) + 1
    return {identity for identity, count in counts.items() if count > 1}


def _analog_layer(
    linear: Any, hardware: HardwareConfig, name: str, noise: TrainingNoise | None
) -> tuple[Any, Clipping]:
    from analog_lora_cli.hardware.physics.aihwkit import AihwkitLinear

    weight: Tensor = linear.weight.detach()
    grid = TileGrid.of(weight.shape[0], weight.shape[1], hardware)
    clipped, clipping = clip_weight(weight, grid, hardware.clip_sigma, hardware.clip_scope)
    bias = None if linear.bias is None else linear.bias.detach().clone()
    build = AnalogLinear if hardware.simulator == "fast" else AihwkitLinear
    layer = build(clipped, bias, hardware, name, noise)
    layer.train(linear.training)
    return layer, clipping


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a module in the place of a linear layer, or of the one inside an adapter's layer.

    Args:
        model: the plain model (inside a PEFT model: its base model).
        name: the layer's name in it.
        layer: takes the place.
    """
    if hasattr(model.get_submodule(name), "base_layer"):
        name = f"{name}.base_layer"
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)


@torch.no_grad()
def clip_in_place(layers: dict[str, AnalogLinear]) -> None:
    """Clip the weights of trained layers again and take new column scales from them."""
    for layer in layers.values():
        hardware = layer.hardware
        clipped, _ = clip_weight(layer.weight, layer.grid, hardware.clip_sigma, hardware.clip_scope)
        layer.weight.copy_(clipped)
        layer.refresh_scales()


def _row(fact: ModuleFacts, reason: str, hardware: HardwareConfig, clipping: Clipping | None) -> PlacedLayer:
    grid = None if reason else TileGrid.of(fact.shape[0], fact.shape[1], hardware)
    return PlacedLayer(
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


def _kinds(facts: list[ModuleFacts]) -> str:
    kinds = sorted({fact.kind for fact in facts})
    return f"it has only {', '.join(kinds)}" if kinds else "it has no weights"
