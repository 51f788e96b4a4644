"""Description of an export: the text and the code of its README."""

from __future__ import annotations

from dataclasses import dataclass

from analog_lora_cli.export.source import Source
from analog_lora_cli.models.placement import Placement


@dataclass(frozen=True)
class Description:
    """The part of a README that differs from format to format, in Markdown."""

    title: str
    library: str
    """Library that loads the export, by the hub's name."""
    text: str
    """Description of the content."""
    code: str
    """Python that loads and runs it, with the export as the working folder."""
    notes: str = ""
    """Remarks on its use."""


def auto_class(source: Source) -> str:
    """Name of the class of transformers that has this task's head."""
    return source.task.auto_class_name


def clipping_note(placement: Placement | None) -> str:
    """Distance of the weights on tiles from the pretrained ones, in words; empty where they are the same."""
    layers = [] if placement is None else [layer for layer in placement.analog if layer.clipped]
    if not layers or placement is None:
        return ""
    clipped = sum(layer.clipped for layer in layers)
    weights = sum(layer.shape[0] * layer.shape[1] for layer in placement.analog)
    largest = max(layer.clip_change for layer in layers)
    return (
        f"clipping moved {clipped / weights:.2%} of the weights on tiles, and changed a matrix by up to {largest:.2%} "
        "(Frobenius norm)"
    )
