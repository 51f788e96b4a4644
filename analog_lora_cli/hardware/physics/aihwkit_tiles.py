"""aihwkit's own tiles: their configuration, and an analog layer that computes with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from analog_lora_cli.config.devices import DEVICES
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.devices import (
    conductance_limits,
    converter_class,
    device_class,
)
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.state import TileState

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from aihwkit.nn import AnalogLinear as AihwkitLayer
    from aihwkit.simulator.configs import TorchInferenceRPUConfig

_COMPENSATIONS = {
    "none": None,
    "global": "GlobalDriftCompensation",
    "global-exact": "GlobalDriftCompensationWithExactReference",
    "per-column": "PerColumnDriftCompensation",
}


def rpu_config(hardware: HardwareConfig) -> TorchInferenceRPUConfig:
    """aihwkit's configuration of a torch inference tile with the numerics of `AnalogLinear`."""
    from aihwkit.simulator.configs import TorchInferenceRPUConfig
    from aihwkit.simulator.parameters.enums import (
        BoundManagementType,
        NoiseManagementType,
        WeightClipType,
        WeightModifierType,
        WeightRemapType,
    )

    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = hardware.tile_rows
    config.mapping.max_output_size = hardware.weight_columns
    config.mapping.weight_scaling_omega = 1.0
    config.mapping.weight_scaling_columnwise = True
    config.mapping.learn_out_scaling = False
    config.mapping.digital_bias = True
    config.forward.inp_res = 1.0 / (2**hardware.dac_bits - 2) if hardware.dac_bits else -1
    config.forward.out_res = 1.0 / (2**hardware.adc_bits - 2) if hardware.adc_bits else -1
    config.forward.inp_bound = 1.0
    config.forward.out_bound = hardware.adc_bound if hardware.adc_bound else -1
    config.forward.out_noise = hardware.output_noise
    dynamic = hardware.input_range == "dynamic"
    config.forward.noise_management = NoiseManagementType.ABS_MAX if dynamic else NoiseManagementType.NONE
    # The ranges themselves are set on each tile.
    config.pre_post.input_range.enable = not dynamic
    config.pre_post.input_range.learn_input_range = False
    config.pre_post.input_range.init_from_data = 0
    iterative = hardware.bound_management == "iterative"
    config.forward.bound_management = BoundManagementType.ITERATIVE if iterative else BoundManagementType.NONE
    gaussian = hardware.weight_noise_type == "gaussian" and hardware.weight_noise > 0
    config.modifier.type = WeightModifierType.ADD_NORMAL if gaussian else WeightModifierType.NONE
    config.modifier.std_dev = hardware.weight_noise
    config.clip.type = WeightClipType.NONE
    config.remap.type = WeightRemapType.NONE
    config.drift_compensation = None
    return config


def rpu_description(hardware: HardwareConfig) -> dict[str, dict[str, object]]:
    """`rpu_config`, and the noise model and drift compensation of its tiles, in values of JSON.

    Sections are plain values by name, enumerations names of members; objects are their class and the arguments of its
    constructor.
    """
    config = rpu_config(hardware)
    sections: dict[str, object] = {
        name: _plain_fields(getattr(config, name)) for name in ("mapping", "forward", "modifier")
    }
    if hardware.input_range != "dynamic":
        sections["pre_post.input_range"] = _plain_fields(config.pre_post.input_range)
    device = device_class(hardware)
    arguments: dict[str, object] = dict(hardware.device_options)
    if DEVICES[hardware.device].takes_converters:
        options = {**hardware.converter_options, **conductance_limits(hardware)}
        arguments["g_converter"] = {"class": _path(converter_class(hardware)), "arguments": options}
    else:
        arguments |= conductance_limits(hardware)
    compensation = _COMPENSATIONS[hardware.drift_compensation]
    objects: dict[str, object] = {
        "noise_model": {"class": _path(device), "arguments": arguments},
        "drift_compensation": None
        if compensation is None
        else {"class": f"aihwkit.inference.compensation.drift.{compensation}", "arguments": {}},
    }
    return {"sections": sections, "objects": objects}


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}"


def _plain_fields(section: DataclassInstance) -> dict[str, object]:
    values = {field.name: getattr(section, field.name) for field in fields(section)}
    return {name: value.name if isinstance(value, Enum) else value for name, value in values.items()}


class AihwkitLinear(AnalogLinear):
    """aihwkit's own analog layer instead of this project's tiles, for comparison; slower.

    It draws its noise from torch's default generators, new in each forward pass and in training mode only, whatever
    the scope of `TrainingNoise`; decides iterative bound management for the whole batch; and does not train its
    weights. A chip sets it in the same way.
    """

    simulated: AihwkitLayer

    def set_hardware(self, hardware: HardwareConfig) -> None:
        """Build the tiles for other hardware; returns to the exact weights."""
        from aihwkit.nn import AnalogLinear as Layer

        simulated = Layer(self.in_features, self.out_features, bias=False, rpu_config=rpu_config(hardware))
        simulated.requires_grad_(False).to(self.weight.device)
        # Outside the module tree, because its state dict holds pickles.
        object.__setattr__(self, "simulated", simulated)
        super().set_hardware(hardware)

    def refresh_scales(self) -> None:
        """Write the weights onto aihwkit's tiles; needed whenever they have changed."""
        super().refresh_scales()
        self._write(None)

    def set_input_range(self, range_R: Tensor) -> None:
        """Use these ranges of the inputs, see `AnalogLinear`."""
        super().set_input_range(range_R)
        self._write(self.state)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply (..., in_features) to (..., out_features)."""
        x = self.at_tiles(x)
        if not self.analog:
            return nn.functional.linear(x, self.weight, self.bias)
        if self._written is not self.state:
            self._write(self.state)
        self.simulated.train(self.training and self.noise is not None)
        if self.training and self.noise is not None:
            for tile in self.simulated.analog_tiles():
                tile.rpu_config.modifier.std_dev = self.hardware.weight_noise * self.noise.strength
        output: Tensor = self.simulated(x)
        return output if self.bias is None else output + self.bias

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> AihwkitLinear:
        self.simulated._apply(fn)  # First, because the weights are written onto it again.
        super()._apply(fn, recurse)
        return self

    def _write(self, state: TileState | None) -> None:
        weight = self.weight.detach() if state is None else state.weight
        for tile, aihwkit_tile in zip(self.grid, self.simulated.analog_tiles(), strict=True):
            scale = self.column_scale[tile.columns]
            safe = torch.where(scale > 0, scale, torch.ones_like(scale))
            aihwkit_tile.tile.set_weights(weight[tile.weights] / safe[:, None])
            output_scale = scale if state is None else scale * state.compensation[tile.columns]
            aihwkit_tile.set_scales(output_scale.clone())
            if self.input_range is not None:
                aihwkit_tile.set_input_range(float(self.input_range.detach()[tile.row]))
        self._written = state
