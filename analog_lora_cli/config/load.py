"""Put a configuration together: defaults < preset < file < `--set`, and report all its errors at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from analog_lora_cli.config.flat import flatten
from analog_lora_cli.config.presets import preset_path
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.train_arguments import RESERVED, train_argument_problem, train_arguments
from analog_lora_cli.config.yaml_file import dump_yaml, parse_yaml, read_yaml_mapping
from analog_lora_cli.errors import ConfigError

Layer = dict[str, Any]
Layers = list[tuple[str, Layer]]


def load_config(
    preset: str | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    base: Layer | None = None,
    options: Sequence[tuple[str, Layer]] = (),
) -> Config:
    """Read and check a configuration.

    Args:
        preset: name of a preset.
        file: a YAML file; may name a preset itself with `extends`.
        overrides: `KEY=VALUE` texts with dotted keys and YAML values.
        base: a configuration to start from in place of a preset (that of a checkpoint).
        options: layers of options that stand for keys, each with the option's name; they go over the overrides.

    Raises:
        ConfigError: with every problem found, the key and the file or option it came from.
    """
    layers: Layers = []
    if base is not None:
        layers.append(("the checkpoint's configuration", base))
    parents, own = preset_and_file_layers(preset, file)
    return assemble([*layers, *parents, *own, *parse_overrides(overrides), *options], file)


def preset_and_file_layers(preset: str | None, file: Path | None) -> tuple[Layers, Layers]:
    """What a preset and a file say: first what they inherit, then what they say themselves.

    Raises:
        ConfigError: a preset that does not exist, or a file that cannot be read.
    """
    layers = [] if preset is None else _with_parents(preset)
    inherited, own = layers[:-1], layers[-1:]
    if file is not None:
        content = read_yaml_mapping(file)
        parent = content.pop("extends", None)
        if parent is not None:
            if preset is not None:
                raise ConfigError([f"{file}: extends {parent!r}, and --preset {preset} was given: use one of them"])
            inherited = _without_reference(_parents(parent, str(file)))
        own = [*own, (str(file), content)]
    return inherited, own


def assemble(layers: Layers, file: Path | None = None) -> Config:
    """Put layers over each other, the last on top, and check the result.

    Args:
        layers: each with the name of where it comes from.
        file: the `--config` file among them.

    Raises:
        ConfigError: with every problem found.
    """
    merged: Layer = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        for key in flatten(layer):
            sources.pop(key, None)  # So that the order is that of precedence.
            sources[key] = source
        merged = _merge(merged, layer)
    config = _validated(merged, sources)
    _refuse_useless(config, _chosen_keys(layers, file))
    return config


def dump_config(config: Config) -> str:
    """A configuration as YAML, complete, in the order of the schema; reading it back gives the same one."""
    return dump_yaml(config.model_dump(mode="json"))


def differences(old: Config, new: Config) -> list[str]:
    """Dotted keys in which two configurations differ, with both values."""
    old_flat, new_flat = flatten(old.model_dump(mode="json")), flatten(new.model_dump(mode="json"))
    return [
        f"{key}: {old_flat.get(key)!r} there, {new_flat.get(key)!r} here"
        for key in sorted(old_flat.keys() | new_flat.keys())
        if old_flat.get(key) != new_flat.get(key)
    ]


def _chosen_keys(layers: Layers, file: Path | None) -> list[str]:
    """Keys that the user set on purpose: those of `--set` and of the file.

    A file with all sections is a checkpoint's configuration: it names every key, with or without effect.
    """
    complete = Config.model_fields.keys()
    return [
        key
        for source, layer in layers
        if source.startswith("--set") or (source == str(file) and not complete <= layer.keys())
        for key in flatten(layer)
    ]


def _with_parents(name: str, below: tuple[str, ...] = ()) -> Layers:
    if name in below:
        raise ConfigError([f"preset {name}: extends itself through {' > '.join(below)}"])
    content = read_yaml_mapping(preset_path(name))
    parent = content.pop("extends", None)
    layers = [] if parent is None else _without_reference(_parents(parent, f"preset {name}", (*below, name)))
    return [*layers, (f"preset {name}", content)]


def _parents(parent: object, source: str, below: tuple[str, ...] = ()) -> Layers:
    if not isinstance(parent, str):
        raise ConfigError([f"{source}: extends: expected the name of a preset, got {parent!r}"])
    try:
        preset_path(parent)
    except ConfigError as error:
        raise ConfigError([f"{source}: extends: {problem}" for problem in error.problems]) from None
    return _with_parents(parent, below)


def _without_reference(layers: Layers) -> Layers:
    """A variant has its own published numbers or none: its parent's belong to other settings."""
    return [(source, {key: value for key, value in layer.items() if key != "reference"}) for source, layer in layers]


