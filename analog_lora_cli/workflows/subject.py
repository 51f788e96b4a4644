"""What is measured: one adapter of a checkpoint under a configuration. Imports torch only for its task."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analog_lora_cli.config import scope
from analog_lora_cli.config.flat import flatten
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.storage import layout
from analog_lora_cli.storage.checkpoint import Checkpoint

if TYPE_CHECKING:
    from analog_lora_cli.evaluation.log import Metrics
    from analog_lora_cli.tasks import Task


FORMAT = 6
"""Format of measurements. Up to 4, equal seeds were other chips; up to 5, each choice of a benchmark had output noise
of its own."""


@dataclass(frozen=True)
class Subject:
    """One adapter of a checkpoint, under a configuration that may differ from the training's."""

    checkpoint: Checkpoint
    config: Config
    adapter: str
    note: str = ""
    """Remark on the conditions, for progress."""
    label: str = ""
    """Name of the checkpoint where that of its folder is not distinct."""
    group: Path | None = None
    """Folder of `train --seeds` that the checkpoint belongs to; None: it stands alone."""

    @property
    def own_folder(self) -> Path:
        """Folder in which the checkpoint keeps this adapter's results."""
        return self.checkpoint.folder / "drift" / self.adapter

    @property
    def name(self) -> str:
        """Name for tables: that of the checkpoint, and of the adapter unless it is the first."""
        folder = self.checkpoint.folder.resolve()
        checkpoint = self.label or (folder.name if self.group is None else f"{folder.parent.name}/{folder.name}")
        return checkpoint if self.adapter == layout.FIRST_ADAPTER else f"{checkpoint}/{self.adapter}"

    @cached_property
    def task(self) -> Task:
        """Task of the adapter."""
        from analog_lora_cli.tasks import make_task

        return make_task(self.config.task, self.config.train.seed)

    @cached_property
    def baseline(self) -> Metrics:
        """Metrics of answers that ignore the input."""
        return self.task.baseline_score()

    def key(self) -> dict[str, Any]:
        """Identity of a measurement besides chip and time: all that its value depends on."""
        return {"format": FORMAT, **self.conditions(), **self.weights()}

    def conditions(self) -> dict[str, Any]:
        """Hardware, task and validation data: what must agree for a comparison on the same chips."""
        return {
            "hardware": self.hardware(),
            "task": scope.project(self.config.task, *scope.MEASUREMENT),
            "train": scope.project(self.config.train, *scope.MEASUREMENT),
            "data": self._data_sha256,
        }

    @cached_property
    def _data_sha256(self) -> dict[str, str]:
        files = self.task.data_files()
        return {
            role: self.task.content_sha256(role, path)
            for role, path in files.items()
            if role != "train" or self.calibrates
        }

    def check_training_data(self) -> None:
        """Check that the training data are there, and those that the adapter was trained with.

        Raises:
            DataError: a local file is missing.
            UsageError: it has changed since the training.
        """
        manifest = self.checkpoint.manifest
        own = manifest if self.adapter == layout.FIRST_ADAPTER else self.checkpoint.entry(self.adapter)
        known = own.get("data", {}).get("train")
        path = self.task.data_files().get("train")
        if known is not None and path is not None and self.task.content_sha256("train", path) != known["sha256"]:
            raise UsageError(
                f"{path}: has changed since the training of {self.name}, so that a recalibration would read other "
                "text: restore the file, or leave --recalibrate out"
            )

    @property
    def calibrates(self) -> bool:
        """Whether the input ranges come from the training data now, not from the checkpoint."""
        hardware = self.config.hardware
        return hardware.input_range == "static" and not self.checkpoint.input_ranges(self.adapter, hardware)

    def hardware(self) -> dict[str, Any]:
        """Hardware settings that measurements depend on."""
        # The stored weights of a trained base are clipped already.
        effects = [one for one in scope.MEASUREMENT if one != "clipping" or not self.config.trains_base]
        return scope.project(self.config.hardware, *effects)

    def weights(self) -> dict[str, Any]:
        """Hashes of the pretrained weights and of what was trained."""
        manifest = self.checkpoint.manifest
        if self.config.trains_base:
            ranges = manifest["files"].get(f"{layout.MODEL}/{layout.INPUT_RANGES_FILE}")
            return {"weights": manifest["model_sha256"], **({} if ranges is None else {"input_ranges": ranges})}
        entry = self.checkpoint.entry(self.adapter)
        return {"base_sha256": entry["base_sha256"], "weights": entry["files"]}


def check_comparable(subjects: list[Subject]) -> None:
    """Check that all subjects are measured under the same conditions, so that differences are those of the methods.

    Raises:
        UsageError: the conditions differ; the message names the first differences.
    """
    first = flatten(subjects[0].conditions())
    measured = frozenset.intersection(*(one.config.hardware.measured_keys for one in subjects))
    ignored = {*scope.keys("clipping"), *(f"hardware.{key}" for key in measured)}
    for other in subjects[1:]:
        conditions = flatten(other.conditions())
        keys = sorted(
            key for key in (first.keys() | conditions.keys()) - ignored if first.get(key) != conditions.get(key)
        )
        if keys:
            shown = "; ".join(f"{key}: {first.get(key)!r} and {conditions.get(key)!r}" for key in keys[:3])
            raise UsageError(
                f"{subjects[0].name} and {other.name} cannot be compared on the same chips: {shown}. "
                "Make them agree with --set"
            )
