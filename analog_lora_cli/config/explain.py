"""Meaning of configuration keys, taken from the fields: description, unit, default, allowed values, effects."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from analog_lora_cli.config import scope
from analog_lora_cli.config.effects import MEANINGS, Effect
from analog_lora_cli.config.problems import unknown_key
from analog_lora_cli.config.registry import OneOf, SectionRegistry, shown
from analog_lora_cli.config.schema import UNIONS, Config
from analog_lora_cli.config.train_arguments import train_argument_problem
from analog_lora_cli.errors import UsageError

_WORDS = {int: "whole number", float: "number", str: "text", bool: "true, false", type(None): "null", Any: "any value"}


@dataclass(frozen=True)
class KeyFacts:
    """Everything that `analora explain` says about one key."""

    key: str
    description: str
    unit: str = ""
    default: str = ""
    allowed: str = ""
    effects: tuple[Effect, ...] = ()
    only_for: str = ""
    """The tasks or variants that have this key, or the few that do not; empty if all have it."""
    special: tuple[str, ...] = ()
    """Meanings of single values, or of the key for single tasks or variants."""
    reason: str = ""
    """Why the key cannot change on a programmed chip; completes "it ..."."""

    @property
    def commands(self) -> list[str]:
        """The commands that the key acts on."""
        commands = dict.fromkeys(command for effect in self.effects for command in MEANINGS[effect].commands)
        return [command for command in commands if command != "adapt" or not self.reason]


@dataclass(frozen=True)
class Kind:
    """One of the kinds that a section can be of."""

    names: list[str]
    description: str
    own_keys: list[str]
    """Keys that not all kinds have."""


def section_names() -> dict[str, str]:
    """The sections, and plain keys of the top level, with their descriptions."""
    return {name: _description(name, field) for name, field in Config.model_fields.items()}


def is_section(name: str) -> bool:
    """Whether a name is that of a section."""
    return name in Config.model_fields and bool(scope.kinds(name))


def section_facts(name: str) -> list[KeyFacts]:
    """The keys of a section: those that all its kinds have, then the others."""
    return [key_facts(key) for key in dict.fromkeys(key for key, _ in _fields(name))]


def section_kinds(name: str) -> list[Kind]:
    """The kinds of a section; empty if it has only one."""
    registry = UNIONS.get(name)
    if registry is None:
        return []
    common = registry.common_keys()
    return [
        Kind(names, _text(kind.__doc__), [key for key in kind.model_fields if key not in common])
        for kind, names in registry.kinds().items()
    ]


def key_facts(key: str) -> KeyFacts:
    """Description, default, allowed values and effects of a key.

    Raises:
        UsageError: no configuration has this key; the message suggests what was meant.
    """
    section, _, name = key.partition(".")
    if section == "train" and name and scope.field(key) is None and train_argument_problem(name) is None:
        return KeyFacts(key, "As in transformers.TrainingArguments.", effects=("training",))
    name = name if is_section(section) else section
    matches = [field for known, field in _fields(section) if known == key]
    if not matches:
        problem = train_argument_problem(name) if section == "train" and name else None
        similar = dict.fromkeys(known for known, _ in _fields(section) if name and name in known.partition(".")[2])
        if similar and not problem:
            raise UsageError(f"{key}: unknown key; did you mean {' or '.join(similar)}?")
        raise UsageError(f"{key}: {problem}" if problem else unknown_key(key))
    first, affects = matches[0], scope.statement(matches[0])
    registry = UNIONS.get(section)
    return KeyFacts(
        key,
        _text(first.description),
        scope.unit(first),
        "" if first.is_required() and registry is None else _default(first, registry, name),
        _allowed(first, registry, name),
        tuple(effect for effect in MEANINGS if affects is not None and effect in affects.effects),
        _only_for(registry, name),
        _special(registry, name, first),
        "" if affects is None else affects.reason,
    )


def _fields(section: str) -> list[tuple[str, FieldInfo]]:
    """The dotted keys of a section with their fields; of several kinds what they share first."""
    if section not in Config.model_fields:
        return []
    field = Config.model_fields[section]
    if not scope.kinds(section):
        return [(section, field)]
    shared = [field.annotation] if section in UNIONS else []
    models = [model for model in (*shared, *scope.kinds(section)) if isinstance(model, type)]
    return [
        (f"{section}.{name}", of)
        for model in models
        if issubclass(model, BaseModel)
        for name, of in model.model_fields.items()
    ]


def _description(name: str, field: FieldInfo) -> str:
    if not scope.kinds(name):
        return _text(field.description)
    return _text(getattr(field.annotation if name in UNIONS else scope.kinds(name)[0], "__doc__", ""))


def _only_for(registry: SectionRegistry | None, name: str) -> str:
    if registry is None or name in registry.common_keys():
        return ""
    holders = registry.holders(name)
    others = [other for other in registry.names() if other not in holders]
    return f"not {', '.join(others)}" if len(others) < len(holders) else ", ".join(holders)


def _special(registry: SectionRegistry | None, name: str, first: FieldInfo) -> tuple[str, ...]:
    entries = [item.registry for item in first.metadata if isinstance(item, OneOf)]
    described = tuple(f"{entry}: {known[entry].description}" for known in entries for entry in known.names())
    if registry is None or name == registry.key:
        return described
    return described + tuple(
        f"{', '.join(names)}: {_text(kind.model_fields[name].description)}"
        for kind, names in registry.kinds().items()
        if name in kind.model_fields and kind.model_fields[name].description != first.description
    )


def _default(field: FieldInfo, registry: SectionRegistry | None, name: str) -> str:
    if registry is not None and name == registry.key:
        return registry.default
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    return value if isinstance(value, str) and value else shown(value).replace("'", "")


def _allowed(field: FieldInfo, registry: SectionRegistry | None, name: str) -> str:
    if registry is not None and name == registry.key:
        return ", ".join(registry.names())
    return _type(field.annotation, field.metadata)


def _type(annotation: Any, metadata: list[Any]) -> str:
    """A type and its limits in words."""
    named = next((item.allowed for item in metadata if isinstance(item, OneOf)), None)
    if named is not None:
        return named
    origin, arguments = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        inner = [one for item in annotation.__metadata__ for one in (getattr(item, "metadata", None) or [item])]
        return _type(arguments[0], [*inner, *metadata])
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return ", ".join(_type(one, metadata if one is not type(None) else []) for one in arguments)
    if origin is list:
        least = next((item.min_length for item in metadata if isinstance(item, MinLen)), 0)
        return f"list of {_type(arguments[0], [])}{f', at least {least}' if least else ''}"
    if origin is dict:
        return f"mapping of text to {_type(arguments[1], [])}"
    return f"{_WORDS.get(annotation, annotation)}{_limits(metadata)}"


def _limits(metadata: list[Any]) -> str:
    words = []
    for item in metadata:
        if isinstance(item, Ge):
            words.append(f"at least {item.ge}")
        elif isinstance(item, Gt):
            words.append(f"above {item.gt}")
        elif isinstance(item, Le):
            words.append(f"at most {item.le}")
        elif isinstance(item, Lt):
            words.append(f"below {item.lt}")
    return f" ({', '.join(words)})" if words else ""


def _text(docstring: str | None) -> str:
    return " ".join((docstring or "").split())
