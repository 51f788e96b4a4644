"""Options of the command line that stand for configuration keys, as layers that carry the option's name."""

from __future__ import annotations

from collections.abc import Sequence

from analog_lora_cli.config.load import Layers


def option_layers(
    *,
    times: str | Sequence[str] | None = None,
    chips: int | None = None,
    seed: int | None = None,
    reads: int | None = None,
    limit: int | None = None,
) -> Layers:
    """The layers of the options that are given.

    Args:
        times: `drift.times`, as a list or as text with commas between.
        chips: `drift.chips`.
        seed: `drift.seed`.
        reads: `drift.reads`.
        limit: `task.max_eval_samples`.
    """
    listed = [part.strip() for part in times.split(",")] if isinstance(times, str) else times
    drift = {"times": None if listed is None else list(listed), "chips": chips, "seed": seed, "reads": reads}
    layers: Layers = [(f"--{key}", {"drift": {key: value}}) for key, value in drift.items() if value is not None]
    if limit is not None:
        layers.append(("--limit", {"task": {"max_eval_samples": limit}}))
    return layers
