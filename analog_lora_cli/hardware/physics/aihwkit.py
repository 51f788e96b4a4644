"""From the configuration to aihwkit's objects: the only module that knows aihwkit's classes."""

from __future__ import annotations

import inspect
from dataclasses import fields
from enum import Enum
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from analog_lora_cli.config.devices import DEVICES
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.effective_weights import TileState

_CONVERTERS = {
    "single-pair": "SinglePairConductanceConverter",
    "dual-pair": "DualPairConductanceConverter",
    "n-pair": "NPairConductanceConverter",
    "custom-pair": "CustomPairConductanceConverter",
    "single-device": "SingleDeviceConductanceConverter",
}


_COMPENSATIONS = {
    "none": None,
    "global": "GlobalDriftCompensation",
    "global-exact": "GlobalDriftCompensationWithExactReference",
    "per-column": "PerColumnDriftCompensation",
}


def noise_model(hardware: HardwareConfig) -> Any:
    """aihwkit's noise model for the configured device, with its conductance converter.

    Raises:
        ConfigError: a constant in `device_options` or `converter_options` that the model does not have, or does not
            accept.
    """
    device_class = _device_class(hardware)
    options = dict(hardware.device_options)
    if {"prog_coeff", "prog_coeff_g_max_reference"} <= options.keys():
        raise ConfigError(
            [
                "hardware.device_options: aihwkit cannot take prog_coeff together with prog_coeff_g_max_reference; "
                "scale prog_coeff to g_max and leave the reference out"
            ]
        )
    if "coeff_dic" in options:
        options["coeff_dic"] = _by_seconds(options["coeff_dic"])
    if DEVICES[hardware.device].takes_converters:
        ours = {"g_converter": conductance_converter(hardware)}
    else:
        if hardware.converter_name != "single-device" or hardware.converter_options:
            raise ConfigError([f"hardware.converter: device {hardware.device} has one converter only: single-device"])
        ours = _conductance_range(hardware)
    model = _construct(device_class, options, ours, "device_options")
    _try_out(model)
    return model


def conductance_converter(hardware: HardwareConfig) -> Any:
    """aihwkit's converter between weights and conductances (uS).

    Raises:
        ConfigError: a constant in `converter_options` that the converter does not have, or does not accept.
    """
    return _construct(
        _converter_class(hardware), hardware.converter_options, _conductance_range(hardware), "converter_options"
    )


def _device_class(hardware: HardwareConfig) -> Any:
    module, _, name = DEVICES[hardware.device].noise_model.rpartition(".")
    return getattr(import_module(module), name)


def _converter_class(hardware: HardwareConfig) -> Any:
    from aihwkit.inference.converter import conductance

    return getattr(conductance, _CONVERTERS[hardware.converter_name])


def _conductance_range(hardware: HardwareConfig) -> dict[str, Any]:
    g_min, g_max = hardware.conductance_range
    return {"g_max": g_max, "g_min": g_min}


def _by_seconds(table: Any) -> dict[float, Any]:
    """YAML and JSON may give the times as text."""
    try:
        return {float(time): value for time, value in table.items()}
    except (AttributeError, TypeError, ValueError):
        raise ConfigError(["hardware.device_options.coeff_dic: expected coefficients by time in seconds"]) from None


def _construct(cls: Any, options: dict[str, Any], ours: dict[str, Any], key: str) -> Any:
    # The range and the converter have keys of their own: aihwkit would ignore them here without a word.
    known = inspect.signature(cls.__init__).parameters.keys() - {"self", "g_converter", "g_max", "g_min"}
    unknown = sorted(options.keys() - known)
    if unknown:
        allowed = ", ".join(sorted(known)) or "none"
        raise ConfigError([f"hardware.{key}.{name}: unknown for {cls.__name__}; known: {allowed}" for name in unknown])
    try:
        return cls(**options, **ours)
    except (TypeError, ValueError, AssertionError, ArithmeticError) as error:
        raise ConfigError([f"hardware.{key}: {cls.__name__} does not accept this: {error}"]) from None


def _try_out(model: Any) -> None:
    """Program and read a few devices: aihwkit checks hardly any constant before it computes with it."""
    name = type(model).__name__
    try:
        with torch.random.fork_rng(devices=[]):
            held, parameters = model.apply_programming_noise(torch.tensor([[1.0, -0.5], [0.0, 0.25]]))
            for time in defined_times(model) or [0.0, 3600.0]:
                held = held + model.apply_drift_noise(held, parameters, time)
    except Exception as error:  # Whatever aihwkit makes of a wrong type or length.
        raise ConfigError([f"hardware.device_options: {name} cannot compute with this: {error!r}"]) from None
    if not torch.isfinite(held).all():
        raise ConfigError([f"hardware.device_options: {name} gives weights that are not finite with this"])


def defined_times(model: Any) -> list[float] | None:
    """Times in seconds that a noise model has data for; None: any time of 0 s or more."""
    times = getattr(model, "coeff_dic", None)
    return None if times is None else sorted(float(time) for time in times)


