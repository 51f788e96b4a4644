"""The task that a model was made for, where a configuration names none."""

from __future__ import annotations

import json
from pathlib import Path

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.causal import TextSection
from analog_lora_cli.inspection.shape_cache import config_file
from analog_lora_cli.runtime.libraries import prepare_libraries

WRITERS = ("ForCausalLM", "LMHeadModel")
"""Ends of the names of architectures that write text, as they stand in config.json."""


def with_own_task(config: Config) -> Config:
    """A configuration whose task suits its model: a language model's is `text`, that of all others stays.

    Raises:
        UsageError: the model's folder does not exist.
    """
    file = config_file(config)
    if file is None or not _writes_text(file):
        return config
    return Config.model_validate({**config.model_dump(mode="json"), "task": TextSection().model_dump(mode="json")})


def _writes_text(file: Path) -> bool:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names, kind = content.get("architectures"), content.get("model_type")
    except (OSError, ValueError, AttributeError):
        return False  # Whoever loads the model will say so.
    if names:
        return str(names[0]).endswith(WRITERS)
    # Only where there is no name is transformers asked, whose import takes seconds.
    prepare_libraries()

    from analog_lora_cli.models.families import writes_text

    return writes_text(str(kind))
