"""Cache of model shapes, so that a model that was inspected before is shown on another tile size at once.

transformers takes seconds to import its models, only to say which layers a configuration has. The answer is kept in the
user's cache folder (`XDG_CACHE_HOME`, by default `~/.cache`), by the content of config.json and everything else that
the shapes depend on. Nothing is lost when the folder is deleted.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from platformdirs import user_cache_path

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.inspection.attention import AttentionShape
from analog_lora_cli.models.loading import model_source
from analog_lora_cli.models.modules import ModuleFacts
from analog_lora_cli.storage.files import write_json
from analog_lora_cli.tasks import make_task
from analog_lora_cli.version import __version__


def shape_key(config: Config) -> str | None:
    """Hash of all that the shapes of a model and its adapters depend on; None without its config.json.

    Raises:
        UsageError: the model's folder does not exist.
    """
    file = config_file(config)
    if file is None:
        return None
    parts = {
        "model": hashlib.sha256(file.read_bytes()).hexdigest(),
        "task": make_task(config.task, config.train.seed).model_options(),
        "head": config.task.name,
        "method": config.method,
        "adapter": config.adapter.model_dump(mode="json"),
        "versions": [__version__, *(version(name) for name in ("torch", "transformers", "peft"))],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def read_shapes(key: str | None) -> tuple[list[ModuleFacts], dict[str, str], AttentionShape | None] | None:
    """Modules, reasons why those of the head are digital, and attention; None if they are not in the cache."""
    if key is None:
        return None
    try:
        content = json.loads(_file(key).read_text(encoding="utf-8"))
        attention = None if content["attention"] is None else AttentionShape(**content["attention"])
        return [ModuleFacts(**module) for module in content["modules"]], dict(content["heads"]), attention
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_shapes(
    key: str | None, modules: list[ModuleFacts], heads: dict[str, str], attention: AttentionShape | None
) -> None:
    """Store shapes; does nothing where the cache folder cannot be written."""
    if key is None:
        return
    try:
        content = {
            "modules": [asdict(module) for module in modules],
            "heads": heads,
            "attention": None if attention is None else asdict(attention),
        }
        write_json(_file(key), content)
    except OSError:
        return


def _file(key: str) -> Path:
    return user_cache_path("analora") / "shapes" / f"{key}.json"


def config_file(config: Config) -> Path | None:
    """config.json of the model; None where it is not on this machine.

    Raises:
        UsageError: the model's folder does not exist, or the name can be none on the hub.
    """
    source = model_source(config.model)
    if Path(source).is_dir():
        return Path(source) / "config.json"
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(source, "config.json", revision=config.model.revision)
    except HFValidationError:
        raise UsageError(
            f"model.name: {source}: neither a folder nor a name on the hub, which has the form USER/NAME"
        ) from None
    return Path(file) if isinstance(file, str) else None
