"""The digital adapters: from the configuration to PEFT, and back from an adapter folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.adapter import AdapterSection
from analog_lora_cli.errors import CheckpointError, UsageError
from analog_lora_cli.models.adapter_variants import VARIANTS, AdapterRequest
from analog_lora_cli.models.modules import (
    has_suffix,
    is_inside,
    linear_modules,
    match_names,
    module_facts,
    no_linear_layer,
)
from analog_lora_cli.storage.layout import FROZEN_HEAD_FILE
from analog_lora_cli.tasks.base import Task

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def add_adapter(model: PreTrainedModel, config: Config, task: Task, heads: list[str]) -> PeftModel:
    """Wrap a plain model with a new adapter.

    Args:
        model: the pretrained model with its head.
        config: configuration of the training; its `adapter` counts.
        task: task that decides PEFT's task type.
        heads: names of the head's modules.

    Raises:
        UsageError: a target matches nothing.
    """
    from peft import get_peft_model

    adapter = config.adapter
    targets, excluded = adapter_targets(model, adapter, heads if config.head != "random" else [])
    task_type = task.peft_task_type if config.head != "random" else None
    request = AdapterRequest(adapter, targets, excluded, task_type, heads if config.head == "trained" else [])
    return get_peft_model(model, VARIANTS[adapter.variant].peft_config(request))


@torch.no_grad()
def begin_at_weights(module: nn.Module) -> None:
    """Let new adapters that hold the magnitudes of weights (DoRA) begin at those that lie on the tiles.

    PEFT has taken them from the weights before they were clipped; with these the model would not begin as its base.
    """
    from peft.tuners.lora import LoraLayer

    for layer in module.modules():
        if isinstance(layer, LoraLayer):
            for magnitude in layer.lora_magnitude_vector.values():
                magnitude.weight.copy_(layer.get_base_layer().weight.float().norm(dim=1))


def load_adapter(model: PreTrainedModel, folder: Path, trainable: bool) -> PeftModel:
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
        wrapped = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
        load_frozen_head(model, folder)
    except Exception as error:  # PEFT and safetensors raise whatever a damaged file makes them stumble over.
        raise CheckpointError(f"{folder}: the adapter cannot be loaded: {str(error).splitlines()[0]}") from error
    return wrapped


def load_frozen_head(model: nn.Module, folder: Path) -> None:
    """Give the model the frozen random head that an adapter was trained with, if it has one."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in read_frozen_head(folder).items():
            module, _, kind = name.rpartition(".")
            parameter = parameters[name if name in parameters else f"{module}.base_layer.{kind}"]
            parameter.copy_(tensor)


def read_frozen_head(folder: Path) -> dict[str, Tensor]:
    """The tensors of a frozen random head by their names; empty if the adapter has none."""
    from safetensors.torch import load_file

    return load_file(str(folder / FROZEN_HEAD_FILE)) if (folder / FROZEN_HEAD_FILE).is_file() else {}


def adapter_targets(model: nn.Module, adapter: AdapterSection, heads: list[str]) -> tuple[list[str], list[str]]:
    """The suffixes that PEFT adapts, and the full names among them that it must leave out.

    Args:
        model: the plain model.
        adapter: the `adapter` section.
        heads: names of the modules of a digital head, which gets no adapter; empty where it may have one.

    Raises:
        UsageError: a target matches no linear layer, or only the head.
    """
    reason = no_linear_layer(module_facts(model), heads)
    if reason is not None:
        raise UsageError(f"model.name: no layer of this model can have an adapter: {reason}; expected torch.nn.Linear")
    names = list(linear_modules(model))
    in_head = {name for name in names if is_inside(name, heads)}
    patterns = adapter.targets
    if patterns is None:
        patterns = sorted({name.rpartition(".")[2] for name in names if name not in in_head})
    matches = match_names(names, patterns, "adapter.targets")
    head_matches = matches & in_head
    targets = matches - head_matches
    if not targets:
        raise UsageError(
            "adapter.targets: only the digital head matches; name a layer of the model, or use null for all"
        )
    # PEFT matches suffixes in the head too. One that matches nothing else is dropped, so that no name needs excluding
    # for its sake: VeRA cannot exclude names.
    suffixes = [pattern for pattern in patterns if any(has_suffix(name, pattern) for name in targets)]
    return suffixes, sorted(name for name in head_matches if any(has_suffix(name, suffix) for suffix in suffixes))
