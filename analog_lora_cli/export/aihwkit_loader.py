"""Builds the model in this folder on aihwkit's own tiles.

Needs torch, transformers, peft, safetensors and aihwkit; nothing in it is a pickle.

    from load import load_model

    model = load_model(".")
"""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
import transformers
from aihwkit.nn import AnalogLinear
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import nn
from transformers.pytorch_utils import Conv1D

FORMAT = "analora-aihwkit"
VERSION = 1


def load_model(folder: str | Path = ".", output_noise: float | None = None) -> nn.Module:
    """Build the model: its linear layers on aihwkit's tiles, adapter and everything else digital.

    The weights on the tiles are exact until `aihwkit.inference.program_analog_weights(model, None)` or
    `aihwkit.inference.drift_analog_weights(model, seconds)` is called.

    Args:
        folder: the export.
        output_noise: standard deviation of the noise before the ADC, in tile units; None: as it was exported.

    Returns:
        a transformers model, or a PEFT model around one, in evaluation mode.

    Raises:
        ValueError: the folder is damaged, of another format or version, or names what this aihwkit does not have.
    """
    folder = Path(folder)
    content = json.loads((folder / "aihwkit.json").read_text(encoding="utf-8"))
    if (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{folder / 'aihwkit.json'}: expected {FORMAT}, version {VERSION}")
    check_files(folder)
    config = build_rpu_config(content["rpu_config"])
    if output_noise is not None:
        config.forward.out_noise = output_noise
    if not content["auto_class"].startswith("AutoModelFor"):
        raise ValueError(f"{folder / 'aihwkit.json'}: {content['auto_class']}: expected an AutoModelFor... class")
    auto_class = getattr(transformers, content["auto_class"])
    plain: nn.Module = auto_class.from_pretrained(folder / "base", dtype=torch.float32)
    model = plain
    if content["adapter"] is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(plain, folder / content["adapter"])
    for name in content["layers"]:
        put_on_tiles(plain, name, config, content["input_ranges"].get(name))
    return model.eval()


def check_files(folder: Path) -> None:
    """Compare each file with the hash that was taken when it was written.

    Raises:
        ValueError: one is missing or changed.
    """
    hashes = json.loads((folder / "export.json").read_text(encoding="utf-8"))["files"]
    for name, digest in hashes.items():
        file = folder / name
        if file.suffix == ".md":  # People may write into a README.
            continue
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise ValueError(f"{file}: missing, or not as it was exported; export again")


def build_rpu_config(description: dict[str, Any]) -> TorchInferenceRPUConfig:
    """aihwkit's configuration from its fields by name."""
    config = TorchInferenceRPUConfig()
    for section_name, values in description["sections"].items():
        section = attrgetter(section_name)(config)
        for name, value in values.items():
            if not hasattr(section, name):
                raise ValueError(f"this release of aihwkit has no {section_name}.{name}")
            current = getattr(section, name)
            # An enumeration is written as its member's name.
            setattr(section, name, type(current)[value] if hasattr(type(current), "__members__") else value)
    for name, value in description["objects"].items():
        setattr(config, name, build_object(value))
    return config


def build_object(value: Any) -> Any:
    """One of aihwkit's objects from its class and the arguments of its constructor; anything else as it is."""
    if not isinstance(value, dict) or value.keys() != {"class", "arguments"}:
        return value
    module, _, name = value["class"].rpartition(".")
    if not module.startswith("aihwkit.inference."):
        raise ValueError(f"{value['class']}: only classes of aihwkit.inference are expected here")
    arguments = {key: build_object(item) for key, item in value["arguments"].items()}
    if "coeff_dic" in arguments:  # Times in seconds, which JSON keeps as text.
        arguments["coeff_dic"] = {float(time): item for time, item in arguments["coeff_dic"].items()}
    return getattr(import_module(module), name)(**arguments)


def put_on_tiles(
    plain: nn.Module, name: str, config: TorchInferenceRPUConfig, input_ranges: list[float] | None
) -> None:
    """Replace one linear layer, or the one inside an adapter's layer, by aihwkit's.

    Args:
        plain: the model without its adapter.
        name: the layer's name in it.
        config: configuration of the tiles.
        input_ranges: the range of the inputs of each row of tiles; None: each token's own.
    """
    parent: Any = plain.get_submodule(name)
    attribute = "base_layer"
    if not hasattr(parent, attribute):
        outer, _, attribute = name.rpartition(".")
        parent = plain.get_submodule(outer)
    linear = getattr(parent, attribute)
    weight = linear.weight.t() if isinstance(linear, Conv1D) else linear.weight  # GPT-2's layers are transposed.
    outputs, inputs = weight.shape
    tiles = AnalogLinear(inputs, outputs, linear.bias is not None, rpu_config=config)
    tiles.set_weights(weight, linear.bias)
    if input_ranges is not None:
        # Rows of tiles along the inputs come first, those side by side have the same inputs.
        all_tiles = list(tiles.analog_tiles())
        side_by_side = len(all_tiles) // len(input_ranges)
        for index, tile in enumerate(all_tiles):
            tile.set_input_range(input_ranges[index // side_by_side])
    tiles.requires_grad_(False)
    # aihwkit keeps nothing in `weight` and a flag in `bias`; DoRA computes with both of them.
    for part in ("weight", "bias"):
        value = getattr(linear, part)
        delattr(tiles, part)
        tiles.register_buffer(part, None if value is None else value.detach().clone(), persistent=False)
    setattr(parent, attribute, tiles)
