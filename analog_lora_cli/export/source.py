"""What is exported: one adapter of a checkpoint, as a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from analog_lora_cli.config.schema import Config
from analog_lora_cli.models.build import Built, build_from, place
from analog_lora_cli.models.placement import replace_layer
from analog_lora_cli.runtime.package_files import is_package_path
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.tasks import Task, make_task


@dataclass(frozen=True)
class Source:
    """One adapter of a checkpoint, its files verified; for `method: full` the whole model."""

    checkpoint: store.Checkpoint
    adapter: str

    @classmethod
    def open(cls, folder: Path, adapter: str) -> Source:
        """Read a checkpoint.

        Raises:
            CheckpointError: it is none, or damaged, or has no such adapter.
        """
        checkpoint = store.read_checkpoint(folder)
        store.verify_adapter(checkpoint, adapter)
        return cls(checkpoint, adapter)

    @property
    def config(self) -> Config:
        """The configuration that the adapter was trained with."""
        return self.checkpoint.config_of(self.adapter)

    @property
    def task(self) -> Task:
        """The task that it was trained for; reads no data."""
        return make_task(self.config.task, self.config.train.seed)

    @property
    def has_adapter(self) -> bool:
        """Whether there is a digital adapter beside the model."""
        return self.config.has_adapter

    @property
    def adapter_folder(self) -> Path:
        """Where the adapter's files are."""
        return self.checkpoint.adapter_folder(self.adapter)

    @property
    def drift_file(self) -> Path:
        """Where the adapter's results over drift are, if it was evaluated."""
        return self.checkpoint.folder / "drift" / self.adapter / "drift.json"

    @property
    def base_on_hub(self) -> bool:
        """Whether others can fetch the base model by its name."""
        name = self.config.model.name
        return not (is_package_path(name) or name.startswith(("/", ".", "~")) or Path(name).is_dir())

    @property
    def base_name(self) -> str:
        """The base model's name for others: of a local folder only the last part of its path."""
        name = self.config.model.name
        return name if self.base_on_hub or is_package_path(name) else Path(name).expanduser().resolve().name

    def build(self) -> Built:
        """The model with this adapter, nothing on tiles; the one place where an export turns files into a model.

        Raises:
            CheckpointError: the base is another one than at the training.
        """
        return build_from(self.checkpoint, self.adapter, self.config)


def build_digital(source: Source) -> Built:
    """The model whose outputs are those of the tool's digital evaluation, from plain linear layers.

    With `method: lora` the weights are the clipped ones, which the adapter was trained for; `placement` tells how far
    they are from the base's own. With `method: digital` they are the base's own.
    """
    built = source.build()
    if source.config.has_adapter and source.config.on_tiles:
        build_clipped(built)
    return built


def build_clipped(built: Built) -> list[str]:
    """Give a model the weights that tiles hold, in plain linear layers.

    Returns:
        the names of the layers that lie on tiles.
    """
    place(built, built.config.hardware)
    names = list(built.layers)
    for name, layer in built.layers.items():
        linear = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        linear.weight, linear.bias = layer.weight, layer.bias
        linear.requires_grad_(False)
        replace_layer(built.plain_model, name, linear)
    built.layers = {}
    return names


def without_adapter(built: Built) -> Any:
    """The transformers model alone, the trained head in its place, the adapter taken away. Changes `built`."""
    return built.model.unload() if built.config.has_adapter else built.model
