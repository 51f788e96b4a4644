"""The checkpoint folder: prepare, write, read, verify."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analog_lora_cli.config import scope
from analog_lora_cli.config.load import differences, dump_config, load_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.yaml_file import read_yaml_mapping
from analog_lora_cli.errors import CheckpointError, ConfigError, UsageError
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.storage.files import check_writable, file_sha256, replacing, saving, write_text
from analog_lora_cli.storage.layout import (
    ADAPTERS,
    CONFIG,
    FIRST_ADAPTER,
    FROZEN_HEAD_FILE,
    INPUT_RANGES_FILE,
    LOCK,
    MANIFEST,
    MODEL,
    REQUEST,
    TRAINER,
)  # fmt: skip
from analog_lora_cli.storage.locks import check_free, locked
from analog_lora_cli.storage.manifest import read_manifest, verify_files
from analog_lora_cli.storage.seed_folders import seed_folders
from analog_lora_cli.storage.workspace import is_workspace, put_in_place, workspace

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import BaseImageProcessor, PreTrainedModel, PreTrainedTokenizerBase


def check_modes(resume: bool, overwrite: bool) -> None:
    """Check that a training is either continued or replaced.

    Raises:
        UsageError: both are asked for.
    """
    if resume and overwrite:
        raise UsageError("--resume continues what is there and --overwrite replaces it: give one of them")


def check_output(folder: Path, config: Config, resume: bool, overwrite: bool) -> None:
    """Check whether a run may use an output folder, without writing anything.

    Args:
        folder: the checkpoint folder.
        config: the run's configuration.
        resume: continue the run that is there; it must have the same configuration.
        overwrite: replace the run that is there.

    Raises:
        UsageError: the folder holds something else or another run, or cannot be written, or `resume` and `overwrite`
            are both true.
    """
    check_modes(resume, overwrite)
    check_writable(folder)
    if is_main():  # For the other processes of this run the lock may be that of the main one.
        check_free(folder)
    if not _in_use(folder):
        return
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{folder}: is not empty and holds no run of analora; choose another --output")
    if resume:
        differing = differences(read_config(folder), config)
        if differing:
            lines = "\n".join(f"  - {line}" for line in differing)
            raise UsageError(
                f"{folder}: --resume continues a run with the configuration that it was started with; it differs in\n"
                f"{lines}\nUse the old values, or another --output"
            )
    elif not overwrite:
        raise UsageError(
            f"{folder}: holds a run already; continue it with --resume, replace it with --overwrite, or choose "
            "another --output"
        )


def with_measured_layers(folder: Path, config: Config) -> Config:
    """The configuration of a run that goes on, with the digital layers that its beginning has measured.

    Args:
        folder: the checkpoint folder.
        config: the configuration as it is asked for.

    Raises:
        CheckpointError: the configuration in the folder is damaged.
    """
    if config.hardware.unmeasured is None or not (folder / CONFIG).is_file():
        return config
    own = read_config(folder).hardware
    if own.layers != config.hardware.layers:
        return config
    hardware = config.hardware.model_copy(update={"digital_layers": own.digital_layers})
    return config.model_copy(update={"hardware": hardware})


@contextmanager
def open_run(folder: Path, config: Config, resume: bool, overwrite: bool) -> Iterator[None]:
    """Lock an output folder that `check_output` has accepted; only the main process writes.

    With `overwrite` the old run is moved aside first and removed when the new one is complete.

    Raises:
        UsageError: another process is writing there, or the folder cannot be written.
    """
    if not is_main():
        yield
        return
    aside = None
    if overwrite and not resume and _in_use(folder):
        with locked(folder):
            aside = folder.with_name(f"{folder.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}")
            folder.rename(aside)
    with locked(folder):
        if not (folder / CONFIG).is_file():
            try:
                write_text(folder / CONFIG, dump_config(config))
            except OSError as error:
                raise UsageError(f"{folder}: cannot be written: {error.strerror}") from None
        run_log.keep_in(folder)
        yield
        if aside is not None and (folder / MANIFEST).is_file():
            shutil.rmtree(aside)


def _in_use(folder: Path) -> bool:
    return folder.is_dir() and any(entry.name != LOCK and not is_workspace(entry) for entry in folder.iterdir())


def write_adapter(
    folder: Path,
    name: str,
    save: Callable[[Path], object],
    frozen_head: dict[str, Tensor],
    input_ranges: dict[str, Tensor],
    config: str | None = None,
) -> Path:
    """Store an adapter, head included, as a standard PEFT folder; replaces one of the same name in one step.

    Args:
        folder: the checkpoint folder.
        name: the adapter's name.
        save: writes the PEFT folder: adapter_config.json and adapter_model.safetensors.
        frozen_head: tensors of a head that is frozen and random, by name; may be empty.
        input_ranges: ranges of the inputs of the layers on tiles, by layer; may be empty.
        config: the adapter's configuration as YAML; None for the first one, whose configuration is the checkpoint's.
    """
    from safetensors.torch import save_file

    target = folder / ADAPTERS / name
    with replacing(target) as beside:
        save(beside)
        if frozen_head:
            save_file(frozen_head, str(beside / FROZEN_HEAD_FILE))
        if input_ranges:
            save_file(input_ranges, str(beside / INPUT_RANGES_FILE))
        if config is not None:
            (beside / CONFIG).write_text(config, encoding="utf-8")
        (beside / "README.md").unlink(missing_ok=True)
    return target


def saved_by_peft(model: PeftModel) -> Callable[[Path], object]:
    """Function that writes the active adapter of a PEFT model."""
    return lambda folder: model.save_pretrained(
        str(folder),
        safe_serialization=True,
        save_embedding_layers=False,
        selected_adapters=[FIRST_ADAPTER],  # A teacher's may stand beside it.
    )


def write_full_model(
    folder: Path, model: PreTrainedModel, state: dict[str, Tensor], input_ranges: dict[str, Tensor]
) -> list[str]:
    """Store the weights of `method: full` as a plain transformers folder; returns its files beside the weights.

    Args:
        folder: the checkpoint folder.
        model: the model.
        state: its tensors by name, as transformers stores them.
        input_ranges: as for `write_adapter`.
    """
    from safetensors.torch import save_file

    target = folder / MODEL
    with replacing(target) as beside:
        model.save_pretrained(str(beside), state_dict=state, safe_serialization=True)
        if input_ranges:
            save_file(input_ranges, str(beside / INPUT_RANGES_FILE))
    return [f"{MODEL}/{path.name}" for path in sorted([*target.glob("*.json"), *target.glob(INPUT_RANGES_FILE)])]


def write_processor(folder: Path, processor: PreTrainedTokenizerBase | BaseImageProcessor) -> list[str]:
    """Store the files of a tokenizer or image processor in the checkpoint folder itself; returns their names."""
    target = folder / "processor"
    with saving(target), workspace(target) as beside:
        new = beside / target.name
        processor.save_pretrained(str(new))
        names = sorted(file.name for file in new.iterdir())
        for name in names:
            put_in_place(new / name, folder / name)
    return names


def adapter_files(folder: Path, name: str) -> dict[str, str]:
    """sha256 of each file of an adapter."""
    return {path.name: file_sha256(path) for path in sorted((folder / ADAPTERS / name).iterdir()) if path.is_file()}


def read_config(folder: Path) -> Config:
    """The configuration of a checkpoint.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    several = seed_folders(folder)
    if several:
        raise CheckpointError(f"{folder}: holds several trainings of --seeds; give one of them, such as {several[0]}")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder}: not a checkpoint folder: no {CONFIG} in it; `analora train` writes one")
    try:
        content = read_yaml_mapping(folder / CONFIG)
        config = load_config(base=content)
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    # A model of costs that is newer than the checkpoint changes nothing of it.
    missing = sorted(Config.model_fields.keys() - scope.cost_sections() - content.keys())
    if missing:
        raise CheckpointError(f"{folder / CONFIG}: damaged: no {', '.join(missing)}")
    return config


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint folder, its manifest read and its adapters' names checked."""

    folder: Path
    config: Config
    manifest: dict[str, Any]

    @property
    def adapters(self) -> list[str]:
        """Names of the stored adapters, the first one first; empty for `method: full`."""
        return sorted(self.manifest["adapters"], key=lambda name: (name != FIRST_ADAPTER, name))

    @property
    def analog_layers(self) -> dict[str, str]:
        """sha256 of the weights on tiles by the layer's name; empty if no training has put them there yet."""
        return dict(self.manifest.get("analog_layers", {}))

    def layers_on_chip(self, adapter: str, config: Config) -> set[str] | None:
        """Names of the layers that were programmed, outside which an adapter's model has none on tiles.

        Args:
            adapter: its name.
            config: its configuration, hardware possibly changed.

        Returns:
            None if nothing is known, or if other `hardware.layers` are asked for than at the training.
        """
        own = self.config_of(adapter).hardware
        same = all(getattr(config.hardware, key) == getattr(own, key) for key in ("layers", "digital_layers"))
        return (set(self.analog_layers) or None) if same else None

    def entry(self, adapter: str) -> dict[str, Any]:
        """Entry of an adapter in the manifest."""
        return dict(self.manifest["adapters"][adapter])

    def adapter_folder(self, adapter: str) -> Path:
        """Folder of an adapter."""
        return self.folder / ADAPTERS / adapter

    def config_of(self, adapter: str) -> Config:
        """The configuration that an adapter was trained with.

        Raises:
            CheckpointError: it is damaged.
        """
        return self.config if adapter == FIRST_ADAPTER else read_config(self.adapter_folder(adapter))

    def input_ranges(self, adapter: str, hardware: HardwareConfig) -> dict[str, Tensor]:
        """The ranges of the inputs of the layers on tiles that an adapter was trained with.

        Args:
            adapter: its name; not used with `method: full`.
            hardware: the hardware to be used.

        Returns:
            (rows of tiles,) by layer; empty if there are none, or other ranges are asked for than at the training.
        """
        from safetensors.torch import load_file

        file = (self.folder / MODEL if self.config.trains_base else self.adapter_folder(adapter)) / INPUT_RANGES_FILE
        same = hardware.shares_ranges(self.config_of(adapter).hardware)
        return load_file(str(file)) if same and file.is_file() else {}


