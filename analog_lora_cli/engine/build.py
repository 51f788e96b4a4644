"""From a configuration to a model that is ready to train or to evaluate."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analog_lora_cli.config.schema import Config, HardwareConfig
from analog_lora_cli.engine import processes
from analog_lora_cli.engine.adapters import add_adapter, load_adapter
from analog_lora_cli.engine.models import head_modules, load_model, load_tokenizer, model_source, weights_sha256
from analog_lora_cli.engine.placement import Placement, put_on_tiles
from analog_lora_cli.engine.sampling import planned_steps
from analog_lora_cli.errors import CheckpointError, UsageError
from analog_lora_cli.hardware.training_noise import TrainingNoise
from analog_lora_cli.tasks import make_task
from analog_lora_cli.tasks.base import Task


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
    base_sha256: str
    """Of the pretrained weights, before clipping, without the head."""
    layers: dict[str, Any] = field(default_factory=dict)
    """The analog layers by their name in the plain model; empty while nothing lies on tiles."""
    placement: Placement | None = None
    placed_sha256: str | None = None
    """`analog_sha256` when the layers were put onto tiles."""
    expected_sha256: str | None = None
    """What `placed_sha256` must be; None where nothing is known about it."""
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
        return self.heads if self.config.method == "full" or self.config.adapter.train_head else []

    @property
    def trainable_parameters(self) -> int:
        """Parameters that the optimizer sees."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def to(self, device: torch.device) -> Built:
        """Move the model."""
        self.model.to(device)
        return self

    def analog_sha256(self) -> str:
        """sha256 of the weights on tiles, in the order of the layers' names."""
        digest = hashlib.sha256()
        for name in sorted(self.layers):
            digest.update(name.encode())
            digest.update(self.layers[name].weight.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def set_analog(self, analog: bool) -> None:
        """Simulate the tiles, or compute all layers digitally with the same weights."""
        for layer in self.layers.values():
            layer.analog = analog


def build(config: Config) -> Built:
    """Build a model for training.

    The head and the adapter start from `train.seed`. With `method: digital` nothing lies on tiles.

    Args:
        config: the configuration.

    Raises:
        DataError: the training data are missing or malformed.
        UsageError: the configuration does not fit the model.
        HubError: model or tokenizer cannot be fetched.
    """
    if config.method == "full" and config.hardware.simulator == "aihwkit":
        raise UsageError(
            "hardware.simulator: aihwkit's tiles cannot be trained here; use simulator fast with method full"
        )
    built = _plain(config, model_source(config.model), config.model.revision)
    built.train_features = built.task.train_features(built.tokenizer)
    # What is wrong with the validation data should be known before the training, not after.
    built.task.eval_sets(built.tokenizer)
    if config.method != "full":
        if not config.adapter.train_head:
            built.frozen_head = _copies(built.model, built.new_parameters)
        total_steps = planned_steps(config, len(built.train_features))
        built.model = add_adapter(built.model, config, built.task, built.heads, total_steps)
    if config.method != "digital":
        built.noise = TrainingNoise(config.train.seed, processes.rank())
        place(built, config.hardware)
    if config.method == "full":
        for layer in built.layers.values():
            layer.weight.requires_grad_(True)
            if layer.bias is not None:
                layer.bias.requires_grad_(True)
    return built


def build_from(folder: Path, config: Config, adapter: str, manifest: dict[str, Any], stored: Config) -> Built:
    """Build the model of a checkpoint for evaluation; nothing lies on tiles yet, see `place`.

    Args:
        folder: the checkpoint folder.
        config: its configuration, hardware possibly changed.
        adapter: which adapter; for `method: full` there is none.
        manifest: its manifest.
        stored: its configuration as it was trained.

    Raises:
        CheckpointError: the pretrained weights are others than those of the training, or the adapter is damaged.
    """
    if config.method == "full":
        # The stored weights are clipped already; clipping them again would change them.
        config = config.model_copy(update={"hardware": config.hardware.model_copy(update={"clip_sigma": 0.0})})
        built = _plain(config, str(folder / "model"), None, str(folder))
    else:
        built = _plain(config, model_source(config.model), config.model.revision, str(folder))
    expected = manifest["model_sha256" if config.method == "full" else "base_sha256"]
    if built.base_sha256 != expected:
        where = folder / "model" if config.method == "full" else config.model.name
        raise CheckpointError(
            f"{where}: these are not the weights that {folder} was trained with (sha256 {built.base_sha256[:12]}..., "
            f"the manifest says {str(expected)[:12]}...). Give the revision of the training with model.revision, or "
            "train again"
        )
    if config.method != "full":
        built.model = load_adapter(built.model, folder / "adapters" / adapter, trainable=False)
        if _mapping(config) == _mapping(stored):
            built.expected_sha256 = manifest.get("analog_sha256")
    built.model.eval()
    return built


def _mapping(config: Config) -> dict[str, Any]:
    """What decides which weights lie on the tiles."""
    return config.hardware.model_dump(include={"layers", "tile_rows", "tile_columns", "clip_sigma", "clip_scope"})


def place(built: Built, hardware: HardwareConfig) -> None:
    """Put the model's layers onto tiles.

    Raises:
        CheckpointError: the weights on tiles are not those that the adapter was trained with.
    """
    built.layers, built.placement = put_on_tiles(built.plain_model, built.digital_heads, hardware, built.noise)
    built.placed_sha256 = built.analog_sha256()
    if built.expected_sha256 is not None and built.placed_sha256 != built.expected_sha256:
        raise CheckpointError(
            f"the weights on tiles are not those of the training (sha256 {built.placed_sha256[:12]}..., the manifest "
            f"says {built.expected_sha256[:12]}...); the base model or this tool has changed, train again"
        )


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
    sha256 = weights_sha256(model, leave_out=set(new))
    return Built(config, task, tokenizer, model, head_modules(model), new, sha256)


def _copies(model: nn.Module, names: list[str]) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone().contiguous() for name, p in model.named_parameters() if name in names}
