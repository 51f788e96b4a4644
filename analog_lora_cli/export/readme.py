"""README of an export, which is also its card on the hub."""

from __future__ import annotations

from typing import Any

from analog_lora_cli.config import scope
from analog_lora_cli.config.flat import flatten
from analog_lora_cli.config.yaml_file import dump_yaml
from analog_lora_cli.evaluation.stored_result import StoredResult, read_drift
from analog_lora_cli.evaluation.text import interval_text, number_text
from analog_lora_cli.export.description import Description
from analog_lora_cli.export.source import Source
from analog_lora_cli.models.gguf import is_gguf

BROKEN_TORCHVISION = (
    "If this fails with `operator torchvision::nms does not exist`, the installed torchvision belongs to another build "
    "of torch: install the one that belongs to yours, or `pip uninstall torchvision`, which nothing here needs."
)
PACKAGES = ("torch", "transformers", "peft", "safetensors", "aihwkit")


def export_readme(source: Source, description: Description, manifest: dict[str, Any]) -> str:
    """Text of README.md: description, loading, results over drift, provenance, hashes.

    Raises:
        CheckpointError: the adapter's drift.json is damaged.
    """
    parts = [
        f"---\n{dump_yaml(_front_matter(source, description))}---",
        f"# {description.title}",
        description.text,
        f"## Loading it\n\nIn this folder (or the one that `huggingface_hub.snapshot_download` returns):\n\n"
        f"```python\n{description.code}\n```\n\n{BROKEN_TORCHVISION}",
        description.notes,
        _drift(source),
        _provenance(source, manifest),
        _files(manifest["files"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(source: Source, description: Description) -> dict[str, Any]:
    config = source.config
    content: dict[str, Any] = {}
    if source.base_on_hub:
        content["base_model"] = config.model.name
        content["base_model_relation"] = "adapter" if description.library == "peft" else "finetune"
    return {
        **content,
        "library_name": description.library,
        "pipeline_tag": source.task.pipeline_tag,
        "tags": ["analora", "analog-in-memory-computing", config.task.name, config.method],
        "metrics": [metric.name for metric in source.task.metrics],
    }


def _drift(source: Source) -> str:
    """The results over drift as a table, if there are any."""
    if not source.drift_file.is_file():
        return ""
    return _drift_table(source, read_drift(source.drift_file, ""))


def _drift_table(source: Source, result: StoredResult) -> str:
    assert result.hardware is not None
    rows = [
        f"| {row.label} | {row.mean:.2f} | {number_text(row.std)} | {interval_text(row.interval)} | "
        f"{number_text(row.worst)} |"
        for row in result.rows
    ]
    hardware = flatten(scope.project(source.config.hardware, *scope.MEASUREMENT))
    measured = flatten(
        {key: value for key, value in result.hardware.items() if scope.affects(f"hardware.{key}", *scope.MEASUREMENT)}
    )
    other = [f"`{key}: {value}`" for key, value in measured.items() if hardware.get(key) != value]
    changed = f" Measured with other hardware than trained for: {', '.join(other)}." if other else ""
    warnings = "".join(f"\n\n**Warning: {warning}.**" for warning in result.warnings)
    return f"""\
## Over drift

{result.metric.label} on {len(result.chips)} simulated chips ({result.hardware["device"]}), by time after \
programming ({result.metric.direction}). digital: the same weights without analog hardware; converters only: on \
tiles, with exact weights; std and worst: over the chips; interval: 95 %, over chips and samples where their scores \
are known, for one training seed.{changed}{warnings}

| | mean | std | interval | worst |
|---|---|---|---|---|
""" + "\n".join(rows)


def _provenance(source: Source, manifest: dict[str, Any]) -> str:
    base = source.base_name
    revision = source.config.model.revision
    versions = ", ".join(f"{name} {manifest['environment']['packages'].get(name)}" for name in PACKAGES)
    where = "" if source.base_on_hub or base.startswith("package:") else " (local)"
    if is_gguf(base):
        where += " (dequantized)"
    lines = [
        f"- base model: `{base}`{where}{'' if revision is None else f', revision `{revision}`'}",
        f"- sha256 of the pretrained weights: `{manifest['base_sha256']}`",
        f"- task `{source.config.task.name}`, method `{source.config.method}`"
        + (f", adapter `{source.adapter}` ({source.config.adapter.variant})" if source.has_adapter else ""),
        f"- written by analora {manifest['analora']} with Python {manifest['environment']['python']}, {versions}",
    ]
    return "## Where it comes from\n\n" + "\n".join(lines)


def _files(files: dict[str, str]) -> str:
    rows = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in files.items())
    return f"## Files\n\n| file | sha256 |\n|---|---|\n{rows}"