def trainer_folder(folder: Path, adapter: str) -> Path:
    """Folder with what `adapt --resume` needs for a further adapter of a checkpoint."""
    return folder / TRAINER / ADAPTERS / adapter


def read_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint.

    Raises:
        CheckpointError: the folder is not a checkpoint, incomplete, damaged, or written by a later version.
    """
    config = read_config(folder)
    manifest = read_manifest(folder)
    verify_files(folder, manifest["files"])
    return Checkpoint(folder, config, manifest)


def verify_adapter(checkpoint: Checkpoint, name: str) -> None:
    """Check that an adapter's files are those that were written.

    Raises:
        CheckpointError: there is no such adapter, or a file is missing or changed.
    """
    if checkpoint.config.trains_base:
        if name != FIRST_ADAPTER:
            raise CheckpointError(f"{checkpoint.folder}: method full has no adapters, so --adapter {name} is unknown")
        return
    if name not in checkpoint.manifest["adapters"]:
        if (trainer_folder(checkpoint.folder, name) / REQUEST).is_file():
            raise CheckpointError(
                f"{checkpoint.folder}: adapter {name} is not complete; finish it with the same analora adapt --resume"
            )
        raise CheckpointError(f"{checkpoint.folder}: no adapter {name!r}; it has {', '.join(checkpoint.adapters)}")
    verify_files(checkpoint.adapter_folder(name), checkpoint.entry(name)["files"])
