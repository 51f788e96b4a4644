"""Configuration of a further adapter: that of the chip, then that of a preset, then the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analog_lora_cli.config import scope
from analog_lora_cli.config.load import CHECKPOINT, Layer, Layers, assemble, parse_overrides, preset_and_file_layers
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import ConfigError


def adaptation_config(
    base: Config,
    preset: str | None,
    file: Path | None,
    overrides: Sequence[str],
    in_the_loop: bool = False,
) -> Config:
    """The configuration of one more adapter for a checkpoint.

    For the same task it is that of the checkpoint, with the own keys of the preset, the file and `--set` over it. For
    a new task the preset's parents count too, but the model and the hardware remain those of the checkpoint.

    Args:
        base: the configuration of the adapter to start from, or of the checkpoint's first one.
        preset: name of a preset.
        file: a YAML file.
        overrides: `KEY=VALUE` texts.
        in_the_loop: the adapter is trained on one chip: no statistical weight noise unless it is asked for.

    Raises:
        ConfigError: a key is wrong, or would need the chip to be programmed anew.
    """
    inherited, own = preset_and_file_layers(preset, file)
    own = [*own, *parse_overrides(overrides)]
    below = base.model_dump(mode="json", exclude={"description", "reference"})
    task = _task_name([*inherited, *own])
    if task is not None and task != base.task.name:
        # The programmed weights remain; the rest is the preset's, if there is one.
        recipe = inherited or preset is not None
        sections = scope.sections("programming") if recipe else [key for key in below if key != "task"]
        layers = [*inherited, (CHECKPOINT, {key: below[key] for key in sections})]
    else:
        layers = [*inherited, (CHECKPOINT, below)]
    if in_the_loop:
        exact = {"weight_noise": 0.0, "weight_noise_ramp": 0.0, "weight_noise_type": "gaussian"}
        layers.append(("--chip", {"hardware": exact}))
    config = assemble([*layers, *own], file)
    _refuse_reprogramming(base, config, own)
    _refuse_unnamed(config.objective.own_code, "objective", "rewards", [*inherited, *own])
    refuse_unnamed_metrics(config, [*inherited, *own])
    noise = config.hardware.weight_noise_type
    if in_the_loop and noise != "gaussian":
        raise ConfigError(
            [f"hardware.weight_noise_type: {noise} draws new devices, --chip trains on those of one chip: use gaussian"]
        )
    return config


def _task_name(layers: Layers) -> object:
    names = [layer["task"]["name"] for _, layer in layers if "name" in _section(layer, "task")]
    return names[-1] if names else None


def _section(layer: Layer, name: str) -> Layer:
    section = layer.get(name)
    return section if isinstance(section, dict) else {}


def refuse_unnamed_metrics(config: Config, layers: Layers) -> None:
    """Check that modules of metrics are named by the user, not by a checkpoint alone, which may come from anywhere.

    Raises:
        ConfigError: only the checkpoint names one.
    """
    _refuse_unnamed(config.task.own_code, "task", "metrics", layers)


def _refuse_unnamed(code: Sequence[str], section: str, key: str, layers: Layers) -> None:
    """Code that only a checkpoint names in `section.key` is not run: it may come from anywhere."""
    if code and not any(key in _section(layer, section) for _, layer in layers):
        raise ConfigError(
            [
                f"{section}.{key}: {code[0]} is named by the checkpoint alone, and code is run only where you name it: "
                f"give the {key} again with --set {section}.{key}=[...]"
            ]
        )


def _refuse_reprogramming(base: Config, config: Config, own: Layers) -> None:
    problems = []
    old, new = (scope.project(one.hardware, "mapping", "clipping", "programming") for one in (base, config))
    for key in old:
        if old[key] != new[key]:
            problems.append(
                f"hardware.{key}: {new[key]!r} would program the chip anew, it holds {old[key]!r}: it "
                f"{scope.reason(f'hardware.{key}')}. Train a new deployment with analora train"
            )
    for source, layer in own:
        name = _section(layer, "model").get("name", base.model.name)
        # With --set a user names the new path of a folder that has moved; its hash is compared.
        if name != base.model.name and not source.startswith("--set"):
            problems.append(
                f"model.name: {source} is for {name}, the chip holds the weights of {base.model.name}: leave the "
                "model out, or train a new deployment with analora train"
            )
    if config.trains_base:
        problems.append("method: full trains the weights on the tiles, which stay as they are here: use lora")
    if not config.task.same_head(base.task) and config.head == "random":
        problems.append(
            "adapter.train_head: false puts the head onto tiles, and this chip holds none for another task: use true"
        )
    elif config.head != base.head:
        problems.append("adapter.train_head: decides what lies on the chip, and cannot change here")
    if problems:
        raise ConfigError(problems)
