"""YAML as this tool reads it: safe, `1e-5` is a number, a key may not stand twice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from analog_lora_cli.errors import ConfigError

MAX_BYTES = 1_000_000
"""A configuration larger than this is not one that a person wrote."""


class _Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, where `1e-5` is text and the last of two equal keys wins silently."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not supported here", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                problem = "merging (<<) is not supported here; use extends"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in keys:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would read as something else than text, such as a commit `12345e7`."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def dump_yaml(value: object) -> str:
    """YAML that `parse_yaml` reads back as the same value."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML text.

    Args:
        text: the YAML.
        source: a file name or an option, for the error message.

    Raises:
        ConfigError: not YAML, or nested too deeply; the message names source, line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = error.problem or error.context or "not YAML"
        if problem.startswith("but "):
            problem = f"{error.context}, {problem}"
        raise ConfigError([f"{source}{where}: {problem}"]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"{source}: {str(error).splitlines()[0]}"]) from None
    except RecursionError:
        raise ConfigError([f"{source}: nested too deeply"]) from None


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is not text, not YAML, or not a mapping.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError([f"{path}: larger than {MAX_BYTES} bytes, expected a configuration in YAML"])
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    value = parse_yaml(text, str(path))
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError([f"{path}: expected sections such as `task:` and `hardware:`, got {type(value).__name__}"])
    return value
