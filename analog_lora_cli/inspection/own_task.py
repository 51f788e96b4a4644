"""The task that a model was made for, where a configuration names none."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from analog_lora_cli.config.load import load_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.causal import TextSection
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.inspection.shape_cache import config_file, read_shapes, shape_key
from analog_lora_cli.runtime.libraries import prepare_libraries

WRITERS = ("ForCausalLM", "LMHeadModel")
"""Ends of the names of architectures that write text, as they stand in config.json."""


def with_own_task(config: Config) -> Config:
    """A configuration whose task suits its model: a language model's is `text`, that of all others stays.

    Raises:
        UsageError: the model's folder does not exist.
        ConfigError: it is a language model, which a key does not fit.
    """
    file = config_file(config)
    if file is None:
        return config
    names, kind = _architecture(file)
    if names:
        return _as_text(config) if str(names[0]).endswith(WRITERS) else config
    # transformers, whose import takes seconds, is asked only about models that were not inspected before.
    with suppress(ConfigError):
        if read_shapes(shape_key(as_text := _as_text(config))) is not None:
            return as_text
    if read_shapes(shape_key(config)) is not None:
        return config
    return _as_text(config) if _writes_text(kind) else config


def _as_text(config: Config) -> Config:
    """The configuration with task `text`.

    Raises:
        ConfigError: it has a key that does not fit a language model.
    """
    return load_config(base={**config.model_dump(mode="json"), "task": TextSection().model_dump(mode="json")})


def _architecture(file: Path) -> tuple[list[object], str]:
    """Names of the architectures in config.json, if it has any, and the model's type."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return list(content.get("architectures") or ()), str(content.get("model_type"))
    except (OSError, ValueError, AttributeError, TypeError):
        return [], ""  # Whoever loads the model will say so.


def _writes_text(kind: str) -> bool:
    prepare_libraries()

    from analog_lora_cli.models.families import writes_text

    return writes_text(kind)
