"""Source of an export: one adapter of a checkpoint, as a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from analog_lora_cli.config.schema import Config
from analog_lora_cli.models.build import build_from
from analog_lora_cli.models.gguf import is_gguf, is_gguf_on_hub
from analog_lora_cli.models.loaded import LoadedModel
from analog_lora_cli.models.modules import replace_layer
from analog_lora_cli.models.placement import Placement
from analog_lora_cli.models.tiling import AnalogModel, put_on_tiles
from analog_lora_cli.runtime.package_files import is_package_path
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.tasks import Task, make_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Source:
    """One adapter of a checkpoint, its files verified; for `method: full` the whole model."""

    checkpoint: store.Checkpoint
    adapter: str

    @classmethod
    def open(cls, folder: Path, adapter: str) -> Source:
        """Read a checkpoint.

        Raises:
            CheckpointError: the folder is no checkpoint, is damaged, or has no such adapter.
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
        """Folder of the adapter's files."""
        return self.checkpoint.adapter_folder(self.adapter)

    @property
    def drift_file(self) -> Path:
        """File of the adapter's results over drift, if it was evaluated."""
        return self.checkpoint.folder / "drift" / self.adapter / "drift.json"

    @property
    def base_on_hub(self) -> bool:
        """Whether others can fetch the base model by its name; a `.gguf` file is no plain model to them."""
        name = self.config.model.name
        if is_gguf(name):
            return False
        return not (is_package_path(name) or name.startswith(("/", ".", "~")) or Path(name).is_dir())

    @property
    def base_name(self) -> str:
        """The base model's name for others: of a local folder only the last part of its path."""
        name = self.config.model.name
        public = self.base_on_hub or is_package_path(name) or is_gguf_on_hub(name)
        return name if public else Path(name).expanduser().resolve().name

    def build(self) -> LoadedModel:
        """The model with this adapter, nothing on tiles; the one place where an export turns files into a model.

        Raises:
            CheckpointError: the base is another one than at the training.
        """
        return build_from(self.checkpoint, self.adapter, self.config)


def build_digital(source: Source) -> tuple[LoadedModel, Placement | None]:
    """The model whose outputs are those of the tool's digital evaluation, from plain linear layers.

    With `method: lora` the weights are the clipped ones, which the adapter was trained for; with `method: digital`
    they are the base's own. In float32, because in half precision most of an adapter would be rounded away.

    Returns:
        the model, and the placement with the change by clipping; None without clipping.
    """
    loaded = source.build()
    placement = clip_weights(loaded) if source.has_adapter and source.config.on_tiles else None
    loaded.module.float()
    return loaded, placement


def clip_weights(loaded: LoadedModel) -> Placement:
    """Give a model the clipped weights of its tiles, in plain linear layers.

    Returns:
        placement of those layers, and the change by clipping.
    """
    return plain_layers(put_on_tiles(loaded, loaded.config.hardware))


def plain_layers(analog: AnalogModel) -> Placement:
    """Take a model's layers from their tiles again, into plain linear layers with the clipped weights.

    Returns:
        placement of those layers, and the change by clipping.
    """
    for name, layer in analog.layers.items():
        linear = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        linear.weight, linear.bias = nn.Parameter(layer.model_weight), layer.bias
        linear.requires_grad_(False)
        replace_layer(analog.loaded.plain, name, linear)
    return analog.placement


def without_adapter(loaded: LoadedModel) -> PreTrainedModel:
    """The transformers model alone, the trained head in its place, the adapter taken away; changes the model."""
    return loaded.module.unload() if loaded.config.has_adapter else loaded.plain
