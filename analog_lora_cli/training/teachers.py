"""Teachers of a distillation: digital models whose forward passes leave the model in training as it was."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import nn

from analog_lora_cli.config import scope
from analog_lora_cli.config.sections.distillation import PRETRAINED, SELF
from analog_lora_cli.models.build import TrainingModel, build_from
from analog_lora_cli.models.tiling import put_on_tiles
from analog_lora_cli.storage.checkpoint import Checkpoint
from analog_lora_cli.storage.layout import FIRST_ADAPTER

if TYPE_CHECKING:
    from torch import Tensor
    from transformers.utils import ModelOutput

TEACHER = "teacher"
"""PEFT's name of a teacher's adapter in the model in training."""


class Teacher(ABC):
    """A digital model that answers the batches of a training."""

    @torch.no_grad()
    def answer(self, inputs: dict[str, Tensor]) -> ModelOutput:
        """The model's result for a batch without labels: no dropout, no tiles, no noise drawn."""
        with self._in_place() as module:
            result: ModelOutput = module(**inputs)
            return result

    @abstractmethod
    def _in_place(self) -> AbstractContextManager[nn.Module]:
        """The teacher inside the block, the model in training as it was after it."""


class SameWeights(Teacher):
    """The model in training with its tiles off, with its own adapter, none, or another one.

    Args:
        model: the model in training.
        adapter: `self`, `pretrained`, or PEFT's name of an adapter that the model holds.
    """

    def __init__(self, model: TrainingModel, adapter: str) -> None:
        self.model = model
        self.adapter = adapter

    @contextmanager
    def _in_place(self) -> Iterator[nn.Module]:
        module, analog = self.model.loaded.module, self.model.analog
        with _evaluating(module), nullcontext() if analog is None else analog.digital(), self._with_adapter():
            yield module

    @contextmanager
    def _with_adapter(self) -> Iterator[None]:
        module = self.model.loaded.module
        if self.adapter == SELF:
            yield
            return
        # PEFT also switches which parameters are trained.
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        try:
            if self.adapter == PRETRAINED:
                with module.disable_adapter():
                    yield
            else:
                module.set_adapter(self.adapter)
                yield
        finally:
            if self.adapter != PRETRAINED:
                module.set_adapter(FIRST_ADAPTER)
            module.requires_grad_(False)
            for parameter in trained:
                parameter.requires_grad_(True)


class OtherModel(Teacher):
    """A model of its own.

    Args:
        module: the model; used in evaluation mode, without gradients.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module.eval().requires_grad_(False)

    @contextmanager
    def _in_place(self) -> Iterator[nn.Module]:
        yield self.module


def make_teacher(name: str, model: TrainingModel, checkpoint: Checkpoint | None) -> Teacher:
    """The teacher that `objective.teacher` names.

    Args:
        name: `self`, `pretrained`, or a folder.
        model: the model in training.
        checkpoint: the folder's content; None without one.

    Raises:
        CheckpointError: the checkpoint's model or adapter cannot be loaded.
    """
    if checkpoint is None:
        return SameWeights(model, name)
    if _shares_weights(model, checkpoint):
        module = model.loaded.module
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        module.load_adapter(str(checkpoint.adapter_folder(FIRST_ADAPTER)), TEACHER, is_trainable=False)
        module.to(model.loaded.plain.device)
        module.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)
        return SameWeights(model, TEACHER)
    other = build_from(checkpoint, FIRST_ADAPTER, checkpoint.config)
    if checkpoint.config.on_tiles:
        for layer in put_on_tiles(other, checkpoint.config.hardware).layers.values():
            layer.analog = False
    return OtherModel(other.module.to(model.loaded.plain.device))


def _shares_weights(model: TrainingModel, checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint's digital model is that in training but for the adapter."""
    own, other, loaded = model.loaded.config, checkpoint.config, model.loaded
    if not (own.has_adapter and other.has_adapter) or "random" in (own.head, other.head):
        return False
    if own.adapter.variant != other.adapter.variant:  # PEFT's models hold adapters of one kind.
        return False
    if loaded.fingerprint.base_sha256 != checkpoint.entry(FIRST_ADAPTER)["base_sha256"]:
        return False
    clipped = [one.on_tiles and one.hardware.clip_sigma > 0 for one in (own, other)]
    ways = [scope.project(one.hardware, "mapping", "clipping") for one in (own, other)]
    return not any(clipped) or (all(clipped) and ways[0] == ways[1])


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; each module in its own mode after it."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
