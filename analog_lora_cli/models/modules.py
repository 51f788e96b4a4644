"""The modules of a model that have weights of their own, inside or outside PEFT's wrappers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from analog_lora_cli.errors import UsageError
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.models.raw_weights import handed_on

HANDED_ON = "hands its weights to a fused kernel, which would compute digitally"
"""Reason why a layer cannot lie on tiles, after the name of the class that holds it."""


@dataclass(frozen=True)
class ModuleFacts:
    """Facts that decide on the placement of a module, and those that reports show; independent of the hardware."""

    name: str
    kind: str
    """Class of the module in the plain model."""
    shape: list[int]
    parameters: int
    """Number of parameters of the base, without adapters, and without those that a module before it has."""
    unsupported_reason: str | None
    """Reason why tiles cannot hold it; None if they can."""
    multiplies: bool
    """Whether it multiplies its inputs with a matrix, as tiles do; a look-up table does not."""
    shared: bool
    """Whether its weights are tied: another module has them too."""
    adapter_parameters: int
    rank: int
    """Adapter rank; 0 if the layer has none."""


@dataclass(frozen=True)
class WeightModule:
    """A module of the plain model, and its position in the wrapped one."""

    name: str
    """Its name in the plain model."""
    module: nn.Module
    parent: nn.Module
    attribute: str
    """Name of the parent's attribute that holds it."""
    user: nn.Module
    """The module of the plain model that calls it."""
    adapter_parameters: int = 0
    rank: int = 0

    @property
    def unsupported_reason(self) -> str | None:
        """Reason why tiles cannot hold it; None if they can."""
        kind: type = type(self.user)
        if isinstance(self.module, nn.Linear) and self.name.rpartition(".")[2] in handed_on(kind):
            return f"{kind.__name__} {HANDED_ON}"
        return unsupported_reason(self.module)

    def replace(self, layer: nn.Module) -> None:
        """Put another module in its place."""
        setattr(self.parent, self.attribute, layer)


