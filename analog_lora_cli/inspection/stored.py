"""Inspection of a checkpoint from what it stores, without its base model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from analog_lora_cli.inspection.attention import attention_shape
from analog_lora_cli.inspection.inspect import Inspection, blocks_of
from analog_lora_cli.inspection.source import Source
from analog_lora_cli.inspection.tile_statistics import devices_per_weight
from analog_lora_cli.models.placement import PlacedLayer, Placement
from analog_lora_cli.runtime.libraries import prepare_libraries
from analog_lora_cli.storage.checkpoint import Checkpoint


def stored_inspection(checkpoint: Checkpoint, name: str) -> Inspection | None:
    """Placement of a checkpoint's first adapter as the manifest has it; None if nothing lies on tiles.

    Args:
        checkpoint: the checkpoint.
        name: name for titles.
    """
    entries = checkpoint.manifest.get("placement")
    if not entries:
        return None
    config = checkpoint.config
    placement = Placement([PlacedLayer(**entry) for entry in entries])
    if not placement.analog:
        return None
    ranks = {layer.name: config.adapter.rank for layer in placement.layers if layer.adapter_parameters}
    hardware = config.hardware
    return Inspection(
        Source(name, config, checkpoint),
        placement,
        ranks=ranks,
        devices_per_weight=devices_per_weight(hardware),
        blocks=blocks_of(placement, hardware),
        attention=attention_shape(_model_config(checkpoint.manifest["base_config"])),
    )


def _model_config(stored: dict[str, Any]) -> Any:
    """The model's configuration; of a class that transformers does not know, its plain keys."""
    prepare_libraries()
    from transformers import AutoConfig

    try:
        return AutoConfig.for_model(**stored)
    except (KeyError, ValueError, TypeError):
        return SimpleNamespace(**stored)
