"""Manifest of a checkpoint: its content, and the sha256 of each file that a result depends on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from analog_lora_cli.errors import CheckpointError
from analog_lora_cli.storage.files import file_sha256
from analog_lora_cli.storage.layout import MANIFEST
from analog_lora_cli.storage.sealed import read_sealed, write_sealed
from analog_lora_cli.version import __version__

FORMAT = 1
_ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


def is_adapter_name(name: str) -> bool:
    """Whether a name can be that of an adapter, and so of a folder in the checkpoint."""
    return _ADAPTER_NAME.fullmatch(name) is not None


def _adapter_name(name: str) -> str:
    if not is_adapter_name(name):
        raise ValueError("expected letters, digits, dots, dashes and underscores")
    return name


def is_inner_path(name: str) -> bool:
    """Whether a name is that of a file inside a folder of ours: relative, and nowhere upwards."""
    return _FILE_NAME.fullmatch(name) is not None


def _file_name(name: str) -> str:
    if not is_inner_path(name):
        raise ValueError("expected a file inside the checkpoint")
    return name


_Files = dict[Annotated[str, AfterValidator(_file_name)], str]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    task: str
    base_sha256: str
    files: _Files


class _Manifest(BaseModel):
    """Part of the manifest that the code relies on; the rest is for people."""

    model_config = ConfigDict(extra="allow", strict=True)
    base_sha256: str
    body_sha256: str
    base_config: dict[str, Any]
    files: _Files
    adapters: dict[Annotated[str, AfterValidator(_adapter_name)], _Entry]
    analog_layers: dict[str, str] = {}
    training: dict[str, Any]


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Store the manifest, last of all: a folder with a manifest is complete."""
    write_sealed(folder / MANIFEST, {"format": FORMAT, "analora": __version__, **content})


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest.

    Raises:
        CheckpointError: there is none, it is damaged, or it was written by a later version.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise CheckpointError(
            f"{folder}: the run is not complete: no {MANIFEST}; finish it with analora train --resume"
        )
    content = read_sealed(file)
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{file}: format {content.get('format')!r}, this version reads format {FORMAT}")
    try:
        _Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{file}: damaged: {where}: {first['msg']}; train again") from None
    return content


def verify_files(folder: Path, files: dict[str, str]) -> None:
    """Check that files are those that were written.

    Args:
        folder: where they lie.
        files: sha256 by name.

    Raises:
        CheckpointError: one is missing or changed.
    """
    for name, digest in files.items():
        path = folder / name
        try:
            actual = file_sha256(path)
        except FileNotFoundError:
            raise CheckpointError(f"{path}: is missing; restore the file, or write the folder anew") from None
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
        if actual != digest:
            raise CheckpointError(
                f"{path}: is damaged: its sha256 differs from the manifest's; restore it, or write the folder anew"
            )
