"""From a configuration to a model that is ready to train, or from a checkpoint to one that is ready to evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from analog_lora_cli.config import scope
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import CheckpointError, UsageError
from analog_lora_cli.hardware.kernels.dropout import install_fast_dropout
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise
from analog_lora_cli.models.adapters import add_adapter, load_adapter, load_frozen_head, read_frozen_head
from analog_lora_cli.models.families import family_of
from analog_lora_cli.models.fingerprints import fingerprint
from analog_lora_cli.models.loaded import Head, LoadedModel, ParameterCounts, Programmed
from analog_lora_cli.models.loading import load_model, load_tokenizer, model_source
from analog_lora_cli.models.tiling import AnalogModel, put_on_tiles
from analog_lora_cli.runtime.ranks import rank
from analog_lora_cli.storage.checkpoint import Checkpoint
from analog_lora_cli.storage.layout import FIRST_ADAPTER, MODEL
from analog_lora_cli.tasks import make_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class TrainingModel:
    """A model that is ready to train."""

    loaded: LoadedModel
    analog: AnalogModel | None
    """The same model with its layers on tiles; None with `method: digital`, which has none there."""


def load_base(config: Config, base_checkpoint: Checkpoint | None = None) -> LoadedModel:
    """Load the pretrained model that a training starts from; it has no adapter yet.

    The head starts from `train.seed`, as does what is drawn from torch's global generator next: the adapter.

    Args:
        config: the configuration.
        base_checkpoint: the checkpoint whose programmed weights a further adapter is trained for; None: a new
            deployment.

    Raises:
        UsageError: the configuration does not fit the model.
        HubError: model or tokenizer cannot be fetched.
        CheckpointError: the pretrained weights are not those of `base_checkpoint`.
    """
    if config.trains_base and config.hardware.simulator == "aihwkit":
        raise UsageError(
            "hardware.simulator: aihwkit's tiles cannot be trained here; use simulator fast with method full"
        )
    source, revision = model_source(config.model), config.model.revision
    if base_checkpoint is None:
        return load_plain(config, source, revision, load_tokenizer(source, revision))
    loaded = load_plain(config, source, revision, load_tokenizer(str(base_checkpoint.folder)))
    expected = str(base_checkpoint.manifest["body_sha256"])
    _require_hash(loaded.fingerprint.body_sha256, expected, config.model.name, base_checkpoint)
    _require_same_config(loaded, base_checkpoint)
    layers = base_checkpoint.analog_layers
    return replace(loaded, programmed=Programmed(layers, frozenset(layers) or None))


def build(base: LoadedModel, base_checkpoint: Checkpoint | None = None, start: str | None = None) -> TrainingModel:
    """Make a pretrained model ready to train: adapters first, then tiles in the place of what they wrap.

    Args:
        base: from `load_base`; its module is changed.
        base_checkpoint: as for `load_base`.
        start: the adapter of `base_checkpoint` to start from; None: a new one.

    Raises:
        UsageError: the configuration does not fit the model.
        CheckpointError: the weights on tiles are not those of the chip, or the adapter is damaged.
    """
    config = base.config
    loaded = with_adapter(base, base_checkpoint, start) if config.has_adapter else base
    analog = None
    if config.on_tiles:
        noise = TrainingNoise(config.train.seed, rank())
        analog = put_on_tiles(loaded, config.hardware, noise)
        if config.trains_base:
            for layer in analog.layers.values():
                layer.requires_grad_(True)
    install_fast_dropout(loaded.module, config.hardware)
    return TrainingModel(loaded, analog)


def with_adapter(base: LoadedModel, base_checkpoint: Checkpoint | None = None, start: str | None = None) -> LoadedModel:
    """Wrap a pretrained model with an adapter to train; arguments and errors as for `build`."""
    config, heads = base.config, base.head
    if base_checkpoint is not None and start is not None:
        folder = base_checkpoint.adapter_folder(start)
        module = load_adapter(base.plain, folder, trainable=True)
        return replace(base, module=module, head=replace(heads, frozen=read_frozen_head(folder)))
    if not config.adapter.train_head:
        if base_checkpoint is not None:
            load_frozen_head(base.plain, base_checkpoint.adapter_folder(FIRST_ADAPTER))
        new = set(heads.new_parameters)
        frozen = {name: p.detach().clone().contiguous() for name, p in base.plain.named_parameters() if name in new}
        heads = replace(heads, frozen=frozen)
    module = add_adapter(base.plain, config, base.task, heads.modules)
    return replace(base, module=module, head=heads)


def build_from(checkpoint: Checkpoint, adapter: str, config: Config) -> LoadedModel:
    """Load the model of a checkpoint for evaluation.

    Args:
        checkpoint: the checkpoint.
        adapter: which adapter; for `method: full` there is none.
        config: the adapter's configuration, hardware possibly changed.

    Raises:
        CheckpointError: the pretrained weights are others than those of the training, or the adapter is damaged.
    """
    tokenizer = load_tokenizer(str(checkpoint.folder))
    loaded = (_trained_base if config.trains_base else _adapted_base)(checkpoint, adapter, config, tokenizer)
    loaded.module.eval()
    return loaded


def _trained_base(
    checkpoint: Checkpoint, adapter: str, config: Config, tokenizer: PreTrainedTokenizerBase
) -> LoadedModel:
    folder = str(checkpoint.folder / MODEL)
    # The stored weights are clipped already; clipping them again would change them.
    config = config.model_copy(update={"hardware": config.hardware.model_copy(update={"clip_sigma": 0.0})})
    loaded = load_plain(config, folder, None, tokenizer)
    _require_hash(loaded.fingerprint.base_sha256, checkpoint.manifest["model_sha256"], folder, checkpoint)
    return loaded


def _adapted_base(
    checkpoint: Checkpoint, adapter: str, config: Config, tokenizer: PreTrainedTokenizerBase
) -> LoadedModel:
    loaded = load_plain(config, model_source(config.model), config.model.revision, tokenizer)
    expected = checkpoint.entry(adapter)["base_sha256"]
    _require_hash(loaded.fingerprint.base_sha256, expected, config.model.name, checkpoint)
    _require_same_config(loaded, checkpoint)
    module = load_adapter(loaded.plain, checkpoint.adapter_folder(adapter), trainable=False)
    same_mapping = _mapping(config) == _mapping(checkpoint.config_of(adapter))
    only = checkpoint.layers_on_chip(adapter, config)
    programmed = Programmed(checkpoint.analog_layers if same_mapping else {}, None if only is None else frozenset(only))
    return replace(loaded, module=module, programmed=programmed)


def load_plain(
    config: Config, source: str, revision: str | None, tokenizer: PreTrainedTokenizerBase | None
) -> LoadedModel:
    """Load pretrained weights with the task's head, drawn from `train.seed` where it is new.

    Args:
        config: the configuration.
        source: folder or hub id of the weights.
        revision: of a repository on the hub.
        tokenizer: the model's; None where only the weights are asked for.

    Raises:
        HubError: the model is not to be had.
        UsageError: the weights do not fit the architecture, or tokenizer or `task.max_length` the model.
    """
    from transformers import set_seed

    task = make_task(config.task, config.train.seed)
    set_seed(config.train.seed)
    model, new = load_model(task, source, revision)
    family = family_of(model.config)
    if tokenizer is not None:
        _check_lengths(config, source, model, tokenizer)
        tokenizer.padding_side = family.padding_side
    heads = family.head_modules(model)
    return LoadedModel(
        config=config,
        task=task,
        tokenizer=tokenizer,
        module=model,
        family=family,
        head=Head(heads, new),
        fingerprint=fingerprint(model, heads, new),
        parameters=ParameterCounts(
            total=sum(p.numel() for p in model.parameters()),
            head=sum(p.numel() for head in heads for p in model.get_submodule(head).parameters()),
        ),
    )


def _check_lengths(config: Config, source: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and config.task.max_length > longest:
        raise UsageError(
            f"task.max_length: {config.task.max_length} is more than the {longest} tokens that the model takes"
        )
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        raise UsageError(f"model.name: {source}: the tokenizer has {len(tokenizer)} tokens, the model only {known}")


def _require_hash(actual: str, expected: str, where: str, checkpoint: Checkpoint) -> None:
    if actual != expected:
        raise CheckpointError(
            f"{where}: these are not the weights that {checkpoint.folder} was trained with (sha256 {actual[:12]}..., "
            f"the manifest says {expected[:12]}...). Give the revision of the training with model.revision, or "
            "train again"
        )


def _require_same_config(loaded: LoadedModel, checkpoint: Checkpoint) -> None:
    actual: Mapping[str, Any] = loaded.fingerprint.body_config
    expected: Mapping[str, Any] = checkpoint.manifest["base_config"]
    # A key that one release of transformers knows and the other does not says nothing.
    changed = sorted(key for key in actual.keys() & expected.keys() if actual[key] != expected[key])
    if changed:
        key = changed[0]
        raise CheckpointError(
            f"{loaded.config.model.name}: config.json is not that of the training of {checkpoint.folder}: {key} is "
            f"{actual[key]!r}, the manifest says {expected[key]!r}; restore the model, or train again"
        )


def _mapping(config: Config) -> dict[str, Any]:
    """What decides which weights lie on the tiles."""
    return scope.project(config.hardware, "mapping", "clipping")
