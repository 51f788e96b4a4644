"""Put a configuration together: defaults < preset < file < `--set`, and report all its errors at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from analog_lora_cli.config import scope
from analog_lora_cli.config.device_file import SUFFIXES, read_device_file
from analog_lora_cli.config.devices import FITTED
from analog_lora_cli.config.flat import flatten
from analog_lora_cli.config.presets import preset_path
from analog_lora_cli.config.problems import problems, training_problems
from analog_lora_cli.config.registry import SectionRegistry
from analog_lora_cli.config.schema import UNIONS, Config
from analog_lora_cli.config.sections.train import TrainConfig
from analog_lora_cli.config.yaml_file import dump_yaml, parse_yaml, read_yaml_mapping
from analog_lora_cli.errors import ConfigError

Layer = dict[str, Any]
CHECKPOINT = "the checkpoint's configuration"
"""Origin of the keys of a checkpoint."""
Layers = list[tuple[str, Layer]]
"""Layers of keys, each with its origin, the last one on top. The name of an option begins with two hyphens."""


def load_config(
    preset: str | None = None,
    file: Path | str | None = None,
    overrides: Sequence[str] | str = (),
    base: Layer | None = None,
    options: Sequence[tuple[str, Layer]] = (),
) -> Config:
    """Read and check a configuration.

    Args:
        preset: name of a preset.
        file: a YAML file; may name a preset itself with `extends`, or several, the last on top.
        overrides: `KEY=VALUE` texts with dotted keys and YAML values; a single one may stand alone.
        base: a configuration to start from in place of a preset (that of a checkpoint).
        options: layers of options that stand for keys, each with the option's name; they go over the overrides.

    Raises:
        ConfigError: all problems, each with its key and the file or option that it came from.
    """
    file = None if file is None else Path(file)
    layers: Layers = []
    if base is not None:
        layers.append((CHECKPOINT, base))
    parents, own = preset_and_file_layers(preset, file)
    return assemble([*layers, *parents, *own, *parse_overrides(overrides), *options], file)


def preset_and_file_layers(preset: str | None, file: Path | None) -> tuple[Layers, Layers]:
    """Layers of a preset and a file: those that they inherit, then their own.

    Raises:
        ConfigError: a preset that does not exist, or a file that is empty or cannot be read.
    """
    layers = [] if preset is None else _with_parents(preset)
    inherited, own = layers[:-1], layers[-1:]
    if file is not None:
        content = read_yaml_mapping(file)
        if not content:
            raise ConfigError([f"{file}: holds no configuration; `analora explain` lists what it may hold"])
        parent = content.pop("extends", None)
        if parent is not None:
            if preset is not None:
                raise ConfigError([f"{file}: extends {parent!r}, and --preset {preset} was given: use one of them"])
            inherited = _without_reference(_parents(parent, str(file)))
        own = [*own, (str(file), content)]
    return inherited, own


def assemble(layers: Layers, file: Path | None = None) -> Config:
    """Put layers over each other, the last on top, and check the result.

    A key that a lower layer says for another task or variant than the final one is left out; one that the user says
    is an error. Published numbers are left out where model, task, data or hardware are not those of their preset.

    Args:
        layers: each with its origin.
        file: the `--config` file among them.

    Raises:
        ConfigError: all problems.
    """
    layers = _with_device_file(layers)
    config = _stacked(layers, file)
    published = _published(layers)
    if len(published) < len(layers) and _other_conditions(config, _stacked(published, None)):
        config = config.model_copy(update={"reference": None})
    if config.trains_base:
        _refuse_adapter([key for source, layer in layers if _by_user(source, layer, file) for key in flatten(layer)])
    return config


def _stacked(layers: Layers, file: Path | None) -> Config:
    for registry in UNIONS.values():
        layers = _without_other_kinds(layers, registry, file)
    merged: Layer = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        for key in flatten(layer):
            sources.pop(key, None)  # So that the order is that of precedence.
            sources[key] = source
        merged = _merge(merged, layer)
    return _validated(merged, sources)


def _published(layers: Layers) -> Layers:
    """The layers whose settings the published numbers are for: the presets, or the checkpoint; all if they are the
    user's own numbers."""
    sources = [source for source, layer in layers if layer.get("reference") is not None]
    if not sources or not (sources[-1].startswith("preset ") or sources[-1] == CHECKPOINT):
        return layers
    kind = sources[-1].partition(" ")[0]
    return [(source, layer) for source, layer in layers if source.partition(" ")[0] == kind]


def _other_conditions(config: Config, published: Config) -> bool:
    """Whether model, task, data or hardware are others than those of published numbers."""
    old, new = (
        {key: value for key, value in flatten(one.model_dump(mode="json")).items() if _is_condition(key)}
        for one in (published, config)
    )
    return old != new


def _is_condition(key: str) -> bool:
    if key.partition(".")[0] not in ("method", "model", "task", "hardware") or scope.affects(key, "numerics"):
        return False
    return scope.affects(key, *scope.MEASUREMENT, "data", "architecture", "training")


def dump_config(config: Config) -> str:
    """A configuration as YAML, complete, in the order of the schema; reading it back gives the same one."""
    return dump_yaml(config.model_dump(mode="json"))


def differences(old: Config, new: Config) -> list[str]:
    """Dotted keys in which two configurations differ, with both values; the description does not count."""
    old_flat, new_flat = flatten(old.model_dump(mode="json")), flatten(new.model_dump(mode="json"))
    return [
        f"{key}: {old_flat.get(key)!r} there, {new_flat.get(key)!r} here"
        for key in sorted(old_flat.keys() | new_flat.keys())
        if key != "description" and old_flat.get(key) != new_flat.get(key)
    ]


