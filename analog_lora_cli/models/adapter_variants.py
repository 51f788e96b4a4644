"""Variants of adapters in PEFT, by the names of `adapter.variant`: a new one is a new entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analog_lora_cli.config.sections.adapter import AdaLoraSection, AdapterSection, LowRankSection
from analog_lora_cli.errors import UsageError

if TYPE_CHECKING:
    from peft import PeftConfig
    from peft.tuners.lora import LoraLayer
    from torch import Tensor


@dataclass(frozen=True)
class AdapterRequest:
    """Ingredients of PEFT's configuration of an adapter."""

    adapter: AdapterSection
    targets: list[str]
    """Suffixes of the layers to adapt."""
    excluded: list[str]
    """Full names of the layers to leave out in spite of their suffix."""
    task_type: str | None
    """PEFT's name of the kind of task; None: its general class."""
    heads: list[str]
    """Names of the modules of a head that is trained with the adapter; empty where it is frozen."""

    def common(self) -> dict[str, object]:
        """Arguments of every configuration class of PEFT."""
        arguments: dict[str, object] = {"target_modules": self.targets}
        if self.excluded:
            arguments["exclude_modules"] = self.excluded
        if self.heads:
            arguments["modules_to_save"] = list(self.heads)  # PEFT adds names to it.
        if self.task_type is not None:
            arguments["task_type"] = self.task_type
        return arguments

    def lora(self) -> dict[str, object]:
        """Arguments of LoraConfig and the classes derived from it."""
        adapter = self.adapter
        assert isinstance(adapter, LowRankSection)
        alpha = adapter.alpha
        return {
            **self.common(),
            "r": adapter.rank,
            # PEFT declares an integer; a fraction works all the same.
            "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
            "lora_dropout": adapter.dropout,
            "init_lora_weights": "gaussian" if adapter.init == "gaussian" else True,
        }


@dataclass(frozen=True)
class Factors:
    """What an adapter adds to a layer's product, as one of two matrices with scale 1."""

    before: Tensor
    """(rank, in_features)."""
    after: Tensor
    """(out_features, rank)."""


@dataclass(frozen=True)
class Variant:
    """One kind of adapter."""

    peft_config: Callable[[AdapterRequest], PeftConfig]
    continues: bool = True
    """Whether a training can start from a stored adapter."""
    factors: Callable[[LoraLayer], Factors] | None = None
    """What PEFT's layer adds with its active adapter; None: no sum of few factors, for the reason `no_sum`."""
    no_sum: str = ""
    """Why a correction cannot be added to it; completes "it ..."."""


def _lora(request: AdapterRequest) -> PeftConfig:
    from peft import LoraConfig

    return LoraConfig(**request.lora())


def _rslora(request: AdapterRequest) -> PeftConfig:
    from peft import LoraConfig

    return LoraConfig(use_rslora=True, **request.lora())


def _dora(request: AdapterRequest) -> PeftConfig:
    from peft import LoraConfig

    return LoraConfig(use_dora=True, **request.lora())


def _adalora(request: AdapterRequest) -> PeftConfig:
    from peft import AdaLoraConfig

    adapter = request.adapter
    assert isinstance(adapter, AdaLoraSection)
    return AdaLoraConfig(
        init_r=adapter.start_rank,
        target_r=adapter.rank,
        # PEFT insists on a number; the training spreads the budget over its steps when it begins.
        total_step=1,
        **request.lora(),
    )


def _lora_factors(layer: LoraLayer) -> Factors:
    name = layer.active_adapters[0]
    return Factors(layer.lora_A[name].weight.detach(), layer.lora_B[name].weight.detach() * layer.scaling[name])


def _adalora_factors(layer: LoraLayer) -> Factors:
    """PEFT's product B (E A) scaling / (rank + 1e-5), directions that the budget has cut (E = 0) left out."""
    name = layer.active_adapters[0]
    strength = layer.lora_E[name].detach()
    kept = strength[:, 0] != 0
    scale = layer.scaling[name] / (layer.ranknum[name] + 1e-5)
    before, after = layer.lora_A[name].detach() * strength, layer.lora_B[name].detach() * scale
    return Factors(before[kept], after[:, kept])


def _vera(request: AdapterRequest) -> PeftConfig:
    from peft import VeraConfig

    if request.excluded:
        raise UsageError("adapter.targets: PEFT's VeRA cannot leave the trained head out; name targets outside it")
    return VeraConfig(r=request.adapter.rank, vera_dropout=request.adapter.dropout, **request.common())


VARIANTS = {
    "lora": Variant(_lora, factors=_lora_factors),
    "rslora": Variant(_rslora, factors=_lora_factors),
    "dora": Variant(_dora, no_sum="scales each output of the layer anew, so that what is added is scaled too"),
    "lora+": Variant(_lora, factors=_lora_factors),  # It differs in the optimizer alone.
    # It has spread its ranks already.
    "adalora": Variant(_adalora, continues=False, factors=_adalora_factors),
    "vera": Variant(
        _vera, no_sum="has one pair of random projections for all layers, and no matrices of a layer's own"
    ),
}
"""Variants by the name of `adapter.variant`."""
