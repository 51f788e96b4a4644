"""`--format merged`: one plain transformers model, the adapter added to its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from analog_lora_cli.export.description import Description, auto_class, clipping_note
from analog_lora_cli.export.source import Source, build_digital
from analog_lora_cli.models.conv1d import save_original
from analog_lora_cli.storage.checkpoint import write_processor


def write_merged(source: Source, folder: Path) -> Description:
    """Write the model with its adapter merged, or with `method: full` the trained model, and the tokenizer.

    Raises:
        CheckpointError: the base is another one than at the training.
    """
    loaded, placement = build_digital(source)
    model = loaded.module.merge_and_unload(safe_merge=True) if source.has_adapter else loaded.plain
    save_original(model, loaded.conv1d, folder)
    write_processor(folder, loaded.processor)
    kind = auto_class(source)
    how = "with its adapter merged into the weights" if source.has_adapter else "trained for analog tiles"
    return Description(
        title=f"{source.base_name} for {source.config.task.name}, {'merged' if source.has_adapter else 'trained'}",
        library="transformers",
        text=f"A plain transformers model, {how}. Its outputs are those of analora's digital evaluation, but for the "
        f"rounding of {source.config.model.dtype}.",
        code=f"""\
import torch
from transformers import {kind}, {source.task.example.processor_class}

folder = "."
model = {kind}.from_pretrained(folder).eval()
{source.task.example.loading()}
{source.task.example.code()}""",
        notes=" ".join(_notes(source, clipping_note(placement))),
    )


def _notes(source: Source, clipping: str) -> Iterator[str]:
    if source.has_adapter:
        if clipping:
            yield f"The adapter was added to the weights as they lie on the tiles: {clipping}."
        yield "On a chip the adapter stays digital and the base alone is programmed."
