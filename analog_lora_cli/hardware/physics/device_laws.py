"""The laws of a fitted device, and its constants as a flat list."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analog_lora_cli.config.device_file import ClippedLaw, DeviceConstants

Floats = NDArray[np.float64]
_TINY = 1e-9


def flat_constants(constants: DeviceConstants) -> dict[str, float]:
    """The fitted constants by dotted key."""
    flat = {f"programming_noise_uS[{power}]": c for power, c in enumerate(constants.programming_noise_uS)}
    for part in ("drift_mean", "drift_spread", "read_noise"):
        flat |= {f"{part}.{name}": value for name, value in getattr(constants, part).model_dump().items()}
    return flat


def relative_read_noise(constants: DeviceConstants, g: Floats) -> Floats:
    """Q against the relative conductance."""
    noise = constants.read_noise
    share: Floats = noise.factor / np.maximum(np.maximum(g, _TINY) ** noise.exponent, 1e-3)
    return np.minimum(share, noise.max)


def law_values(law: ClippedLaw, g: Floats) -> Floats:
    """A law against the relative conductance."""
    values: Floats = np.clip(law.slope * np.log(np.maximum(g, _TINY)) + law.intercept, law.min, law.max)
    return values


def programming_noise(constants: DeviceConstants, g: Floats) -> Floats:
    """Standard deviation of the programming error in uS against the relative conductance."""
    coefficients = np.asarray(constants.programming_noise_uS, dtype=np.float64)
    return np.polynomial.polynomial.polyval(g, coefficients).astype(np.float64)
