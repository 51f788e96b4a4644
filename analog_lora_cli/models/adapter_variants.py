"""Variants of adapters in PEFT, by the names of `adapter.variant`: a new one is a new entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analog_lora_cli.config.sections.adapter import AdaLoraSection, AdapterSection, LowRankSection
from analog_lora_cli.errors import UsageError

if TYPE_CHECKING:
    from peft import PeftConfig


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
class Variant:
    """One kind of adapter."""

    peft_config: Callable[[AdapterRequest], PeftConfig]
    continues: bool = True
    """Whether a training can start from a stored adapter."""


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


def _vera(request: AdapterRequest) -> PeftConfig:
    from peft import VeraConfig

    if request.excluded:
        raise UsageError("adapter.targets: PEFT's VeRA cannot leave the trained head out; name targets outside it")
    return VeraConfig(r=request.adapter.rank, vera_dropout=request.adapter.dropout, **request.common())


VARIANTS = {
    "lora": Variant(_lora),
    "rslora": Variant(_rslora),
    "dora": Variant(_dora),
    "lora+": Variant(_lora),  # It differs in the optimizer alone.
    "adalora": Variant(_adalora, continues=False),  # It has spread its ranks already.
    "vera": Variant(_vera),
}
"""Variants by the name of `adapter.variant`."""
