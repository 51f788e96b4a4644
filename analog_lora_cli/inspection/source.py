"""The model that `inspect-tiles` looks at: its shapes alone, or its weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from analog_lora_cli.config.schema import Config
from analog_lora_cli.inspection.attention import AttentionShape, attention_shape
from analog_lora_cli.inspection.shape_cache import keep_shapes, read_shapes, shape_key
from analog_lora_cli.models.adapters import add_adapter, load_adapter
from analog_lora_cli.models.build import build_from, load_plain
from analog_lora_cli.models.conv1d import replace_conv1d
from analog_lora_cli.models.families import family_of
from analog_lora_cli.models.loaded import LoadedModel, plain_model
from analog_lora_cli.models.loading import load_shapes, model_source
from analog_lora_cli.models.modules import ModuleFacts, module_facts
from analog_lora_cli.models.processors import load_processor
from analog_lora_cli.runtime.libraries import prepare_libraries
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.storage import layout
from analog_lora_cli.storage.files import read_json
from analog_lora_cli.tasks import make_task
from analog_lora_cli.tasks.base import Task

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Source:
    """Model to inspect: an adapter of a checkpoint, or a configuration."""

    name: str
    """Name for titles."""
    config: Config
    """Configuration; with a checkpoint its own, hardware possibly changed."""
    checkpoint: store.Checkpoint | None = None
    adapter: str = layout.FIRST_ADAPTER
    """Name of the checkpoint's adapter."""


@dataclass(frozen=True)
class Shapes:
    """A model without its weights."""

    modules: list[ModuleFacts]
    heads: dict[str, str]
    """Reasons why modules of the head never lie on tiles, by name."""
    attention: AttentionShape | None
    """Size of its attention; None if it has none."""
    on_chip: frozenset[str] | None = None
    """Names of the layers that a checkpoint's chip holds; None: no limit."""


def shapes_of(source: Source) -> Shapes:
    """The shapes of a model and its adapters, from the configurations alone; kept for the next time.

    Raises:
        HubError: its configuration cannot be downloaded.
        UsageError: the configuration does not fit the task, or a target matches nothing.
        CheckpointError: the adapter is damaged.
    """
    checkpoint = source.checkpoint
    if checkpoint is not None:
        only = checkpoint.layers_on_chip(source.adapter, source.config)
        return replace(_shapes(source), on_chip=None if only is None else frozenset(only))
    key = shape_key(source.config)
    cached = read_shapes(key)
    if cached is not None:
        return Shapes(*cached)
    shapes = _shapes(source)
    keep_shapes(key, shapes.modules, shapes.heads, shapes.attention)
    return shapes


def _shapes(source: Source) -> Shapes:
    prepare_libraries()
    config, checkpoint = source.config, source.checkpoint
    if checkpoint is not None and config.has_adapter and _pruned_by_rank(source):
        loaded = weights_of(source, with_processor=False)
        return Shapes(module_facts(loaded.plain), loaded.digital_heads, attention_shape(loaded.plain.config))
    task = make_task(config.task, config.train.seed)
    if checkpoint is not None and config.trains_base:
        model = load_shapes(task, str(checkpoint.folder / layout.MODEL))
    else:
        model = load_shapes(task, model_source(config.model), config.model.revision)
    replace_conv1d(model)
    family = family_of(model.config)
    heads = family.head_modules(model)
    with torch.device("meta"):  # PEFT would make the adapters' weights, which are as much as a small model.
        plain = plain_model(_with_adapter(source, model, task, heads)) if config.has_adapter else model
    return Shapes(module_facts(plain), family.digital_heads(config, heads), attention_shape(model.config))


def weights_of(source: Source, with_processor: bool) -> LoadedModel:
    """The model with its weights and adapters, nothing on tiles: that of a checkpoint, or as a training would start.

    Args:
        source: the model.
        with_processor: load the processor too, which data need; a model's folder need not have one otherwise.

    Raises:
        HubError, UsageError, CheckpointError: as `load_base`, `build` and `build_from`.
    """
    prepare_libraries()
    config, checkpoint = source.config, source.checkpoint
    if checkpoint is not None:
        return build_from(checkpoint, source.adapter, config)
    folder, revision = model_source(config.model), config.model.revision
    processor = load_processor(config, folder, revision) if with_processor else None
    loaded = load_plain(config, folder, revision, processor)
    if config.has_adapter:
        module = _with_adapter(source, loaded.plain, loaded.task, loaded.head.modules)
        loaded = replace(loaded, module=module)
    loaded.module.eval()
    return loaded


def _pruned_by_rank(source: Source) -> bool:
    """Whether PEFT needs the adapter's weights to know their shapes: AdaLoRA's ranks differ between layers."""
    assert source.checkpoint is not None
    file = source.checkpoint.adapter_folder(source.adapter) / "adapter_config.json"
    return bool(read_json(file).get("peft_type") == "ADALORA")


def _with_adapter(source: Source, model: PreTrainedModel, task: Task, heads: list[str]) -> PeftModel:
    if source.checkpoint is None:
        return add_adapter(model, source.config, task, heads)
    with warnings.catch_warnings():
        # On the meta device the stored tensors are ignored, as they should be.
        warnings.filterwarnings("ignore", message=".*copying from a non-meta parameter.*")
        return load_adapter(model, source.checkpoint.adapter_folder(source.adapter), trainable=False)
