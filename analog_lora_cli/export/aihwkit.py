"""`--format aihwkit`: the model with a loader that builds it on aihwkit's own tiles."""

from __future__ import annotations

from pathlib import Path

from analog_lora_cli.config.times import seconds
from analog_lora_cli.export import aihwkit_loader
from analog_lora_cli.export.description import Description, auto_class
from analog_lora_cli.export.peft import BASE, copy_adapter
from analog_lora_cli.export.source import Source, plain_layers, without_adapter
from analog_lora_cli.hardware.physics.aihwkit_tiles import rpu_description
from analog_lora_cli.models.conv1d import save_original
from analog_lora_cli.models.input_ranges import set_input_ranges
from analog_lora_cli.models.tiling import put_on_tiles
from analog_lora_cli.storage.checkpoint import write_processor
from analog_lora_cli.storage.files import write_json

ADAPTER = "adapter"


def write_aihwkit(source: Source, folder: Path) -> Description:
    """Write the base with the weights of the tiles, the adapter, aihwkit's configuration, and load.py.

    Raises:
        CheckpointError: the base is another one than at the training.
    """
    hardware = source.config.hardware
    loaded = source.build()
    analog = put_on_tiles(loaded, loaded.config.hardware)  # Stored weights are not clipped again.
    set_input_ranges(analog)
    ranges = analog.input_ranges()
    layers = [layer.name for layer in plain_layers(analog).analog]
    write_processor(folder, loaded.processor)
    save_original(without_adapter(loaded), loaded.conv1d, folder / BASE)
    if source.has_adapter:
        copy_adapter(source, folder / ADAPTER, BASE, bool(loaded.conv1d))
    content = {
        "format": aihwkit_loader.FORMAT,
        "version": aihwkit_loader.VERSION,
        "auto_class": auto_class(source),
        "adapter": ADAPTER if source.has_adapter else None,
        "layers": layers,
        "input_ranges": {name: one.tolist() for name, one in ranges.items()},
        "rpu_config": rpu_description(hardware),
    }
    write_json(folder / "aihwkit.json", content)
    (folder / "load.py").write_text(Path(aihwkit_loader.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    label = source.config.drift.times[-1]
    program = f"drift_analog_weights(model, {seconds(label)!r})  # seconds after programming: {label}\n"
    return Description(
        title=f"{source.base_name} for {source.config.task.name} on aihwkit's tiles",
        library="aihwkit",
        text="Tensors, aihwkit's configuration (`aihwkit.json`) and a loader (`load.py`) that builds the model on "
        "aihwkit's own torch tiles. It needs torch, transformers, peft, safetensors and aihwkit, and no analora. Its "
        "layers compute what analora's do; `load_model(folder, output_noise=0.0)` turns the noise before the ADC off.",
        code=f"""\
import torch
from aihwkit.inference import drift_analog_weights
from load import load_model
from transformers import {source.task.example.processor_class}

folder = "."
model = load_model(folder)
{source.task.example.loading()}
{source.task.example.code(program)}""",
        notes=_notes(hardware.bound_management == "iterative"),
    )


def _notes(iterative: bool) -> str:
    notes = """\
`drift_analog_weights` programs a chip the first time, from torch's global generator, and compensates drift as
configured; `program_analog_weights(model, None)` programs another one. The layers listed in `aihwkit.json` lie on
tiles, everything else is digital.

Sums are rounded in another order than by analora, so that now and then a value falls on the neighbouring level of a
converter, which later layers amplify: with ideal converters the outputs agree to 1e-5, with real ones each layer does
but for such values."""
    if iterative:
        notes += (
            " aihwkit decides iterative bound management for a whole batch at once, analora for each token: outputs "
            "that saturate differ."
        )
    return notes
