"""The model that `inspect-tiles` looks at: its shapes alone, or its weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

from analog_lora_cli.config.schema import Config
from analog_lora_cli.inspection.shape_cache import keep_shapes, read_shapes, shape_key
from analog_lora_cli.models.adapters import add_adapter, load_adapter
from analog_lora_cli.models.build import Built, build_from
from analog_lora_cli.models.loading import head_modules, load_model, load_shapes, load_tokenizer, model_source
from analog_lora_cli.models.placement import ModuleFacts, module_facts
from analog_lora_cli.runtime.libraries import prepare_libraries
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.storage import layout
from analog_lora_cli.storage.files import read_json
from analog_lora_cli.tasks import make_task

TOTAL_STEPS = 1000
"""AdaLoRA wants to know the length of a training; no shape depends on it."""


@dataclass(frozen=True)
class Source:
    """Where a model comes from."""

    name: str
    """For titles."""
    config: Config
    """For a checkpoint its own, hardware possibly changed."""
    checkpoint: store.Checkpoint | None = None
    adapter: str = layout.FIRST_ADAPTER
    """Of the checkpoint."""


@dataclass(frozen=True)
class Shapes:
    """A model without its weights."""

    modules: list[ModuleFacts]
    heads: list[str]
    """Names of the head's modules that never lie on tiles."""
    on_chip: set[str] | None = None
    """Names of the layers that a checkpoint's chip holds; None: no limit."""


def shapes_of(source: Source) -> Shapes:
    """The shapes of a model and its adapters, from the configurations alone; kept for the next time.

    Raises:
        HubError: its configuration is not to be had.
        UsageError: the configuration does not fit the task, or a target matches nothing.
        CheckpointError: the adapter is damaged.
    """
    checkpoint = source.checkpoint
    if checkpoint is not None:
        return replace(_shapes(source), on_chip=checkpoint.layers_on_chip(source.adapter, source.config))
    key = shape_key(source.config)
    kept = read_shapes(key)
    if kept is not None:
        return Shapes(*kept)
    shapes = _shapes(source)
    keep_shapes(key, shapes.modules, shapes.heads)
    return shapes


def _shapes(source: Source) -> Shapes:
    prepare_libraries()
    config, checkpoint = source.config, source.checkpoint
    if checkpoint is not None and config.has_adapter and _pruned_by_rank(source):
        built = weights_of(source, with_tokenizer=False)
        return Shapes(module_facts(built.plain_model), built.digital_heads)
    task = make_task(config.task, config.train.seed)
    if checkpoint is not None and config.trains_base:
        model = load_shapes(task, str(checkpoint.folder / layout.MODEL))
    else:
        model = load_shapes(task, model_source(config.model), config.model.revision)
    built = Built(config, task, tokenizer=None, model=model, heads=head_modules(model), new_parameters=[])
    if config.has_adapter:
        built.model = _with_adapter(source, built)
    return Shapes(module_facts(built.plain_model), built.digital_heads)


def weights_of(source: Source, with_tokenizer: bool) -> Built:
    """The model with its weights and adapters, nothing on tiles: that of a checkpoint, or as a training would start.

    Args:
        source: what is asked for.
        with_tokenizer: for data; a model's folder need not have one otherwise.

    Raises:
        HubError, UsageError, CheckpointError: as `build` and `build_from`.
    """
    prepare_libraries()
    config, checkpoint = source.config, source.checkpoint
    if checkpoint is not None:
        return build_from(checkpoint, source.adapter, config)
    from transformers import set_seed

    task = make_task(config.task, config.train.seed)
    place = model_source(config.model)
    tokenizer = load_tokenizer(place, config.model.revision) if with_tokenizer else None
    set_seed(config.train.seed)
    model, new = load_model(task, place, config.model.revision)
    built = Built(config, task, tokenizer, model, head_modules(model), new)
    if config.has_adapter:
        built.model = _with_adapter(source, built)
    built.model.eval()
    return built


def _pruned_by_rank(source: Source) -> bool:
    """Whether PEFT needs the adapter's weights to know their shapes: AdaLoRA's ranks differ between layers."""
    assert source.checkpoint is not None
    file = source.checkpoint.adapter_folder(source.adapter) / "adapter_config.json"
    return bool(read_json(file).get("peft_type") == "ADALORA")


def _with_adapter(source: Source, built: Built) -> Any:
    if source.checkpoint is None:
        return add_adapter(built.model, source.config, built.task, built.heads, TOTAL_STEPS)
    with warnings.catch_warnings():
        # The stored tensors go nowhere on the meta device, which is what is wanted.
        warnings.filterwarnings("ignore", message=".*copying from a non-meta parameter.*")
        return load_adapter(built.model, source.checkpoint.adapter_folder(source.adapter), trainable=False)
