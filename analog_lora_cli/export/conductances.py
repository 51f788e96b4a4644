"""`--format conductances`: everything needed to program a chip; and the model read back from it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import CheckpointError
from analog_lora_cli.export.description import Description, auto_class
from analog_lora_cli.export.manifest import verify_export
from analog_lora_cli.export.peft import copy_adapter
from analog_lora_cli.export.source import Source, without_adapter
from analog_lora_cli.hardware.physics.conductance_file import CHIP, TARGETS, ChipMoment, read_layers, write_layers
from analog_lora_cli.hardware.physics.conductance_map import MAP
from analog_lora_cli.models.conv1d import replace_conv1d
from analog_lora_cli.models.input_ranges import set_input_ranges
from analog_lora_cli.models.modules import replace_layer
from analog_lora_cli.models.tiling import put_on_tiles
from analog_lora_cli.storage.checkpoint import write_processor
from analog_lora_cli.storage.files import read_json, write_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

DIGITAL = "digital"
ADAPTERS = "adapters"
MODEL = "model.json"


def write_conductances(source: Source, folder: Path, chip: tuple[int, float] | None) -> Description:
    """Write the tiles' conductances, the digital rest of the model, and the adapter.

    Args:
        source: the model.
        folder: an existing folder.
        chip: seed and time in seconds after programming of a chip to write the conductances of too; None: none.

    Raises:
        CheckpointError: the base is another one than at the training.
        AnaloraError: a tile has no conductances on this hardware.
    """
    from safetensors.torch import save_file

    loaded = source.build()
    analog = put_on_tiles(loaded, loaded.config.hardware)
    set_input_ranges(analog)
    moment = None if chip is None else ChipMoment(analog.program(chip[0]), chip[1])
    write_layers(folder, dict(analog.layers), analog.hardware, moment)
    on_tiles = {f"{name}.{part}" for name in analog.layers for part in ("weight", "bias")}
    plain = without_adapter(loaded)
    (folder / DIGITAL).mkdir()
    plain.config.save_pretrained(str(folder / DIGITAL))
    rest = {name: tensor.clone() for name, tensor in plain.state_dict().items() if name not in on_tiles}
    save_file(rest, str(folder / DIGITAL / "digital.safetensors"))
    if source.has_adapter:
        copy_adapter(source, folder / ADAPTERS / source.adapter, source.base_name)
    adapter = source.adapter if source.has_adapter else None
    write_json(folder / DIGITAL / MODEL, {"auto_class": auto_class(source), "adapter": adapter})
    write_processor(folder, loaded.processor)
    return _describe(source, moment)


def load_model(folder: Path | str, output_noise: float | None = None) -> PreTrainedModel | PeftModel:
    """Build the model of an export of conductances: analog layers from the conductances, the rest digital.

    Nothing but the folder is needed. The weights, and so the outputs, are bit-identical to those of the checkpoint's
    model, or of the chip if the export has one; all of it is computed in float32, also where `model.dtype` was not.

    Args:
        folder: an export of the format `conductances`.
        output_noise: standard deviation of the noise before the ADC, in tile units; 0 turns it off, None: as exported.

    Returns:
        a transformers model, or a PEFT model around one, in evaluation mode.

    Raises:
        CheckpointError: the folder is no such export, damaged, or of a later version.
    """
    import transformers
    from safetensors.torch import load_file

    folder = Path(folder)
    verify_export(folder)
    layers = read_layers(folder, output_noise)
    about = read_json(folder / DIGITAL / MODEL)
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder / DIGITAL))
        plain = _auto_class(about["auto_class"]).from_config(config, dtype=torch.float32)
        replace_conv1d(plain)
        weights = load_file(str(folder / DIGITAL / "digital.safetensors"))
        for name, layer in layers.items():
            weights[f"{name}.weight"] = layer.weight
            if layer.bias is not None:
                weights[f"{name}.bias"] = layer.bias
        plain.load_state_dict(weights)
        model = plain
        if about["adapter"] is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(plain, str(folder / ADAPTERS / about["adapter"]))
    except Exception as error:  # What a damaged file makes each library raise changes from release to release.
        raise CheckpointError(f"{folder}: the export cannot be read: {' '.join(str(error).split())[:200]}") from error
    for name, layer in layers.items():
        replace_layer(plain, name, layer)
    return model.requires_grad_(False).eval()


def _auto_class(name: str) -> type[_BaseAutoModelClass]:
    if not name.startswith("AutoModelFor"):
        raise ValueError(f"{name}: expected one of transformers' AutoModelFor... classes")
    auto_model: type[_BaseAutoModelClass] = getattr(import_module("transformers"), name)
    return auto_model


def _scale(source: Source) -> str:
    """The scale of a tile's inputs as a formula."""
    return "a = max |x|" if source.config.hardware.input_range == "dynamic" else "a = input_range[ROW], |x| at most a"


