"""The digital adapters: from the configuration to PEFT, and back from an adapter folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from analog_lora_cli.config.schema import AdapterConfig, Config
from analog_lora_cli.errors import CheckpointError, UsageError
from analog_lora_cli.models.placement import linear_names, match_names
from analog_lora_cli.storage.layout import FROZEN_HEAD_FILE
from analog_lora_cli.tasks.base import Task


def add_adapter(model: nn.Module, config: Config, task: Task, heads: list[str], total_steps: int) -> Any:
    """Wrap a plain model with a new adapter.

    Args:
        model: the pretrained model with its head.
        config: `adapter` is used.
        task: decides PEFT's task type.
        heads: names of the head's modules.
        total_steps: optimizer steps of the run; AdaLoRA spreads its budget over them.

    Raises:
        UsageError: a target matches nothing.
    """
    from peft import get_peft_model

    targets, excluded = adapter_targets(model, config.adapter, heads)
    peft_config = _peft_config(config.adapter, targets, excluded, task, heads, total_steps)
    return get_peft_model(model, peft_config)  # type: ignore[arg-type]


def load_adapter(model: nn.Module, folder: Path, trainable: bool) -> Any:
    """Wrap a plain model with a stored adapter, its head included.

    Raises:
        CheckpointError: the folder is not an adapter of this model, or is damaged.
    """
    from peft import PeftModel

    if not (folder / "adapter_config.json").is_file() or not (folder / "adapter_model.safetensors").is_file():
        raise CheckpointError(
            f"{folder}: not an adapter folder: adapter_config.json or adapter_model.safetensors is missing"
        )
    try:
        wrapped = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)  # type: ignore[arg-type]
        load_frozen_head(model, folder)
    except Exception as error:  # PEFT and safetensors raise whatever a damaged file makes them stumble over.
        raise CheckpointError(f"{folder}: the adapter cannot be loaded: {str(error).splitlines()[0]}") from error
    return wrapped


def load_frozen_head(model: nn.Module, folder: Path) -> None:
    """Give the model the frozen random head that an adapter was trained with, if it has one."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in read_frozen_head(folder).items():
            wrapped = name.rpartition(".")
            parameters.get(name, parameters.get(f"{wrapped[0]}.base_layer.{wrapped[2]}")).copy_(tensor)  # type: ignore[union-attr]


def read_frozen_head(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a frozen random head by their names; empty if the adapter has none."""
    from safetensors.torch import load_file

    return load_file(str(folder / FROZEN_HEAD_FILE)) if (folder / FROZEN_HEAD_FILE).is_file() else {}


def adapter_targets(model: nn.Module, adapter: AdapterConfig, heads: list[str]) -> tuple[list[str], list[str]]:
    """The suffixes that PEFT adapts, and the full names among them that it must leave out.

    Raises:
        UsageError: a target matches no linear layer, or only the trained head.
    """
    names = linear_names(model)
    in_head = {name for name in names if any(name == head or name.startswith(f"{head}.") for head in heads)}
    patterns = adapter.targets
    if patterns is None:
        patterns = sorted({name.rpartition(".")[2] for name in names if name not in in_head or not adapter.train_head})
    chosen = match_names(names, patterns, "adapter.targets")
    excluded = sorted(chosen & in_head) if adapter.train_head else []
    if not chosen - set(excluded):
        raise UsageError(
            "adapter.targets: only the trained head matches; name a layer of the model, or use null for all"
        )
    kept = [p for p in patterns if any(n == p or n.endswith(f".{p}") for n in chosen - set(excluded))]
    return kept, [name for name in excluded if any(name == p or name.endswith(f".{p}") for p in kept)]


def _peft_config(
    adapter: AdapterConfig, targets: list[str], excluded: list[str], task: Task, heads: list[str], total_steps: int
) -> Any:
    import peft

    common: dict[str, Any] = {"target_modules": targets}
    if excluded:
        common["exclude_modules"] = excluded
    if adapter.train_head:
        common["modules_to_save"] = heads
        # PEFT's class for question answering takes token_type_ids and does not pass them on to the model (0.21), the
        # plain one passes everything on.
        if not task.config.name.startswith("squad"):
            common["task_type"] = "SEQ_CLS"
    if adapter.variant == "vera":
        if common.pop("exclude_modules", None):
            raise UsageError("adapter.targets: PEFT's VeRA cannot leave the trained head out; name targets outside it")
        return peft.VeraConfig(r=adapter.rank, vera_dropout=adapter.dropout, **common)
    common |= {
        "r": adapter.rank,
        "lora_alpha": _whole(adapter.alpha),
        "lora_dropout": adapter.dropout,
        "init_lora_weights": "gaussian" if adapter.init == "gaussian" else True,
    }
    if adapter.variant == "adalora":
        return peft.AdaLoraConfig(
            init_r=adapter.adalora_init_rank or -(-3 * adapter.rank // 2),
            target_r=adapter.rank,
            total_step=total_steps,
            # A tenth of the steps at full rank, and the last three tenths at the final one.
            tinit=total_steps // 10,
            tfinal=total_steps * 3 // 10,
            **common,
        )
    return peft.LoraConfig(use_rslora=adapter.variant == "rslora", use_dora=adapter.variant == "dora", **common)


def _whole(alpha: float) -> float | int:
    return int(alpha) if alpha == int(alpha) else alpha
