"""The memory devices that `hardware.device` can name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from analog_lora_cli.config.device_file import check_constants
from analog_lora_cli.config.registry import Registry

Converter = Literal["single-pair", "dual-pair", "n-pair", "custom-pair", "single-device"]


@dataclass(frozen=True)
class Device:
    """A memory device, as a noise model characterizes it."""

    name: str
    description: str
    noise_model: str
    """Dotted path of the class, aihwkit's or one in its form: programming noise, drift and read noise."""
    g_min: float = 0.0
    """Conductance of a zero weight in uS that the model's constants belong to (aihwkit's default)."""
    g_max: float = 25.0
    """Conductance of the largest weight in uS that the model's constants belong to (aihwkit's default)."""
    converter: Converter = "single-pair"
    """Mapping of a weight to conductances, unless the configuration names another."""
    takes_converters: bool = True
    """Whether another converter can be chosen."""

    @property
    def in_aihwkit(self) -> bool:
        """Whether aihwkit alone, without this package, has the noise model."""
        return self.noise_model.startswith("aihwkit.")

    def conductance_range(self, options: Mapping[str, object]) -> tuple[float, float]:
        """Conductances of a zero and of the largest weight in uS that the constants belong to.

        Args:
            options: `hardware.device_options`.
        """
        return self.g_min, self.g_max

    def check(self, options: Mapping[str, object], g_max: float) -> None:
        """Check the device's constants as far as that needs no aihwkit.

        Args:
            options: `hardware.device_options`.
            g_max: conductance of the largest weight in uS.

        Raises:
            ValueError: they are wrong.
        """


class FittedDevice(Device):
    """A device whose constants are all in `hardware.device_options`, from a device file."""

    def conductance_range(self, options: Mapping[str, object]) -> tuple[float, float]:
        """From 0 to the largest conductance that was measured, in uS.

        Raises:
            ValueError: the constants are wrong, or there are none.
        """
        if not options:
            raise ValueError(
                f"device {self.name} is what a device file becomes: name the file that `analora fit-device` wrote, "
                "such as device: DEVICE.yaml"
            )
        return self.g_min, check_constants(options).g_max_uS

    def check(self, options: Mapping[str, object], g_max: float) -> None:
        """Check the constants, and that no device is programmed beyond what was measured.

        Raises:
            ValueError: they are wrong.
        """
        _, measured = self.conductance_range(options)
        if g_max > measured:
            raise ValueError(
                f"g_max ({g_max:g} uS) is above the largest conductance that the device file was fitted to "
                f"({measured:g} uS): lower it, or measure up to it"
            )


FITTED = "fitted"
"""Name that stands in a configuration for a device file once it was read."""


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
    FittedDevice(
        FITTED,
        "a device of one's own: hardware.device names the file that `analora fit-device` wrote",
        "analog_lora_cli.hardware.physics.fitted_noise.FittedNoiseModel",
    ),
):
    DEVICES.register([_device.name], _device)
