"""From a configuration to a model that is ready to train or to evaluate."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from analog_lora_cli.config.schema import Config, HardwareConfig
from analog_lora_cli.errors import CheckpointError, UsageError
from analog_lora_cli.hardware.kernels.dropout import use_cheap_dropout
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise
from analog_lora_cli.models.adapters import add_adapter, load_adapter, load_frozen_head, read_frozen_head
from analog_lora_cli.models.loading import (
    body_config,
    body_sha256,
    head_modules,
    load_model,
    load_tokenizer,
    model_source,
    weights_sha256,
)
from analog_lora_cli.models.placement import Placement, put_on_tiles
from analog_lora_cli.runtime import processes
from analog_lora_cli.storage.checkpoint import Checkpoint
from analog_lora_cli.storage.layout import FIRST_ADAPTER, MODEL
from analog_lora_cli.tasks import make_task
from analog_lora_cli.tasks.base import Task
from analog_lora_cli.training.sampling import planned_steps


@dataclass
class Built:
    """A model with all that belongs to it."""

    config: Config
    task: Task
    tokenizer: Any
    model: Any
    """A PEFT model, or for `method: full` the plain model."""
    heads: list[str]
    """Names of the head's modules in the plain model."""
    new_parameters: list[str]
    """Names of the parameters that the pretrained model does not have."""
    base_sha256: str = ""
    """Of the pretrained weights, before clipping, without what is new in this model."""
    body_sha256: str = ""
    """Of that part of them which the models of all tasks have: without head and pooler."""
    body_config: dict[str, Any] = field(default_factory=dict)
    """What its configuration says of that part, before anything is trained."""
    plain_parameters: int = 0
    """Of the plain model, head included, adapters not."""
    head_parameters: int = 0
    layers: dict[str, Any] = field(default_factory=dict)
    """The analog layers by their name in the plain model; empty while nothing lies on tiles."""
    placement: Placement | None = None
    programmed: dict[str, str] = field(default_factory=dict)
    """What must lie on the tiles: sha256 of each layer's weights by its name; empty where nothing is known."""
    on_chip: set[str] | None = None
    """Names of the layers that the chip holds, so that no others can be put on tiles; None: no limit."""
    frozen_head: dict[str, torch.Tensor] = field(default_factory=dict)
    """A random head that is never trained (`train_head: false`), by parameter name, before clipping."""
    noise: TrainingNoise | None = None
    train_features: Any = None
    """The task's training features; None where only an evaluation was asked for."""

    @property
    def plain_model(self) -> nn.Module:
        """The transformers model inside PEFT's wrapper; the model itself if there is none."""
        model: nn.Module = self.model
        return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator, no-any-return]

    @property
    def digital_heads(self) -> list[str]:
        """Names of the head's modules that never lie on tiles."""
        return self.heads if self.config.trains_base or self.config.adapter.train_head else []

    @property
    def trainable_parameters(self) -> int:
        """Parameters that the optimizer sees."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def to(self, device: torch.device) -> Built:
        """Move the model."""
        self.model.to(device)
        return self

    def analog_sha256(self) -> dict[str, str]:
        """sha256 of the weights of each layer on tiles, by the layer's name."""
        return {
            name: hashlib.sha256(self.layers[name].weight.detach().cpu().contiguous().numpy().data).hexdigest()
            for name in sorted(self.layers)
        }

    def forget_chip(self) -> None:
        """Let all layers hold their exact weights again."""
        for layer in self.layers.values():
            layer.state = None

    def set_analog(self, analog: bool) -> None:
        """Simulate the tiles, or compute all layers digitally with the same weights."""
        for layer in self.layers.values():
            layer.analog = analog


def build(config: Config, ground: Checkpoint | None = None, start: str | None = None) -> Built:
    """Build a model for training.

    The head and the adapter start from `train.seed`. With `method: digital` nothing lies on tiles.

    Args:
        config: the configuration.
        ground: the checkpoint whose programmed weights a further adapter is trained for; None: a new deployment.
        start: the adapter of `ground` to start from; None: a new one.

    Raises:
        DataError: the training data are missing or malformed.
        UsageError: the configuration does not fit the model.
        HubError: model or tokenizer cannot be fetched.
        CheckpointError: the pretrained weights are not those of `ground`.
    """
    if config.trains_base and config.hardware.simulator == "aihwkit":
        raise UsageError(
            "hardware.simulator: aihwkit's tiles cannot be trained here; use simulator fast with method full"
        )
    tokenizer_source = None if ground is None else str(ground.folder)
    built = _plain(config, model_source(config.model), config.model.revision, tokenizer_source)
    if ground is not None:
        _require_hash(built.body_sha256, str(ground.manifest["body_sha256"]), config.model.name, ground)
        _require_same_config(built, ground)
        built.programmed = ground.analog_layers
        built.on_chip = set(ground.analog_layers) or None
    built.train_features = built.task.train_features(built.tokenizer)
    # What is wrong with the validation data should be known before the training, not after.
    built.task.eval_sets(built.tokenizer)
    if config.has_adapter:
        _give_adapter(built, ground, start)
    if config.on_tiles:
        built.noise = TrainingNoise(config.train.seed, processes.rank())
        place(built, config.hardware)
    if config.trains_base:
        for layer in built.layers.values():
            layer.weight.requires_grad_(True)
            if layer.bias is not None:
                layer.bias.requires_grad_(True)
    use_cheap_dropout(built.model)
    return built


