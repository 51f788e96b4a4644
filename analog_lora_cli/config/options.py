"""Options of the command line that stand for configuration keys, as layers that carry the option's name."""

from __future__ import annotations

from collections.abc import Sequence

from analog_lora_cli.config.flat import flatten
from analog_lora_cli.config.load import Layers, parse_overrides
from analog_lora_cli.errors import UsageError


def option_layers(
    overrides: Sequence[str],
    *,
    times: str | Sequence[str] | None = None,
    chips: int | None = None,
    seed: int | None = None,
    reads: int | None = None,
    limit: int | None = None,
    gaussian: str | Sequence[str | float] | None = None,
    recalibrate: int | None = None,
) -> Layers:
    """The layers of the options that are given.

    Args:
        overrides: the `KEY=VALUE` texts beside them.
        times: `drift.times`, as a list or as text with commas between.
        gaussian: `drift.gaussian`, as `times`.
        chips: `drift.chips`.
        seed: `drift.seed`.
        reads: `drift.reads`.
        recalibrate: `drift.recalibrate`.
        limit: `task.max_eval_samples`.

    Raises:
        UsageError: an override sets the key of an option too.
        ConfigError: an override has another form than `KEY=VALUE`.
    """
    drift = {
        "times": _listed(times), "chips": chips, "seed": seed, "reads": reads, "gaussian": _listed(gaussian),
        "recalibrate": recalibrate,
    }  # fmt: skip
    layers: Layers = [(f"--{key}", {"drift": {key: value}}) for key, value in drift.items() if value is not None]
    if limit is not None:
        layers.append(("--limit", {"task": {"max_eval_samples": limit}}))
    options = {key: option for option, layer in layers for key in flatten(layer)}
    for origin, layer in parse_overrides(overrides):
        for key in flatten(layer):
            if key in options:
                raise UsageError(f"{origin}: {options[key]} sets {key} too; give one of them")
    return layers


def _listed(value: str | Sequence[str | float] | None) -> list[str | float] | None:
    """The parts of an option's value; None without the option."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return None if value is None else list(value)
