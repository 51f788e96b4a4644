"""A loaded model: pretrained weights, task head, adapters; all layers digital."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from analog_lora_cli.config.schema import Config
from analog_lora_cli.models.conv1d import original_state
from analog_lora_cli.models.families import Family
from analog_lora_cli.tasks.base import Task

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from analog_lora_cli.tasks.base import Processor


@dataclass(frozen=True)
class Head:
    """The task's head."""

    modules: list[str]
    """Names of its modules in the plain model."""
    new_parameters: list[str]
    """Names of the parameters that the pretrained weights do not have."""
    frozen: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors of a random head that is never trained (`train_head: false`), by parameter name, before clipping."""


@dataclass(frozen=True)
class Fingerprint:
    """Identity of the pretrained weights, as the manifest of a checkpoint keeps it."""

    base_sha256: str
    """Hash of the pretrained weights, before clipping, without what is new in this model."""
    body_sha256: str
    """Hash of that part of them which the models of all tasks have: without head and pooler."""
    body_config: Mapping[str, object]
    """Entries of config.json about that part, before anything is trained."""


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters of the plain model, adapters not counted."""

    total: int
    """All of them, head included."""
    head: int


@dataclass(frozen=True)
class Programmed:
    """Weights that the chip of a checkpoint was programmed with, so that no others are simulated in their place."""

    sha256: Mapping[str, str] = field(default_factory=dict)
    """Hash of each layer's weights, by its name; empty where nothing is known, or another mapping is asked for."""
    only: frozenset[str] | None = None
    """Names of the layers on the chip, outside which nothing may lie on tiles; None: no limit."""


@dataclass(frozen=True)
class LoadedModel:
    """A model with its task and processor, all layers digital."""

    config: Config
    task: Task
    processor: Processor | None
    """The tokenizer, or the image processor. None where only shapes and weights were asked for: a
    model folder need not have one."""
    module: PeftModel | PreTrainedModel
    """PEFT's wrapper around the model; the plain model before it has an adapter, and with `method: full`."""
    family: Family
    head: Head
    fingerprint: Fingerprint
    parameters: ParameterCounts
    conv1d: tuple[str, ...] = ()
    """Names of the linear layers that are `Conv1D` in transformers' own model."""
    programmed: Programmed = Programmed()
    input_ranges: Mapping[str, Tensor] = field(default_factory=dict)
    """(rows of tiles,) by layer on tiles: ranges of its inputs that a checkpoint has for this hardware; else empty."""

    @property
    def plain(self) -> PreTrainedModel:
        """The transformers model inside PEFT's wrapper; the model itself if there is none."""
        return plain_model(self.module)

    def original_state(self) -> dict[str, Tensor]:
        """The tensors of the plain model by name, as transformers' own model has them."""
        return original_state(self.plain, self.conv1d)

    @property
    def digital_heads(self) -> dict[str, str]:
        """Reasons why modules of the head never lie on tiles, by name."""
        return self.family.digital_heads(self.config, self.head.modules)

    @property
    def trainable_parameters(self) -> int:
        """Number of the parameters that the optimizer sees."""
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad)


def plain_model(module: PeftModel | PreTrainedModel) -> PreTrainedModel:
    """The transformers model inside PEFT's wrapper; the model itself if there is none."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module
