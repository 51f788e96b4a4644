"""Memory devices and conductance converters of the configuration as aihwkit's objects."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

import torch

from analog_lora_cli.config.devices import DEVICES
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.hardware.kernels.choice import compiled, uses_triton
from analog_lora_cli.hardware.physics.aihwkit_cells import AihwkitCells
from analog_lora_cli.hardware.physics.cells import CellModel
from analog_lora_cli.hardware.physics.gpu_cells import GpuPcmCells
from analog_lora_cli.hardware.physics.pcm_cells import PcmCells
from analog_lora_cli.hardware.physics.pcm_laws import PcmLaws, device_pairs

if TYPE_CHECKING:
    from aihwkit.inference.converter.base import BaseConductanceConverter
    from aihwkit.inference.noise.base import BaseNoiseModel

Instance = TypeVar("Instance")

_CONVERTERS = {
    "single-pair": "SinglePairConductanceConverter",
    "dual-pair": "DualPairConductanceConverter",
    "n-pair": "NPairConductanceConverter",
    "custom-pair": "CustomPairConductanceConverter",
    "single-device": "SingleDeviceConductanceConverter",
}


def noise_model(hardware: HardwareConfig) -> BaseNoiseModel:
    """aihwkit's noise model for the configured device, with its conductance converter.

    Raises:
        ConfigError: a constant in `device_options` or `converter_options` that the model does not have, or does not
            accept.
    """
    cls = device_class(hardware)
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
        fixed: Mapping[str, object] = {"g_converter": conductance_converter(hardware)}
    else:
        if hardware.converter_name != "single-device" or hardware.converter_options:
            raise ConfigError([f"hardware.converter: device {hardware.device} has one converter only: single-device"])
        fixed = conductance_limits(hardware)
    model = _construct(cls, options, fixed, "device_options")
    _try_out(model)
    return model


def cell_model(hardware: HardwareConfig) -> CellModel:
    """The configured device and converter as a chip simulates them.

    Phase-change memory and fitted devices in pairs are computed from counter-based random numbers, others by aihwkit.

    Raises:
        ConfigError: as for `noise_model`.
    """
    model = noise_model(hardware)
    laws, pairs = PcmLaws.of(model), device_pairs(model.g_converter)
    if laws is None or pairs is None:
        return AihwkitCells(model, model.g_converter)
    if hardware.kernels == "triton":
        # In the interpreter the kernels, not the loops, compute a CPU's tiles.
        loops = compiled(hardware) and not uses_triton(hardware, torch.device("cpu"))
        return GpuPcmCells(laws, pairs, model.g_converter, loops, hardware)
    return PcmCells(laws, pairs, model.g_converter, compiled(hardware))


def conductance_converter(hardware: HardwareConfig) -> BaseConductanceConverter:
    """aihwkit's converter between weights and conductances (uS).

    Raises:
        ConfigError: a constant in `converter_options` that the converter does not have, or does not accept.
    """
    return _construct(
        converter_class(hardware), hardware.converter_options, conductance_limits(hardware), "converter_options"
    )


def device_class(hardware: HardwareConfig) -> type[BaseNoiseModel]:
    """aihwkit's class of the configured device."""
    module, _, name = DEVICES[hardware.device].noise_model.rpartition(".")
    cls: type[BaseNoiseModel] = getattr(import_module(module), name)
    return cls


def converter_class(hardware: HardwareConfig) -> type[BaseConductanceConverter]:
    """aihwkit's class of the configured conductance converter."""
    from aihwkit.inference.converter import conductance

    cls: type[BaseConductanceConverter] = getattr(conductance, _CONVERTERS[hardware.converter_name])
    return cls


def conductance_limits(hardware: HardwareConfig) -> dict[str, float]:
    """Arguments of aihwkit's constructors: smallest and largest conductance in uS."""
    g_min, g_max = hardware.conductance_range
    return {"g_max": g_max, "g_min": g_min}


def _by_seconds(table: object) -> dict[float, object]:
    """Coefficients by time; YAML and JSON may give the times as text."""
    try:
        assert isinstance(table, dict)
        return {float(time): value for time, value in table.items()}
    except (AssertionError, TypeError, ValueError):
        raise ConfigError(["hardware.device_options.coeff_dic: expected coefficients by time in seconds"]) from None


def _construct(
    cls: Callable[..., Instance], options: Mapping[str, object], fixed: Mapping[str, object], key: str
) -> Instance:
    # The range and the converter have keys of their own: aihwkit would ignore them here without a word.
    known = inspect.signature(cls).parameters.keys() - {"g_converter", "g_max", "g_min"}
    unknown = sorted(options.keys() - known)
    if unknown:
        allowed = ", ".join(sorted(known)) or "none"
        raise ConfigError([f"hardware.{key}.{name}: unknown for {cls.__name__}; known: {allowed}" for name in unknown])
    try:
        return cls(**options, **fixed)
    except (TypeError, ValueError, AssertionError, ArithmeticError) as error:
        raise ConfigError([f"hardware.{key}: {cls.__name__} does not accept this: {error}"]) from None


def _try_out(model: BaseNoiseModel) -> None:
    """Program and read a few devices: aihwkit checks hardly any constant before it computes with it."""
    name = type(model).__name__
    try:
        with torch.random.fork_rng(devices=[]):
            weights, parameters = model.apply_programming_noise(torch.tensor([[1.0, -0.5], [0.0, 0.25]]))
            for time in defined_times(model) or [0.0, 3600.0]:
                weights = weights + model.apply_drift_noise(weights, parameters, time)
    except Exception as error:  # aihwkit raises anything for a wrong type or length.
        raise ConfigError([f"hardware.device_options: {name} cannot compute with this: {error!r}"]) from None
    if not torch.isfinite(weights).all():
        raise ConfigError([f"hardware.device_options: {name} gives weights that are not finite with this"])


def defined_times(model: BaseNoiseModel) -> list[float] | None:
    """Times in seconds that a noise model has data for; None: any time of 0 s or more."""
    times = getattr(model, "coeff_dic", None)
    return None if times is None else sorted(float(time) for time in times)


def undefined_times(hardware: HardwareConfig, times: list[float]) -> tuple[list[float], list[float] | None]:
    """Times that the configured device has no data for, and those that it has data for.

    Args:
        hardware: configuration of the device.
        times: seconds after programming.

    Returns:
        the undefined times, and the defined ones in seconds (None: all).
    """
    defined = defined_times(noise_model(hardware))
    if defined is None:
        return [], None
    return [time for time in times if time not in defined], defined