def rpu_config(hardware: HardwareConfig) -> Any:
    """aihwkit's configuration of a torch inference tile with the same arithmetic as `AnalogLinear`."""
    from aihwkit.simulator.configs import TorchInferenceRPUConfig
    from aihwkit.simulator.parameters.enums import (
        BoundManagementType,
        NoiseManagementType,
        WeightClipType,
        WeightModifierType,
        WeightRemapType,
    )

    config: Any = TorchInferenceRPUConfig()
    config.mapping.max_input_size = hardware.tile_rows
    config.mapping.max_output_size = hardware.tile_columns
    config.mapping.weight_scaling_omega = 1.0
    config.mapping.weight_scaling_columnwise = True
    config.mapping.learn_out_scaling = False
    config.mapping.digital_bias = True
    config.forward.inp_res = 1.0 / (2**hardware.dac_bits - 2) if hardware.dac_bits else -1
    config.forward.out_res = 1.0 / (2**hardware.adc_bits - 2) if hardware.adc_bits else -1
    config.forward.inp_bound = 1.0
    config.forward.out_bound = hardware.adc_bound if hardware.adc_bound else -1
    config.forward.out_noise = hardware.output_noise
    config.forward.noise_management = NoiseManagementType.ABS_MAX
    iterative = hardware.bound_management == "iterative"
    config.forward.bound_management = BoundManagementType.ITERATIVE if iterative else BoundManagementType.NONE
    gaussian = hardware.weight_noise_type == "gaussian" and hardware.weight_noise > 0
    config.modifier.type = WeightModifierType.ADD_NORMAL if gaussian else WeightModifierType.NONE
    config.modifier.std_dev = hardware.weight_noise
    config.clip.type = WeightClipType.NONE
    config.remap.type = WeightRemapType.NONE
    config.drift_compensation = None
    return config


def rpu_description(hardware: HardwareConfig) -> dict[str, Any]:
    """`rpu_config` and what programs and drifts its tiles, as JSON can hold it.

    Sections of plain values stand by their names, enumerations by their members' names; objects as their class and
    the arguments of its constructor.
    """
    config = rpu_config(hardware)
    sections = {name: _plain_fields(getattr(config, name)) for name in ("mapping", "forward", "modifier")}
    device_class = _device_class(hardware)
    arguments = dict(hardware.device_options)
    if DEVICES[hardware.device].takes_converters:
        options = {**hardware.converter_options, **_conductance_range(hardware)}
        arguments["g_converter"] = {"class": _path(_converter_class(hardware)), "arguments": options}
    else:
        arguments |= _conductance_range(hardware)
    compensation = _COMPENSATIONS[hardware.drift_compensation]
    objects = {
        "noise_model": {"class": _path(device_class), "arguments": arguments},
        "drift_compensation": None
        if compensation is None
        else {"class": f"aihwkit.inference.compensation.drift.{compensation}", "arguments": {}},
    }
    return {"sections": sections, "objects": objects}


def _path(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__name__}"


def _plain_fields(section: Any) -> dict[str, Any]:
    values = {field.name: getattr(section, field.name) for field in fields(section)}
    return {name: value.name if isinstance(value, Enum) else value for name, value in values.items()}


class AihwkitLinear(AnalogLinear):
    """aihwkit's own analog layer in the place of this project's tile, for comparison; slower.

    It draws its noise from torch's default generators, decides iterative bound management for the whole batch, and
    does not train its weights. A chip sets it in the same way.
    """

    simulated: Any

    def set_hardware(self, hardware: HardwareConfig) -> None:
        """Build the tiles anew for other hardware; forgets what a chip held."""
        from aihwkit.nn import AnalogLinear as Layer

        simulated = Layer(self.in_features, self.out_features, bias=False, rpu_config=rpu_config(hardware))
        simulated.requires_grad_(False)
        # Outside the module tree, because its state dict holds pickles.
        object.__setattr__(self, "simulated", simulated)
        super().set_hardware(hardware)

    def refresh_scales(self) -> None:
        """Write the weights onto aihwkit's tiles; needed whenever they have changed."""
        super().refresh_scales()
        self._write(None)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply (..., in_features) to (..., out_features)."""
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

    def _apply(self, fn: Any, recurse: bool = True) -> AihwkitLinear:
        super()._apply(fn, recurse)
        self.simulated._apply(fn)
        return self

    def _write(self, state: TileState | None) -> None:
        held = self.weight.detach() if state is None else state.weight
        tiles = iter(self.simulated.analog_tiles())
        for row, (start, stop) in enumerate(self.grid.rows):
            for first, last in self.grid.columns:
                scale = self.column_scale[row, first:last]
                safe = torch.where(scale > 0, scale, torch.ones_like(scale))
                tile = next(tiles)
                tile.tile.set_weights(held[first:last, start:stop] / safe[:, None])
                after = scale if state is None else scale * state.compensation[row, first:last]
                tile.set_scales(after.clone())
        self._written = state