def _by_user(source: str, layer: Layer, file: Path | None) -> bool:
    """Whether a layer is the user's own: from the command line or the file.

    A file with all sections is a checkpoint's configuration: it names every key, with or without effect.
    """
    return source.startswith("--") or (source == str(file) and not Config.model_fields.keys() <= layer.keys())


def _without_other_kinds(layers: Layers, registry: SectionRegistry, file: Path | None) -> Layers:
    """The layers without the keys that those below the user say for another kind than the final one."""
    final: object = registry.default
    by_kind = []
    for source, layer in layers:
        final = registry.chosen({registry.section: {registry.key: final, **_section(layer, registry.section)}})
        by_kind.append((source, layer, final))
    kind = registry.get(final)
    result: Layers = []
    for source, layer, name in by_kind:
        then, section = registry.get(name), _section(layer, registry.section)
        if section and kind and then and name != final and not _by_user(source, layer, file):
            others = then.model_fields.keys() - kind.model_fields.keys()
            section = {key: value for key, value in section.items() if key not in others}
            layer = {**layer, registry.section: section}
        result.append((source, layer))
    return result


def _with_device_file(layers: Layers) -> Layers:
    """The layers with the constants of a device file in place of its name, so that a checkpoint does not need the file.

    The constants lie below all layers: any of them can be set. Those of a device that a layer above replaces go.
    """
    below: Layers = []
    result: Layers = []
    for source, layer in layers:
        hardware = _section(layer, "hardware")
        device = hardware.get("device")
        if device not in (None, FITTED):
            below, result = [], [_without_fitted_device(*each) for each in result]
        if isinstance(device, str) and device.endswith(SUFFIXES):
            try:
                constants = read_device_file(Path(device))
            except ConfigError as error:
                raise ConfigError([f"hardware.device: {text} (from {source})" for text in error.problems]) from None
            below = [(source, {"hardware": {"device_options": constants.model_dump(mode="json")}})]
            layer = {**layer, "hardware": {**hardware, "device": FITTED}}
        result.append((source, layer))
    return [*below, *result]


def _without_fitted_device(source: str, layer: Layer) -> tuple[str, Layer]:
    hardware = _section(layer, "hardware")
    if hardware.get("device") != FITTED:
        return source, layer
    others = {key: value for key, value in hardware.items() if key not in ("device", "device_options")}
    return source, {**layer, "hardware": others}


def _section(layer: Layer, name: str) -> Layer:
    section = layer.get(name)
    return section if isinstance(section, dict) else {}


def _with_parents(name: str, below: tuple[str, ...] = ()) -> Layers:
    if name in below:
        raise ConfigError([f"preset {name}: extends itself through {' > '.join(below)}"])
    content = read_yaml_mapping(preset_path(name))
    parent = content.pop("extends", None)
    layers = [] if parent is None else _without_reference(_parents(parent, f"preset {name}", (*below, name)))
    return [*layers, (f"preset {name}", content)]


def _parents(parents: object, source: str, below: tuple[str, ...] = ()) -> Layers:
    """The layers of the presets that `extends` names, one or a list of them, the last on top."""
    layers: Layers = []
    for parent in parents if isinstance(parents, list) and parents else [parents]:
        if not isinstance(parent, str):
            raise ConfigError([f"{source}: extends: expected the name of a preset, or a list of names, got {parent!r}"])
        try:
            preset_path(parent)
        except ConfigError as error:
            raise ConfigError([f"{source}: extends: {problem}" for problem in error.problems]) from None
        layers += _with_parents(parent, below)
    return layers


def _without_reference(layers: Layers) -> Layers:
    """A variant has its own published numbers or none: its parent's belong to other settings."""
    return [(source, {key: value for key, value in layer.items() if key != "reference"}) for source, layer in layers]


def parse_overrides(overrides: Sequence[str] | str) -> Layers:
    """The layers of `--set KEY=VALUE`.

    Raises:
        ConfigError: a text of another form.
    """
    layers: Layers = []
    problems: list[str] = []
    for text in [overrides] if isinstance(overrides, str) else overrides:
        key, equals, value = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            problems.append(f"--set {text}: expected KEY=VALUE, for instance --set hardware.adc_bits=6")
        elif not value.strip():
            problems.append(f"--set {text}: no value after the equals sign; write null to set nothing")
        else:
            try:
                layer: Any = parse_yaml(value, f"--set {text}")
            except ConfigError as error:
                problems.extend(error.problems)
                continue
            for part in reversed(parts):
                layer = {part: layer}
            layers.append((f"--set {text}", layer))
    if problems:
        raise ConfigError(problems)
    return layers


def _merge(lower: Layer, upper: Layer) -> Layer:
    merged = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _validated(merged: Layer, sources: dict[str, str]) -> Config:
    wrong: list[str] = []
    config = None
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        wrong += problems(error, merged, sources)
    wrong += training_problems(_section(merged, "train").keys() - TrainConfig.model_fields.keys(), sources)
    if config is None or wrong:
        raise ConfigError(wrong)
    return config


def _refuse_adapter(keys: list[str]) -> None:
    """An adapter that the user describes but that `method: full` does not have is an error, not ignored."""
    useless = [key for key in keys if key.partition(".")[0] == "adapter"]
    if useless:
        raise ConfigError(
            [f"{key}: has no effect with method full, which trains the weights themselves" for key in useless]
        )
