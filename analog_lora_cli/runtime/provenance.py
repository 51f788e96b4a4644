"""Versions and machine that a result may depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "aihwkit", "safetensors", "numpy", "numba")


def environment() -> dict[str, Any]:
    """Versions that a result may depend on."""
    packages: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {"python": platform.python_version(), "platform": platform.platform(), "packages": packages}
