"""Problems of a configuration in words: key, problem, remedy, origin of the value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from analog_lora_cli.config import scope
from analog_lora_cli.config.registry import not_one_of, shown
from analog_lora_cli.config.schema import UNIONS, Config
from analog_lora_cli.config.train_arguments import RESERVED, train_argument_problem, train_arguments


def problems(error: ValidationError, content: dict[str, object], sources: dict[str, str]) -> list[str]:
    """One sentence for each error of pydantic's.

    Args:
        error: pydantic's error.
        content: the configuration that was checked.
        sources: origin of each dotted key, in the order of precedence.
    """
    return [_problem(detail, content, sources) for detail in error.errors()]


def training_problems(keys: Iterable[str], sources: dict[str, str]) -> list[str]:
    """One sentence for each key of `train` that is neither listed there nor one of TrainingArguments'."""
    sentences = []
    for key in keys:
        problem = train_argument_problem(key)
        if problem and key not in train_arguments() and key in _keys_by_name():
            problem = f"unknown key; did you mean {' or '.join(_keys_by_name()[key])}?"
        if problem:
            sentences.append(_located(f"train.{key}", problem, sources))
    return sentences


def unknown_key(key: str) -> str:
    """Sentence about a dotted key that no configuration has."""
    return f"{key}: unknown key; {_hint(key.split('.'), {})}"


def _problem(detail: ErrorDetails, content: dict[str, object], sources: dict[str, str]) -> str:
    path = [str(part) for part in detail["loc"] if part != "[key]"]
    key = ".".join(path)
    kind, value = detail["type"], detail["input"]
    if kind == "missing":
        return f"{key}: is missing{_origin('.'.join(path[:-1]), key, sources)}"
    if kind == "extra_forbidden":
        message = f"unknown key{_elsewhere(path, content) or f'; {_hint(path, content)}'}"
    elif kind in ("model_type", "model_attributes_type"):
        message = f"is a section: expected keys below it, such as {key}.{_keys_here(path, {})[0]}, got {shown(value)}"
    elif kind == "literal_error":
        # pydantic's enumeration: 'a', 'b' or 'c'.
        options = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        message = not_one_of(value, options)
    else:
        message = detail["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        if kind != "value_error":
            message = f"{message}, got {shown(value)}"
        if kind == "string_type" and isinstance(value, (bool, int, float)):
            message += "; put it in quotes"
    return _located(key, message, sources) if key else message


def _located(key: str, message: str, sources: dict[str, str]) -> str:
    """A message that begins with what was typed: an option that stands for one key, or the key and its origin."""
    origin = _origin(key, message, sources)
    option = re.fullmatch(r" \(from (--[a-z]+)\)", origin)
    return f"{key}: {message}{origin}" if option is None else f"{option[1]}: {message}"


def _origin(key: str, message: str, sources: dict[str, str]) -> str:
    """Layer that a key came from; for a section, the last layer that set a key that the message names, or any."""
    around = [source for known, source in sources.items() if key.startswith(f"{known}.")]
    below = {known.rpartition(".")[2]: source for known, source in sources.items() if known.startswith(f"{key}.")}
    named = [source for name, source in below.items() if re.search(rf"\b{re.escape(name)}\b", message)]
    origins = [sources[key]] if key in sources else around or named or list(below.values())
    return f" (from {origins[-1]})" if origins else ""


def _elsewhere(path: list[str], content: dict[str, object]) -> str:
    """Other kinds of the section that have an unknown key, in words; empty if none has it."""
    registry = UNIONS.get(path[0])
    if registry is None or len(path) < 2:
        return ""
    holders = registry.holders(path[1])
    nouns = registry.noun if len(holders) == 1 else f"{registry.noun}s"
    has = "has" if len(holders) == 1 else "have"
    own = f" for {registry.noun} {registry.chosen(content)}; {nouns} {', '.join(holders)} {has} it"
    return own if holders else ""


def _hint(path: list[str], content: dict[str, object]) -> str:
    """Suggestion for an unknown key: the same key in another section, a like one here, a like one elsewhere."""
    *section, name = path
    if path == ["extends"]:
        return "only a preset or a --config file can extend a preset; on the command line use --preset"
    everywhere, here = _keys_by_name(), _keys_here(section, content)
    near_here = [".".join([*section, near]) for near in get_close_matches(name, here, n=1)]
    near_there = [key for near in get_close_matches(name, everywhere, n=1, cutoff=0.75) for key in everywhere[near]]
    suggestions = everywhere.get(name) or near_here or near_there
    return f"did you mean {' or '.join(suggestions)}?" if suggestions else f"known here: {', '.join(here)}"


def _keys_here(section: list[str], content: dict[str, object]) -> list[str]:
    """The keys of a section, of the kind that is chosen there; at the top level the sections."""
    kinds = scope.kinds(section[0]) if section and section[0] in Config.model_fields else []
    registry = UNIONS.get(section[0]) if section else None
    chosen = None if registry is None else registry.get(registry.chosen(content))
    model = chosen or (kinds[0] if kinds else Config)
    return list(model.model_fields)


def _keys_by_name() -> dict[str, list[str]]:
    """The dotted keys of all sections by their last part."""
    by_name: dict[str, list[str]] = {}
    for key, _ in scope.fields():
        section, _, name = key.rpartition(".")
        if section and key not in by_name.setdefault(name, []) and section != "reference":
            by_name[name].append(key)
    for name in train_arguments() - RESERVED.keys() - by_name.keys():
        by_name[name] = [f"train.{name}"]
    return {name: keys for name, keys in by_name.items() if keys}