def _rotation_note(source: Source) -> str:
    """A paragraph on the rotation of the inputs; empty without one."""
    if source.config.hardware.input_rotation == "none":
        return ""
    return (
        "\n\nHere x are the model's inputs after a rotation, which the weights have in them: multiplied by signs, then "
        "in blocks of the largest power of two b that divides the inputs by Sylvester's Hadamard matrix over sqrt(b); "
        "`analog_lora_cli.hardware.tile.rotation` draws the signs from the layer's name."
    )


def _ranges_note(source: Source) -> str:
    if source.config.hardware.input_range == "dynamic":
        return ""
    return ", and `LAYER/input_range`, (rows of tiles,), in the unit of the layer's inputs"


def _more_tensors(hardware: HardwareConfig) -> str:
    """Lines of the table for tensors that not every export has."""
    lines = []
    if hardware.references:
        lines.append("| `reference` | (word lines, reference columns) | uS |")
    if hardware.adc_gain_mismatch or hardware.dead_columns:
        lines.append(f"| `adc_gain` (only in `{CHIP}`; 0: dead column) | (bit lines,) | none |")
    if hardware.adc_offset_mismatch:
        lines.append(f"| `adc_offset` (only in `{CHIP}`) | (bit lines,) | tile units |")
    return "".join(f"{line}\n" for line in lines)


def _single_device(hardware: HardwareConfig) -> str:
    """Weight of a single device as a formula."""
    return (
        "w = (g - mean(reference) + rounding) / scale"
        if hardware.references
        else ("w = offset + (g + rounding - g_min) / scale")
    )


def _adc(hardware: HardwareConfig) -> str:
    """Result of the ADC as a formula."""
    product = "q @ w" + (" - ir_drop(q, w)" if hardware.ir_drop else "")
    if hardware.adc_gain_mismatch or hardware.dead_columns:
        product = f"adc_gain * ({product})"
    terms = [product, "output_noise"]
    if hardware.read_noise_per_product:
        terms.append("read_noise(q, w)")
    if hardware.adc_offset_mismatch:
        terms.append("adc_offset")
    return f"ADC({' + '.join(terms)})"


def _describe(source: Source, moment: ChipMoment | None) -> Description:
    aged = ""
    if moment is not None:
        aged = (
            f" `{CHIP}` holds the conductances of chip {moment.chip.seed} {moment.seconds:g} s after programming, "
            "and the digital factors that compensate its drift."
        )
    return Description(
        title=f"{source.base_name} for {source.config.task.name} as conductances",
        library="analora",
        text=f"Everything needed to program a chip. `{TARGETS}` holds the target conductances of each tile, "
        f"in uS, with each column's scale and the biases.{aged} `{MAP}` is the map of layers to tiles with the "
        f"hardware: converters, device, compensation. `{DIGITAL}/` holds the parameters that stay digital, "
        f"`{ADAPTERS}/` the digital adapter for PEFT.",
        code=f"""\
import torch
from analog_lora_cli import load_conductances
from transformers import {source.task.example.processor_class}

folder = "."
model = load_conductances(folder)
{source.task.example.loading()}
{source.task.example.code()}""",
        notes=f"""\
Tensors are named `LAYER/ROW.COLUMN/WHAT`: tile (ROW, COLUMN) of a layer, ROW counted along the inputs.

| WHAT | shape | unit |
|---|---|---|
| `g_plus`, `g_minus` (several pairs: `g_plus_0`, ...; one device: `g`) | (word lines, bit lines) | uS |
| `rounding` (for reading back bit by bit; nothing that one could program) | (word lines, bit lines) | uS |
| `column_scale` | (bit lines,) | that of the layer's weight |
| `compensation` (only in `{CHIP}`) | (bit lines,) | none |
{_more_tensors(source.config.hardware)}
and `LAYER/bias`, (outputs,){_ranges_note(source)}. Word lines are inputs, bit lines outputs. A cell holds the weight
`w = (sum over its pairs of significance (g_plus - g_minus) + rounding) / scale`, or with one device
`{_single_device(source.config.hardware)}`; `scale` (uS) and `offset` stand with each tile in `{MAP}`, the others in
its `cell`. For a token's inputs x on a tile:

    {_scale(source)},  q = DAC(x / a),  y = {_adc(source.config.hardware)},
    output += a * column_scale * compensation * y

`load_conductances(folder, output_noise=0.0)` turns the noise before the ADC off. Conductances of a chip are on the
scale of the programming, so that they compare with the targets device by device.{_rotation_note(source)}""",
    )
