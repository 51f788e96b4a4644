"""Construction of a model: from a configuration for training, or from a checkpoint for evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from analog_lora_cli.config import scope
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import CheckpointError, UsageError
from analog_lora_cli.hardware.kernels.dropout import install_fast_dropout
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise
from analog_lora_cli.models.adapters import (
    add_adapter,
    begin_at_weights,
    load_adapter,
    load_frozen_head,
    read_frozen_head,
)
from analog_lora_cli.models.conv1d import replace_conv1d
from analog_lora_cli.models.error_start import begin_with_correction
from analog_lora_cli.models.families import family_of
from analog_lora_cli.models.fingerprints import fingerprint
from analog_lora_cli.models.input_ranges import set_input_ranges
from analog_lora_cli.models.loaded import Head, LoadedModel, ParameterCounts, Programmed
from analog_lora_cli.models.loading import load_model, model_source
from analog_lora_cli.models.modules import module_facts
from analog_lora_cli.models.placement import require_tiles
from analog_lora_cli.models.processors import load_processor, processors_of
from analog_lora_cli.models.tiling import AnalogModel, put_on_tiles
from analog_lora_cli.runtime.ranks import rank
from analog_lora_cli.storage.checkpoint import Checkpoint
from analog_lora_cli.storage.layout import FIRST_ADAPTER, MODEL
from analog_lora_cli.tasks import make_task

if TYPE_CHECKING:
    from torch import Tensor

    from analog_lora_cli.tasks.base import Processor


@dataclass(frozen=True)
class TrainingModel:
    """A model that is ready to train."""

    loaded: LoadedModel
    analog: AnalogModel | None
    """The same model with its layers on tiles; None with `method: digital`, which has none there."""

    @property
    def input_ranges(self) -> dict[str, Tensor]:
        """The present ranges of the inputs of the layers on tiles, by layer; empty where they have none."""
        return {} if self.analog is None else self.analog.input_ranges()


def load_base(config: Config, base_checkpoint: Checkpoint | None = None) -> LoadedModel:
    """Load the pretrained model that a training starts from; it has no adapter yet.

    The head is drawn from `train.seed`, and so is the adapter, which comes next from torch's global generator.

    Args:
        config: configuration of the training.
        base_checkpoint: the checkpoint whose programmed weights a further adapter is trained for; None: a new
            deployment.

    Raises:
        UsageError: the configuration does not fit the model.
        HubError: model or processor cannot be fetched.
        CheckpointError: the pretrained weights are not those of `base_checkpoint`.
    """
    if config.trains_base and config.hardware.simulator == "aihwkit":
        raise UsageError(
            "hardware.simulator: aihwkit's tiles cannot be trained here; use simulator fast with method full"
        )
    source, revision = model_source(config.model), config.model.revision
    if base_checkpoint is None:
        loaded = load_plain(config, source, revision, load_processor(config, source, revision))
        if config.on_tiles:
            require_tiles(module_facts(loaded.plain), config.hardware)
        return loaded
    loaded = load_plain(config, source, revision, load_processor(config, str(base_checkpoint.folder)))
    expected = str(base_checkpoint.manifest["body_sha256"])
    _require_hash(loaded.fingerprint.body_sha256, expected, config.model.name, base_checkpoint)
    _require_same_config(loaded, base_checkpoint)
    layers = base_checkpoint.analog_layers
    return replace(loaded, programmed=Programmed(layers, frozenset(layers) or None))


def build(base: LoadedModel, base_checkpoint: Checkpoint | None = None, start: str | None = None) -> TrainingModel:
    """Make a pretrained model ready to train: adapters first, then tiles in the place of what they wrap.

    Args:
        base: result of `load_base`; its module is changed.
        base_checkpoint: as for `load_base`.
        start: adapter of `base_checkpoint` to start from; None: a new one.

    Raises:
        UsageError: the configuration does not fit the model, or the adapter has no error to begin with.
        CheckpointError: the weights on tiles are not those of the chip, or the adapter is damaged.
        DataError, HubError: the training data cannot be read, where adapter or ranges need them.
    """
    config = base.config
    # Adapters first: PEFT finds its targets in the plain model, as any other tool would. Then a tile takes the place of
    # each `base_layer`, and the adapter's own computation stays digital.
    loaded = with_adapter(base, base_checkpoint, start) if config.has_adapter else base
    if base_checkpoint is not None:
        kept = base_checkpoint.input_ranges(start or FIRST_ADAPTER, config.hardware)
        loaded = replace(loaded, input_ranges=kept)
    if config.adapter.begins_with_correction and start is None:
        begin_with_correction(loaded)
    analog = None
    if config.on_tiles:
        noise = TrainingNoise(config.train.seed, rank())
        analog = put_on_tiles(loaded, config.hardware, noise)
        set_input_ranges(analog, before_training=True)
        if start is None:
            begin_at_weights(loaded.module)
        if config.trains_base:
            for layer in analog.layers.values():
                layer.requires_grad_(True)
    # Last, because the adapters bring dropout layers too.
    install_fast_dropout(loaded.module, config.hardware)
    return TrainingModel(loaded, analog)


def with_adapter(base: LoadedModel, base_checkpoint: Checkpoint | None = None, start: str | None = None) -> LoadedModel:
    """Wrap a pretrained model with an adapter to train; arguments and errors as for `build`."""
    config, head = base.config, base.head
    if base_checkpoint is not None and start is not None:
        folder = base_checkpoint.adapter_folder(start)
        module = load_adapter(base.plain, folder, trainable=True)
        return replace(base, module=module, head=replace(head, frozen=read_frozen_head(folder)))
    if config.head == "random":
        if base_checkpoint is not None:
            # It lies on tiles, so the chip holds that of the first adapter and no other.
            load_frozen_head(base.plain, base_checkpoint.adapter_folder(FIRST_ADAPTER))
        parameters = dict(base.plain.named_parameters())
        frozen = {name: parameters[name].detach().clone().contiguous() for name in head.new_parameters}
        head = replace(head, frozen=frozen)
    module = add_adapter(base.plain, config, base.task, head.modules)
    return replace(base, module=module, head=head)


def build_from(checkpoint: Checkpoint, adapter: str, config: Config) -> LoadedModel:
    """Load the model of a checkpoint for evaluation.

    Args:
        checkpoint: folder of the training.
        adapter: name of the adapter; not used with `method: full`.
        config: the adapter's configuration, with hardware that may be another.

    Raises:
        CheckpointError: the pretrained weights are others than those of the training, or the adapter is damaged.
    """
    processor = load_processor(config, str(checkpoint.folder))
    loaded = (_trained_base if config.trains_base else _adapted_base)(checkpoint, adapter, config, processor)
    loaded.module.eval()
    return loaded


def _trained_base(checkpoint: Checkpoint, adapter: str, config: Config, processor: Processor) -> LoadedModel:
    folder = str(checkpoint.folder / MODEL)
    # The stored weights are clipped already; clipping them again would change them.
    config = config.model_copy(update={"hardware": config.hardware.model_copy(update={"clip_sigma": 0.0})})
    loaded = load_plain(config, folder, None, processor)
    _require_hash(loaded.fingerprint.base_sha256, checkpoint.manifest["model_sha256"], folder, checkpoint)
    return replace(loaded, input_ranges=checkpoint.input_ranges(adapter, config.hardware))


def _adapted_base(checkpoint: Checkpoint, adapter: str, config: Config, processor: Processor) -> LoadedModel:
    loaded = load_plain(config, model_source(config.model), config.model.revision, processor)
    expected = checkpoint.entry(adapter)["base_sha256"]
    _require_hash(loaded.fingerprint.base_sha256, expected, config.model.name, checkpoint)
    _require_same_config(loaded, checkpoint)
    module = load_adapter(loaded.plain, checkpoint.adapter_folder(adapter), trainable=False)
    same_mapping = _mapping(config) == _mapping(checkpoint.config_of(adapter))
    only = checkpoint.layers_on_chip(adapter, config)
    programmed = Programmed(checkpoint.analog_layers if same_mapping else {}, None if only is None else frozenset(only))
    ranges = checkpoint.input_ranges(adapter, config.hardware)
    return replace(loaded, module=module, programmed=programmed, input_ranges=ranges)


def load_plain(config: Config, source: str, revision: str | None, processor: Processor | None) -> LoadedModel:
    """Load pretrained weights with the task's head, drawn from `train.seed` where it is new.

    Args:
        config: configuration of the model and its task.
        source: folder or hub id of the weights.
        revision: revision of a repository on the hub.
        processor: result of `load_processor`; None where only the weights are asked for.

    Raises:
        HubError: the model cannot be fetched.
        UsageError: the weights do not fit the architecture, or processor or `task.max_length` the model.
    """
    from transformers import set_seed

    task = make_task(config.task, config.train.seed)
    set_seed(config.train.seed)
    model, new_parameters = load_model(task, source, revision, getattr(torch, config.model.dtype))
    conv1d = replace_conv1d(model)
    family = family_of(model.config)
    if processor is not None:
        processors_of(config).prepare(processor, config, source, model)
    heads = family.head_modules(model)
    return LoadedModel(
        config=config,
        task=task,
        processor=processor,
        module=model,
        family=family,
        head=Head(heads, new_parameters),
        fingerprint=fingerprint(model, heads, new_parameters),
        parameters=ParameterCounts(
            total=sum(p.numel() for p in model.parameters()),
            head=sum(p.numel() for head in heads for p in model.get_submodule(head).parameters()),
        ),
        conv1d=conv1d,
    )


def _require_hash(actual: str, expected: str, where: str, checkpoint: Checkpoint) -> None:
    if actual != expected:
        raise CheckpointError(
            f"{where}: these are not the weights that {checkpoint.folder} was trained with (sha256 {actual[:12]}..., "
            f"the manifest says {expected[:12]}...). Give the revision of the training with model.revision, or "
            "train again"
        )


def _require_same_config(loaded: LoadedModel, checkpoint: Checkpoint) -> None:
    actual: Mapping[str, object] = loaded.fingerprint.body_config
    expected: Mapping[str, object] = checkpoint.manifest["base_config"]
    # A key that one release of transformers knows and the other does not says nothing.
    changed = sorted(key for key in actual.keys() & expected.keys() if actual[key] != expected[key])
    if changed:
        key = changed[0]
        raise CheckpointError(
            f"{loaded.config.model.name}: config.json is not that of the training of {checkpoint.folder}: {key} is "
            f"{actual[key]!r}, the manifest says {expected[key]!r}; restore the model, or train again"
        )


def _mapping(config: Config) -> dict[str, object]:
    """Hardware keys that decide which weights lie on the tiles."""
    return scope.project(config.hardware, "mapping", "clipping")
