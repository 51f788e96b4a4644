"""Device files: the constants of one's own memory device, as `analora fit-device` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from analog_lora_cli.config.registry import shown
from analog_lora_cli.config.section import Section
from analog_lora_cli.config.yaml_file import dump_yaml, read_yaml_mapping
from analog_lora_cli.errors import ConfigError

SUFFIXES = (".yaml", ".yml")
"""Ends of the name of a device file, by which `hardware.device` tells it from a device's name."""

_HEAD = """\
# A memory device, fitted by `analora fit-device`; use it with hardware.device: FILE.
# g: target conductance / g_max_uS. t: seconds after programming; a time of 0 s in drift.times is t_0_s.
#   programming noise    sigma (uS) = sum_i programming_noise_uS[i] g^i
#   drift                G(t) = G (t / t_0_s)^-nu, nu normal among devices; mean and spread of nu:
#                        slope ln(g) + intercept, not below min and not above max
#   read noise           sigma / G = min(factor g^-exponent, max) sqrt(ln((t + t_read_s) / (2 t_read_s)))
"""


class ClippedLaw(Section):
    """A quantity against the relative conductance g: slope ln(g) + intercept, between min and max."""

    slope: float
    intercept: float
    min: float = Field(ge=0)
    max: float = Field(ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> ClippedLaw:
        if self.min > self.max:
            raise ValueError(f"min ({self.min:g}) must not be above max ({self.max:g})")
        return self


class ReadNoise(Section):
    """Standard deviation of the read noise relative to the conductance: min(factor g^-exponent, max)."""

    factor: float = Field(ge=0)
    exponent: float = Field(ge=-2, le=2)
    max: float = Field(ge=0, le=10)


class DeviceConstants(Section):
    """The constants of a fitted device; the form is that of aihwkit's `PCMLikeNoiseModel`."""

    g_max_uS: float = Field(gt=0)
    """Largest conductance that was measured, in uS."""
    t_0_s: float = Field(gt=0)
    """First read, in seconds after programming."""
    t_read_s: float = Field(gt=0)
    """Duration of one read, in seconds."""
    programming_noise_uS: list[float] = Field(min_length=1, max_length=6)
    """Standard deviation of the programming error in uS: coefficients of the powers of g, lowest first."""
    drift_mean: ClippedLaw
    """Mean of the drift exponent."""
    drift_spread: ClippedLaw
    """Standard deviation of the drift exponent among devices."""
    read_noise: ReadNoise

    @model_validator(mode="after")
    def _possible(self) -> DeviceConstants:
        if self.t_0_s < self.t_read_s:
            raise ValueError(f"t_0_s ({self.t_0_s:g} s) must not be below t_read_s ({self.t_read_s:g} s)")
        for g in (step / 100 for step in range(101)):
            sigma = sum(coefficient * g**power for power, coefficient in enumerate(self.programming_noise_uS))
            if sigma < 0:
                raise ValueError(f"programming_noise_uS is below 0 ({sigma:.3g} uS) at {g * self.g_max_uS:g} uS")
        return self


PCM = DeviceConstants(
    g_max_uS=25.0,
    t_0_s=20.0,
    t_read_s=250e-9,
    programming_noise_uS=[0.26348, 1.9650, -1.1731],
    drift_mean=ClippedLaw(slope=-0.0155, intercept=0.0244, min=0.049, max=0.1),
    drift_spread=ClippedLaw(slope=-0.0125, intercept=-0.0059, min=0.008, max=0.045),
    read_noise=ReadNoise(factor=0.0088, exponent=0.65, max=0.2),
)
"""The constants of device `pcm` (aihwkit's `PCMLikeNoiseModel`) in the same form."""


class _DeviceFile(DeviceConstants):
    format: Literal["analora-device"]
    version: Literal[1]
    fit: dict[str, Any] = Field(default_factory=dict)
    """Provenance; no command computes with it."""


def device_file_text(constants: DeviceConstants, fit: Mapping[str, object]) -> str:
    """Content of a device file.

    Args:
        constants: the device.
        fit: provenance, in values of YAML.
    """
    content = {"format": "analora-device", "version": 1, **constants.model_dump(mode="json"), "fit": dict(fit)}
    return _HEAD + dump_yaml(content)


def read_device_file(path: Path) -> DeviceConstants:
    """Read a device file.

    Raises:
        ConfigError: it cannot be read, or a constant is missing, unknown or out of range.
    """
    try:
        file = _DeviceFile.model_validate(read_yaml_mapping(path))
    except ValidationError as error:
        raise ConfigError([f"{path}: {problem}" for problem in _problems(_DeviceFile, error)]) from None
    return DeviceConstants.model_validate({name: getattr(file, name) for name in DeviceConstants.model_fields})


def check_constants(options: Mapping[str, object]) -> DeviceConstants:
    """The constants in `hardware.device_options`.

    Raises:
        ValueError: one is missing, unknown or out of range.
    """
    try:
        return DeviceConstants.model_validate(dict(options))
    except ValidationError as error:
        raise ValueError("; ".join(f"device_options: {text}" for text in _problems(DeviceConstants, error))) from None


def _problems(model: type[BaseModel], error: ValidationError) -> list[str]:
    return [_problem(model, detail) for detail in error.errors()]


def _problem(model: type[BaseModel], detail: ErrorDetails) -> str:
    path = [str(part) for part in detail["loc"]]
    key = ".".join(path)
    if detail["type"] == "missing":
        return f"{key}: is missing; `analora fit-device` writes all constants"
    if detail["type"] == "extra_forbidden":
        known = _keys(model, path[:-1])
        near = get_close_matches(path[-1], known, n=1)
        return f"{key}: unknown key; " + (f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}")
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] != "value_error":
        message = f"{message[:1].lower()}{message[1:]}, got {shown(detail['input'])}"
    return f"{key}: {message}" if key else message


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        annotation = model.model_fields[part].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    return list(model.model_fields)
