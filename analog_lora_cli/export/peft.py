"""`--format peft`: the adapter as plain PEFT loads it, with the base that it fits exactly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from analog_lora_cli.export.description import Description, auto_class, clipping_note
from analog_lora_cli.export.source import Source, build_digital, without_adapter
from analog_lora_cli.models.conv1d import save_original
from analog_lora_cli.models.loaded import LoadedModel
from analog_lora_cli.models.modules import is_inside
from analog_lora_cli.models.placement import Placement
from analog_lora_cli.storage.checkpoint import write_processor
from analog_lora_cli.storage.layout import FROZEN_HEAD_FILE, INPUT_RANGES_FILE

BASE = "base"
_NOT_COPIED = (FROZEN_HEAD_FILE, INPUT_RANGES_FILE, "README.md")


def write_peft(source: Source, folder: Path) -> Description:
    """Write the adapter, and the base where the pretrained one would give other outputs.

    An adapter that was trained on clipped weights gives other outputs on the unclipped ones, and what PEFT calls an
    adapter cannot hold the difference, which has full rank. So the clipped base goes with it, as a plain model.

    Raises:
        CheckpointError: the base is another one than at the training.
    """
    loaded, placement = build_digital(source)
    write_processor(folder, loaded.processor)
    base = _base_reference(source, loaded, placement)
    copy_adapter(source, folder, base or BASE, bool(loaded.conv1d))
    if base is not None:
        return _describe(source, "plain base model", _arguments(source, loaded, base))
    save_original(without_adapter(loaded), loaded.conv1d, folder / BASE)
    return _describe(
        source, "base in this folder", f'f"{{folder}}/{BASE}"', _base_notes(source, clipping_note(placement))
    )


def copy_adapter(source: Source, folder: Path, base: str, conv1d: bool = False) -> None:
    """Copy an adapter's files, which then name another base; a frozen head belongs to the base, ranges
    of inputs to the hardware.

    Args:
        source: the adapter.
        folder: the copy; created if it does not exist.
        base: the base that adapter_config.json names.
        conv1d: whether the layers of that base are `Conv1D`, whose matrices PEFT must transpose.
    """
    shutil.copytree(source.adapter_folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    config["revision"] = source.config.model.revision if source.base_on_hub and base != BASE else None
    if conv1d:
        config["fan_in_fan_out"] = True
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _base_reference(source: Source, loaded: LoadedModel, placement: Placement | None) -> str | None:
    """Name of the base on the hub, if the adapter gives the same outputs there; else None."""
    random = [name for name in loaded.head.new_parameters if not is_inside(name, loaded.digital_heads)]
    changed = placement is not None and any(layer.clipped for layer in placement.layers)
    return None if changed or random or not source.base_on_hub else source.base_name


def _arguments(source: Source, loaded: LoadedModel, base: str) -> str:
    """Python arguments of `from_pretrained` for a base on the hub."""
    revision = source.config.model.revision
    options = [] if revision is None else [f"revision={revision!r}"]
    options += [f"{name}={value!r}" for name, value in loaded.task.model_options().items()]
    return ", ".join([repr(base), *options])


def _base_notes(source: Source, clipping: str) -> str:
    notes = f"`{BASE}/` is the model that this adapter was trained on, as a plain transformers folder"
    if clipping:
        notes += (
            f": the pretrained weights of {source.base_name} as they lie on the tiles; {clipping}. "
            "On the unclipped model the adapter works too, but its outputs are others"
        )
    return f"{notes}. adapter_config.json names it by its path in this folder."


def _describe(source: Source, base: str, arguments: str, notes: str = "") -> Description:
    """Description of the export.

    Args:
        source: the exported adapter.
        base: the base that the adapter fits, in words.
        arguments: Python arguments of `from_pretrained` for that base.
        notes: remarks on the base.
    """
    kind = auto_class(source)
    return Description(
        title=f"LoRA adapter for {source.config.task.name}",
        library="peft",
        text=f"An adapter for plain PEFT, task head included. On the {base} its outputs are those of analora's digital "
        "evaluation.",
        code=f"""\
import torch
from peft import PeftModel
from transformers import {kind}, {source.task.example.processor_class}

folder = "."
base = {kind}.from_pretrained({arguments})
model = PeftModel.from_pretrained(base, folder).eval()
{source.task.example.loading()}
{source.task.example.code()}""",
        notes=notes,
    )
