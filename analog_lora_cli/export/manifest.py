"""export.json: what an export is, where it comes from, and the hash of each of its files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from analog_lora_cli.errors import CheckpointError, UsageError
from analog_lora_cli.export.source import Source
from analog_lora_cli.runtime.provenance import environment
from analog_lora_cli.storage.files import check_writable, file_sha256, read_json
from analog_lora_cli.storage.manifest import is_inner_path, verify_files
from analog_lora_cli.storage.workspace import complete_replacement
from analog_lora_cli.version import __version__

EXPORT = "export.json"
FORMAT = "analora-export"
VERSION = 1


def export_manifest(source: Source, kind: str, chip: tuple[int, float] | None) -> dict[str, Any]:
    """Content of export.json, but for the files."""
    config, stored = source.config, source.checkpoint.manifest
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "analora": __version__,
        "base": {"name": source.base_name, "revision": config.model.revision},
        "base_sha256": stored["base_sha256"],
        "task": config.task.name,
        "method": config.method,
        "adapter": source.adapter if source.has_adapter else None,
        "weights": stored["adapters"][source.adapter]["files"] if source.has_adapter else stored["model_sha256"],
        "chip": None if chip is None else {"seed": chip[0], "seconds": chip[1]},
        "hardware": config.hardware.model_dump(mode="json"),
        "environment": environment(),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def files_of(folder: Path) -> list[Path]:
    """All files of an export, in order of their names, but for what Python leaves beside load.py."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of each file of an export, by its path in the folder."""
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files_of(folder)}


def verify_export(folder: Path) -> None:
    """Check that an export's files are those that were written.

    Raises:
        CheckpointError: the folder holds no export, or a file is missing or changed.
    """
    complete_replacement(folder)
    if not (folder / EXPORT).is_file():
        raise CheckpointError(
            f"{folder}: no {EXPORT} in it: not an export of analora, or an incomplete one; export again"
        )
    content = read_json(folder / EXPORT)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not files or not all(map(is_inner_path, files)):
        raise CheckpointError(f"{folder / EXPORT}: damaged: expected files with their sha256; export again")
    # People may write into a README.
    verify_files(folder, {name: digest for name, digest in files.items() if not name.endswith(".md")})


def check_output(folder: Path, overwrite: bool) -> None:
    """Check whether an export may be written to a folder; writes nothing.

    Args:
        folder: may be missing or empty; or an earlier export, with nothing else in it.
        overwrite: replace an earlier export.

    Raises:
        UsageError: the folder cannot be written, or it holds something else.
    """
    check_writable(folder)
    # The export is written beside the folder and then takes its place.
    check_writable(folder.absolute().parent)
    if folder.is_mount():
        raise UsageError(f"{folder}: is where a file system is mounted; choose a folder inside it, {folder}/NAME")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    files = _files_of_export(folder)
    if files is None:
        raise UsageError(f"{folder}: is not empty and holds no export of analora; choose another --output")
    if not overwrite:
        raise UsageError(f"{folder}: holds an export already; replace it with --overwrite, or choose another --output")
    strange = [path for path in files_of(folder) if path.relative_to(folder).as_posix() not in files]
    if strange:
        raise UsageError(
            f"{folder}: --overwrite would remove {strange[0].relative_to(folder)}, which is no part of the export; "
            "move it away, or choose another --output"
        )


def _files_of_export(folder: Path) -> set[str] | None:
    try:
        content = json.loads((folder / EXPORT).read_text(encoding="utf-8"))
        return {EXPORT, *content["files"]} if content["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
