"""AHWA-LoRA: transformers on analog in-memory hardware, adapted with digital LoRA adapters.

What the commands do, for Python:

    from analog_lora_cli import load_config, train, evaluate_drift

    config = load_config("quickstart", overrides=["train.seed=1"])
    result = train(config, "runs/seed-1")
    evaluation = evaluate_drift("runs/seed-1", chips=20, times=["0s", "1y"])

`import analog_lora_cli` alone imports nothing; a name imports what it needs when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analog_lora_cli.version import __version__ as __version__

if TYPE_CHECKING:
    from analog_lora_cli.config.load import load_config
    from analog_lora_cli.export.conductances import load_model as load_conductances
    from analog_lora_cli.workflows.adapt import adapt
    from analog_lora_cli.workflows.drift import evaluate_drift
    from analog_lora_cli.workflows.inspect import inspect_tiles
    from analog_lora_cli.workflows.train import train

__all__ = ["adapt", "evaluate_drift", "inspect_tiles", "load_conductances", "load_config", "train"]

_MODULES = {
    "adapt": ("workflows.adapt", "adapt"),
    "evaluate_drift": ("workflows.drift", "evaluate_drift"),
    "inspect_tiles": ("workflows.inspect", "inspect_tiles"),
    "load_conductances": ("export.conductances", "load_model"),
    "load_config": ("config.load", "load_config"),
    "train": ("workflows.train", "train"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, after hiding a broken torchvision."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _MODULES[name]
    if not module.startswith("config."):  # Configurations need no torch.
        from analog_lora_cli.runtime.libraries import prepare_libraries

        prepare_libraries()
    value = getattr(import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