def parse_overrides(overrides: Sequence[str]) -> Layers:
    """The layers of `--set KEY=VALUE`.

    Raises:
        ConfigError: a text of another form.
    """
    layers: Layers = []
    problems: list[str] = []
    for text in overrides:
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
    problems: list[str] = []
    config = None
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        for detail in error.errors():
            problems.append(_problem(detail, sources))
    train = merged.get("train")
    if isinstance(train, dict):
        listed = Config.model_fields["train"].annotation
        assert listed is not None
        for key in train.keys() - cast(type[BaseModel], listed).model_fields.keys():
            problem = train_argument_problem(key)
            if problem and key not in train_arguments() and key in _keys_by_name():
                problem = f"unknown key; did you mean {' or '.join(_keys_by_name()[key])}?"
            if problem:
                problems.append(f"train.{key}: {problem}{_origin(f'train.{key}', sources)}")
    if problems:
        raise ConfigError(problems)
    assert config is not None
    return config


def _problem(detail: Any, sources: dict[str, str]) -> str:
    """One error of pydantic's in the words of this tool: key, what is wrong, what to do, where it came from."""
    path = [str(part) for part in detail["loc"] if part != "[key]"]
    key = ".".join(path)
    kind, given = detail["type"], detail["input"]
    if kind == "missing":
        return f"{key}: is missing{_origin('.'.join(path[:-1]), sources)}"
    if kind == "extra_forbidden":
        message = f"unknown key; {_unknown_key_hint(path)}"
    elif kind in ("model_type", "model_attributes_type"):
        message = f"is a section: expected keys below it, such as {key}.{_allowed_keys(path)[0]}, got {_shown(given)}"
    elif kind == "literal_error":
        message = _not_one_of(given, detail["ctx"]["expected"])
    else:
        message = detail["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        if kind != "value_error":
            message = f"{message}, got {_shown(given)}"
        if kind == "string_type" and isinstance(given, (bool, int, float)):
            message += "; put it in quotes"
    return _located(key, message, sources) if key else message


def _located(key: str, message: str, sources: dict[str, str]) -> str:
    """A message that begins with what was typed: an option that stands for one key, or the key and its origin."""
    origin = _origin(key, sources)
    option = re.fullmatch(r" \(from (--[a-z]+)\)", origin)
    return f"{key}: {message}{origin}" if option is None else f"{option[1]}: {message}"


def _not_one_of(given: object, expected: str) -> str:
    """`expected` is pydantic's enumeration: 'a', 'b' or 'c'."""
    options = expected.replace(" or ", ", ").replace("'", "").split(", ")
    near = get_close_matches(str(given), options, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"expected one of {', '.join(options)}, got {_shown(given)}{hint}"


def _shown(value: object) -> str:
    """A value as it would stand in YAML."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _unknown_key_hint(path: list[str]) -> str:
    """What may have been meant: the same key in another section, a like one here, a like one elsewhere."""
    *section, name = path
    if path == ["extends"]:
        return "only a preset or a --config file can extend a preset; on the command line use --preset"
    everywhere = _keys_by_name()
    near_here = [".".join([*section, near]) for near in get_close_matches(name, _allowed_keys(section), n=1)]
    near_there = [key for near in get_close_matches(name, everywhere, n=1, cutoff=0.75) for key in everywhere[near]]
    meant = everywhere.get(name) or near_here or near_there
    return f"did you mean {' or '.join(meant)}?" if meant else f"known here: {', '.join(_allowed_keys(section))}"


def _origin(key: str, sources: dict[str, str]) -> str:
    """Which layer a key came from; for a section, the last layer that set something in it."""
    around = [source for known, source in sources.items() if key.startswith(f"{known}.")]
    below = [source for known, source in sources.items() if known.startswith(f"{key}.")]
    found = [sources[key]] if key in sources else around or below
    return f" (from {found[-1]})" if found else ""


def _allowed_keys(section: list[str]) -> list[str]:
    model: Any = Config
    for part in section:
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def _keys_by_name() -> dict[str, list[str]]:
    """The dotted keys of all sections by their last part."""
    by_name: dict[str, list[str]] = {}
    for section, field in Config.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name in annotation.model_fields:
                by_name.setdefault(name, []).append(f"{section}.{name}")
    for name in train_arguments() - RESERVED.keys() - by_name.keys():
        by_name[name] = [f"train.{name}"]
    return by_name


def _refuse_useless(config: Config, user_keys: list[str]) -> None:
    """A key that the user gave but that cannot have an effect is an error, not a silent nothing."""
    problems = []
    for key in user_keys:
        section, _, name = key.partition(".")
        if section == "adapter" and config.trains_base:
            problems.append(f"{key}: has no effect with method full, which trains the weights themselves")
        elif key == "adapter.alpha" and config.adapter.variant == "vera":
            problems.append(f"{key}: has no effect with adapter.variant vera, which has no such scale")
        elif key == "adapter.lora_plus_ratio" and config.adapter.variant != "lora+":
            problems.append(f"{key}: only adapter.variant lora+ uses it")
        elif key == "adapter.adalora_init_rank" and config.adapter.variant != "adalora":
            problems.append(f"{key}: only adapter.variant adalora uses it")
        elif section == "task" and name in SQUAD_ONLY and not config.task.name.startswith("squad"):
            problems.append(f"{key}: has no effect on task {config.task.name}")
        elif key == "task.null_threshold" and config.task.name != "squad_v2":
            problems.append(f"{key}: only task squad_v2 has unanswerable questions")
    if problems:
        raise ConfigError(problems)


SQUAD_ONLY = {"doc_stride", "n_best", "max_answer_length", "null_threshold"}
