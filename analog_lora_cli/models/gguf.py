"""Models in `.gguf` files: dequantized once, into a plain model folder in the user's cache folder.

transformers reads the quantized blocks of such a file, its tokenizer and its chat template. The plain copy is found by
the content of the file, so that it is converted once for all runs, and loads as fast as any other model. Nothing is
lost when the folder in the cache (`XDG_CACHE_HOME`, by default `~/.cache`) is deleted.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_cache_path

from analog_lora_cli.config.sections.model import ModelConfig
from analog_lora_cli.errors import AnaloraError, HubError, UsageError
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime.libraries import prepare_libraries
from analog_lora_cli.runtime.package_files import is_package_path, resolve_package_path
from analog_lora_cli.storage.files import file_sha256, replacing
from analog_lora_cli.storage.locks import locked

SUFFIX = ".gguf"
MAGIC = b"GGUF"
"""First bytes of such a file."""
INSTALL = "pip install gguf"


def is_gguf(name: str) -> bool:
    """Whether a model's name means a `.gguf` file."""
    return name.lower().endswith(SUFFIX)


def is_gguf_on_hub(name: str) -> bool:
    """Whether a model's name means a `.gguf` file in a repository on the hub: `USER/NAME/FILE.gguf`."""
    local = is_package_path(name) or name.startswith(("/", ".", "~")) or Path(name).is_file()
    return is_gguf(name) and not local and name.count("/") >= 2


def plain_folder(model: ModelConfig) -> Path:
    """The folder of the plain model of a `.gguf` file; converts the file if nobody has before.

    Args:
        model: section whose name is such a file; the weights are kept in its `dtype`.

    Raises:
        UsageError: there is no such file, it is damaged or of an unknown architecture, `gguf` is not installed, or the
            cache folder cannot be written.
        HubError: the file cannot be fetched.
    """
    file = _file(model)
    with file.open("rb") as handle:
        if handle.read(len(MAGIC)) != MAGIC:
            raise UsageError(f"model.name: {model.name}: damaged or no GGUF file: it does not begin with GGUF")
    of_file = user_cache_path("analora") / "gguf" / file_sha256(file)
    # Another release of transformers may convert in another way.
    folder = of_file / f"{model.dtype}-transformers-{version('transformers')}"
    if not folder.is_dir():
        if find_spec("gguf") is None:
            raise UsageError(f"model.name: {model.name}: reading a {SUFFIX} file needs the package gguf: {INSTALL}")
        with locked(of_file, wait=True):
            if not folder.is_dir():
                _convert(model, file, folder)
    return folder


def _file(model: ModelConfig) -> Path:
    name = model.name
    if is_gguf_on_hub(name):
        return _downloaded(name, model.revision)
    if model.revision is not None:
        raise UsageError(f"model.revision: {model.revision!r} was given, but model.name is a local file: {name}")
    file = resolve_package_path(name) if is_package_path(name) else Path(name).expanduser()
    if not file.is_file():
        raise UsageError(
            f"model.name: {name}: there is no such file; on the hub a file is named USER/NAME/FILE{SUFFIX}"
        )
    return file


def _downloaded(name: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    user, repository, file = name.split("/", maxsplit=2)
    try:
        return Path(hf_hub_download(f"{user}/{repository}", file, revision=revision))
    except Exception as error:  # huggingface_hub and the HTTP library below it have many.
        raise HubError(
            f"model.name: {name}: there is no such local file, and {file} of {user}/{repository} is neither in the "
            f"local cache nor could it be fetched from the hub: {_reason(error)}"
        ) from error


def _convert(model: ModelConfig, file: Path, folder: Path) -> None:
    prepare_libraries()

    import torch
    import transformers

    text = f"{model.name}: dequantizing into {folder.parent}, for this and all later runs"
    run_log.record("stage", text)
    if run_log.command():
        console.note(text)
    # Releases that have this option would else keep the quantized blocks, with layers of their own around them.
    settings = getattr(transformers, "GgufConfig", None)
    options = {} if settings is None else {"quantization_config": settings(dequantize=True)}
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    with replacing(folder) as copy:
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
            plain = transformers.AutoModelForCausalLM.from_pretrained(
                **where, dtype=getattr(torch, model.dtype), **options
            )
        except Exception as error:  # Damaged files raise other classes in each release of the libraries.
            raise UsageError(f"model.name: {model.name}: cannot be converted: {_reason(error)}") from error
        if any(parameter.dtype != plain.dtype for parameter in plain.parameters()):
            raise AnaloraError(f"model.name: {model.name}: transformers left weights of it quantized")
        plain.save_pretrained(copy)
        tokenizer.save_pretrained(copy)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
