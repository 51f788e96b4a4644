"""Input ranges of the layers on tiles: those of a checkpoint, or calibrated on training data."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import UsageError
from analog_lora_cli.hardware.tile.calibration import LayerInputs
from analog_lora_cli.models.tiling import AnalogModel
from analog_lora_cli.models.training_inputs import batches_of, digital_inputs, training_sample
from analog_lora_cli.runtime import processes


def set_input_ranges(model: AnalogModel, before_training: bool = False) -> None:
    """Give each layer the ranges of its inputs; nothing with `input_range: dynamic`.

    Args:
        model: the model; ranges that its checkpoint has for this hardware are taken, others are calibrated.
        before_training: whether a training follows, so that learned ranges may start from calibrated ones.

    Raises:
        UsageError: learned ranges are asked for, and the checkpoint has none for this hardware.
        DataError, HubError: the training data cannot be read.
        AnaloraError: the inputs of a layer are not finite.
    """
    if model.hardware.input_range == "dynamic":
        return
    ranges = model.loaded.input_ranges
    if not ranges.keys() >= model.layers.keys():
        if not before_training:
            require_learned_ranges(model.hardware, {})
        ranges = calibrated_ranges(model)
        if before_training:  # Outside a training each process may have another part of the measurements, or none.
            ranges = processes.gather(ranges)[0]
    for name, layer in model.layers.items():
        layer.set_input_range(ranges[name])


def require_learned_ranges(hardware: HardwareConfig, ranges: Mapping[str, Tensor]) -> None:
    """Check that learned ranges are there where they are asked for.

    Args:
        hardware: the hardware to be used.
        ranges: those that the checkpoint has for it.

    Raises:
        UsageError: they are not.
    """
    if hardware.input_range == "learned" and not ranges:
        raise UsageError(
            "hardware.input_range: learned ranges come from a training, and this one has none for these tiles; "
            "use static, which is calibrated, or train with learned"
        )


def calibrated_ranges(model: AnalogModel) -> dict[str, Tensor]:
    """Calibrate the ranges on training data, while the model computes digitally; padding does not count.

    The samples are drawn by `train.seed`: the same in each process and at each call.

    Args:
        model: the model, with its processor.

    Returns:
        (rows of tiles,) by layer, on the CPU.
    """
    inputs = {name: LayerInputs(layer.grid, model.hardware) for name, layer in model.layers.items()}
    features = training_sample(model.loaded, model.hardware.input_range_samples)

    def add(name: str, x: Tensor) -> None:
        inputs[name].add(model.layers[name].at_tiles(x))

    digital_inputs(model, batches_of(model.loaded, features), add)
    return {name: one.ranges() for name, one in inputs.items()}
