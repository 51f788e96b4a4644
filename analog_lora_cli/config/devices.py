"""The memory devices that `hardware.device` can name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analog_lora_cli.config.registry import Registry

Converter = Literal["single-pair", "dual-pair", "n-pair", "custom-pair", "single-device"]


@dataclass(frozen=True)
class Device:
    """A memory device, as one of aihwkit's noise models characterizes it."""

    name: str
    description: str
    noise_model: str
    """Dotted path of aihwkit's class: programming noise, drift and read noise."""
    g_min: float = 0.0
    """Conductance of a zero weight in uS that the model's constants belong to (aihwkit's default)."""
    g_max: float = 25.0
    """Conductance of the largest weight in uS that the model's constants belong to (aihwkit's default)."""
    converter: Converter = "single-pair"
    """Mapping of a weight to conductances, unless the configuration names another."""
    takes_converters: bool = True
    """Whether another converter can be chosen."""


DEVICES: Registry[Device] = Registry("device")
"""The devices by name; the first one is the default."""

_NOISE = "aihwkit.inference.noise"
for _device in (
    Device("pcm", "phase-change memory, fitted to a million devices", f"{_NOISE}.pcm.PCMLikeNoiseModel"),
    # The published set was measured with two devices for each weight.
    Device("hermes", "phase-change memory of the HERMES chip", f"{_NOISE}.hermes.HermesNoiseModel", g_max=20.7),
    Device(
        "reram-cmo",
        "filamentary ReRAM with a conductive metal oxide; one device for each weight",
        f"{_NOISE}.reram.ReRamCMONoiseModel",
        g_min=9.0,
        g_max=88.199997,
        converter="single-device",
        takes_converters=False,
    ),
    Device(
        "reram-wan2022", "ReRAM as measured by Wan et al., 2022", f"{_NOISE}.reram.ReRamWan2022NoiseModel", g_max=40.0
    ),
    Device(
        "state-independent",
        "phase-change memory whose drift does not depend on the conductance",
        f"{_NOISE}.custom.StateIndependentNoiseModel",
    ),
    Device(
        "custom-drift",
        "phase-change memory with a drift law of its own in hardware.device_options",
        f"{_NOISE}.pcm.CustomDriftPCMLikeNoiseModel",
    ),
):
    DEVICES.register([_device.name], _device)