def weight_modules(model: nn.Module) -> Iterator[WeightModule]:
    """All modules of a plain model that have weights of their own, as they are without PEFT.

    PEFT has wrapped some in place: the layer that tiles can hold is then the `base_layer` of its adapter layer, and a
    trained head has its pretrained part in `original_module`. What else lies in a wrapper belongs to the adapter.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    wrapper: list[str] = []
    """Name of the last wrapper, if any."""
    for name, module in model.named_modules():
        # `named_modules` lists the inside of a module right after it, so one wrapper at a time is enough.
        if is_inside(name, wrapper):
            continue
        parent, _, attribute = name.rpartition(".")
        user = model.get_submodule(parent)
        if isinstance(module, BaseTunerLayer):
            wrapper = [name]
            base = module.get_base_layer()
            extra = sum(p.numel() for p in module.parameters()) - sum(p.numel() for p in base.parameters())
            rank = max(module.r.values())  # type: ignore[operator, union-attr]
            yield WeightModule(name, base, module, "base_layer", user, extra, rank)
        elif isinstance(module, ModulesToSaveWrapper):
            wrapper = [name]
            for inner, child in module.original_module.named_modules():
                if list(child.parameters(recurse=False)):
                    holder, _, attribute = f"original_module.{inner}".rstrip(".").rpartition(".")
                    parent_module = module.get_submodule(holder)
                    full_name = f"{name}.{inner}" if inner else name
                    yield WeightModule(full_name, child, parent_module, attribute, parent_module if inner else user)
        elif list(module.parameters(recurse=False)):
            yield WeightModule(name, module, user, attribute, user)


def module_facts(model: nn.Module) -> list[ModuleFacts]:
    """The modules of a plain model that have weights of their own, with or without adapters around them."""
    tied = _tied_parameters(model)
    facts, counted = [], set[int]()
    for item in weight_modules(model):
        parameters = list(item.module.parameters(recurse=False))
        weight = getattr(item.module, "weight", None)
        largest = weight if weight is not None else max(parameters, key=Tensor.numel)
        own = {id(p): p.numel() for p in parameters if id(p) not in counted}
        counted |= own.keys()
        facts.append(
            ModuleFacts(
                name=item.name,
                kind=type(item.module).__name__,
                shape=list(largest.shape),
                parameters=sum(own.values()),
                unsupported_reason=item.unsupported_reason,
                multiplies=any(map(_multiplies, parameters)) and not isinstance(item.module, nn.Embedding),
                shared=id(weight) in tied,
                adapter_parameters=item.adapter_parameters,
                rank=item.rank,
            )
        )
    return facts


def linear_modules(model: nn.Module) -> dict[str, nn.Linear]:
    """All linear layers of a plain model that tiles can hold, adapted ones without their adapter, by name."""
    return {
        item.name: item.module
        for item in weight_modules(model)
        if isinstance(item.module, nn.Linear) and item.unsupported_reason is None
    }


def unsupported_reason(module: nn.Module) -> str | None:
    """Reason why a module cannot lie on tiles; None if it can."""
    if type(module) is nn.Linear or isinstance(module, AnalogLinear):
        return None
    kind = type(module).__name__
    if isinstance(module, nn.Embedding):
        return "look-up table"
    if "Norm" in kind:
        return "normalisation"
    stacks = [parameter for parameter in module.parameters(recurse=False) if parameter.dim() == 3]
    if any(map(_multiplies, stacks)):
        return f"{kind}: matrices of experts in one 3-D parameter, no linear layers"
    return f"{kind}: tokens and positions, added to the inputs" if stacks else f"{kind}: not a linear layer"


def _multiplies(parameter: Tensor) -> bool:
    """Whether a parameter holds matrices. Positions of all tokens, (1, tokens, width), are added to each input."""
    return parameter.dim() == 2 or (parameter.dim() > 2 and parameter.shape[0] > 1)


def no_linear_layer(facts: list[ModuleFacts], heads: Iterable[str]) -> str | None:
    """Reason why no layer of a model's body can be mapped or adapted, for an error; None if one can.

    Args:
        facts: result of `module_facts`.
        heads: names of the head's modules.
    """
    body = [fact for fact in facts if not is_inside(fact.name, heads)]
    if any(fact.unsupported_reason is None for fact in body):
        return None
    # Of all that cannot be mapped, the matrices are what one would expect on tiles.
    matrices = [fact for fact in body if len(fact.shape) == 2 and fact.kind != "Embedding"] or body
    reasons = sorted({fact.unsupported_reason for fact in matrices if fact.unsupported_reason is not None})
    return "; ".join(reasons) or "it has no weights"


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Replace a linear layer, or the one inside an adapter's layer.

    Args:
        model: the plain model (inside a PEFT model: its base model).
        name: the layer's name in it.
        layer: module to put there.
    """
    if hasattr(model.get_submodule(name), "base_layer"):
        name = f"{name}.base_layer"
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)


@contextmanager
def inputs_to(layers: Mapping[str, nn.Module], receive: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Hand the input of each layer to a function whenever the layer computes inside the block.

    Args:
        layers: the layers by name.
        receive: function of the layer's name and its input, (..., in_features).
    """
    with ExitStack() as hooks:
        for name, layer in layers.items():
            handle = layer.register_forward_pre_hook(lambda _, inputs, name=name: receive(name, inputs[0]))
            hooks.callback(handle.remove)
        yield


def match_names(names: list[str], patterns: list[str], key: str) -> set[str]:
    """Names that end in one of the dotted suffixes.

    Raises:
        UsageError: a pattern matches nothing.
    """
    matches = set()
    for pattern in patterns:
        matching = {name for name in names if has_suffix(name, pattern)}
        if not matching:
            leaves = ", ".join(sorted({name.rpartition(".")[2] for name in names}))
            raise UsageError(f"{key}: {pattern!r} matches no linear layer of this model; their last names: {leaves}")
        matches |= matching
    return matches


def has_suffix(name: str, suffix: str) -> bool:
    """Whether a dotted name ends in a dotted suffix, or is the same."""
    return name == suffix or name.endswith(f".{suffix}")


def is_inside(name: str, modules: Iterable[str]) -> bool:
    """Whether a name is that of one of the modules, or of something in it."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _tied_parameters(model: nn.Module) -> set[int]:
    """Identities of the parameters that several modules hold."""
    counts: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            counts[id(parameter)] = counts.get(id(parameter), 0) + 1
    return {identity for identity, count in counts.items() if count > 1}