def _give_adapter(built: Built, ground: Checkpoint | None, start: str | None) -> None:
    config = built.config
    if ground is not None and start is not None:
        folder = ground.adapter_folder(start)
        built.model = load_adapter(built.model, folder, trainable=True)
        built.frozen_head = read_frozen_head(folder)
        return
    if not config.adapter.train_head:
        if ground is not None:
            load_frozen_head(built.model, ground.adapter_folder(FIRST_ADAPTER))
        built.frozen_head = _copies(built.model, built.new_parameters)
    total_steps = planned_steps(config, len(built.train_features))
    built.model = add_adapter(built.model, config, built.task, built.heads, total_steps)


def build_from(checkpoint: Checkpoint, adapter: str, config: Config) -> Built:
    """Build the model of a checkpoint for evaluation; nothing lies on tiles yet, see `place`.

    Args:
        checkpoint: the checkpoint.
        adapter: which adapter; for `method: full` there is none.
        config: the adapter's configuration, hardware possibly changed.

    Raises:
        CheckpointError: the pretrained weights are others than those of the training, or the adapter is damaged.
    """
    folder = checkpoint.folder
    if config.trains_base:
        # The stored weights are clipped already; clipping them again would change them.
        config = config.model_copy(update={"hardware": config.hardware.model_copy(update={"clip_sigma": 0.0})})
        built = _plain(config, str(folder / MODEL), None, str(folder))
        _require_hash(built.base_sha256, checkpoint.manifest["model_sha256"], str(folder / MODEL), checkpoint)
    else:
        built = _plain(config, model_source(config.model), config.model.revision, str(folder))
        _require_hash(built.base_sha256, checkpoint.entry(adapter)["base_sha256"], config.model.name, checkpoint)
        _require_same_config(built, checkpoint)
        built.model = load_adapter(built.model, checkpoint.adapter_folder(adapter), trainable=False)
        trained_with = checkpoint.config_of(adapter)
        built.on_chip = checkpoint.layers_on_chip(adapter, config)
        if _mapping(config) == _mapping(trained_with):
            built.programmed = checkpoint.analog_layers
    built.model.eval()
    return built


def _require_hash(found: str, expected: str, where: str, checkpoint: Checkpoint) -> None:
    if found != expected:
        raise CheckpointError(
            f"{where}: these are not the weights that {checkpoint.folder} was trained with (sha256 {found[:12]}..., "
            f"the manifest says {expected[:12]}...). Give the revision of the training with model.revision, or "
            "train again"
        )


def _require_same_config(built: Built, checkpoint: Checkpoint) -> None:
    found, expected = built.body_config, checkpoint.manifest["base_config"]
    # A key that one release of transformers knows and the other does not says nothing.
    changed = sorted(key for key in found.keys() & expected.keys() if found[key] != expected[key])
    if changed:
        key = changed[0]
        raise CheckpointError(
            f"{built.config.model.name}: config.json is not that of the training of {checkpoint.folder}: {key} is "
            f"{found[key]!r}, the manifest says {expected[key]!r}; restore the model, or train again"
        )


def _mapping(config: Config) -> dict[str, Any]:
    """What decides which weights lie on the tiles."""
    return config.hardware.model_dump(include={"layers", "tile_rows", "tile_columns", "clip_sigma", "clip_scope"})


def place(built: Built, hardware: HardwareConfig) -> None:
    """Put the model's layers onto tiles.

    Raises:
        CheckpointError: the weights on tiles are not those that the adapter was trained with.
    """
    built.layers, built.placement = put_on_tiles(
        built.plain_model, built.digital_heads, hardware, built.noise, built.on_chip
    )
    placed = built.analog_sha256()
    for name, expected in built.programmed.items():
        if name in placed and placed[name] != expected:
            raise CheckpointError(
                f"{name}: the weights on tiles are not those of the training (sha256 {placed[name][:12]}..., the "
                f"manifest says {expected[:12]}...); the base model or this tool has changed, train again"
            )
    built.programmed = placed


def _plain(config: Config, source: str, revision: str | None, tokenizer_source: str | None = None) -> Built:
    from transformers import set_seed

    task = make_task(config.task, config.train.seed)
    tokenizer = load_tokenizer(tokenizer_source or source, None if tokenizer_source else revision)
    set_seed(config.train.seed)
    model, new = load_model(task, source, revision)
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and config.task.max_length > longest:
        raise UsageError(
            f"task.max_length: {config.task.max_length} is more than the {longest} tokens that the model takes"
        )
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        raise UsageError(f"model.name: {source}: the tokenizer has {len(tokenizer)} tokens, the model only {known}")
    heads = head_modules(model)
    sha256 = weights_sha256(model, leave_out=set(new))
    plain_parameters = sum(p.numel() for p in model.parameters())
    head_parameters = sum(p.numel() for head in heads for p in model.get_submodule(head).parameters())
    body = body_sha256(model, heads)
    shared = body_config(model)
    return Built(config, task, tokenizer, model, heads, new, sha256, body, shared, plain_parameters, head_parameters)


def _copies(model: nn.Module, names: list[str]) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone().contiguous() for name, p in model.named_parameters() if name in names}
