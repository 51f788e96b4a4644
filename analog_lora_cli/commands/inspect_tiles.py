"""`analora inspect-tiles`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.config.load import load_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.runtime import console

if TYPE_CHECKING:
    from analog_lora_cli.inspection.inspect import Inspection
    from analog_lora_cli.inspection.source import Source

DEFAULT_TIMES = "1d,1y,10y"
STDOUT = Path("-")
_SHAPES = {
    "model.name", "model.revision", "task.name", "method", "adapter.variant", "adapter.rank", "adapter.targets",
    "adapter.train_head", "adapter.adalora_init_rank", "hardware.layers", "hardware.tile_rows",
    "hardware.tile_columns", "hardware.converter", "hardware.converter_options", "hardware.device",
}  # fmt: skip
_STATISTICS = {"hardware.clip_sigma", "hardware.clip_scope", "hardware.g_max", "hardware.g_min", "train.seed"}
_ERRORS = {
    "hardware.dac_bits", "hardware.adc_bits", "hardware.adc_bound", "hardware.bound_management",
    "hardware.output_noise", "hardware.device_options", "hardware.drift_compensation", "task.validation_file",
    "task.max_length", "task.doc_stride",
}  # fmt: skip
_TRAINED = ("method", "adapter.", "task.name", "train.")
"""Keys that a checkpoint has settled."""


@dataclass(frozen=True)
class Request:
    """What stands on the command line."""

    checkpoint: Path | None
    preset: str | None
    config_file: Path | None
    model: str | None
    adapter: str | None
    overrides: list[str]
    statistics: bool
    errors: bool
    times: str | None
    chips: int | None
    seed: int | None
    inputs: str | None
    tokens: int | None
    pack: bool
    every: bool
    json: Path | None
    csv: Path | None
    plot: Path | None
    resume: bool
    overwrite: bool


def run(request: Request) -> None:
    """Look at a model, print the tables, and write the files."""
    _check_source(request)
    _check_options(request)
    _check_overrides(request)
    files = _files_to_write(request)
    config = _config(request)
    from analog_lora_cli.inspection.inspect import Wanted, inspect
    from analog_lora_cli.report.progress.meter import Meter

    wanted = Wanted(
        statistics=request.statistics,
        errors=request.errors,
        real_inputs=request.errors and _inputs(request) == "data",
        tokens=request.tokens or Wanted.tokens,
        pack=request.pack,
    )
    source = _source(request, config)
    meter = Meter("layers")
    if wanted.statistics or wanted.errors:
        meter.begin(0, 1)
    try:
        found = inspect(source, wanted, meter.update)
    finally:
        meter.end()
    _write(found, files)
    if request.json != STDOUT:
        _print(found, request.every)


def _check_source(request: Request) -> None:
    given = {
        "CHECKPOINT": request.checkpoint is not None,
        "--preset or --config": request.preset is not None or request.config_file is not None,
        "--model": request.model is not None,
    }
    if sum(given.values()) != 1:
        named = " and ".join(name for name, is_given in given.items() if is_given) or "none"
        raise UsageError(
            f"give exactly one of CHECKPOINT, --preset NAME (or --config FILE) and --model ID; got {named}"
        )
    if request.adapter is not None and request.checkpoint is None:
        raise UsageError("--adapter names an adapter of a checkpoint; give a CHECKPOINT")


def _check_options(request: Request) -> None:
    for name in ("times", "chips", "seed", "inputs", "tokens"):
        if getattr(request, name) is not None and not request.errors:
            raise UsageError(f"--{name}: has an effect on --errors only; add --errors")
    for name in ("chips", "tokens"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name}: expected 1 or more, got {value}")
    if request.inputs not in (None, "data", "random"):
        raise UsageError(f"--inputs: expected data or random, got {request.inputs!r}")
    if request.inputs == "data" and request.model is not None:
        raise UsageError("--inputs data: --model names no data; give a preset, a --config or a checkpoint")
    if request.resume and request.overwrite:
        raise UsageError("--resume keeps the files that exist and --overwrite replaces them: give one of them")


def _check_overrides(request: Request) -> None:
    """A key that changes nothing here is an error, not a silent nothing."""
    for text in request.overrides:
        key = text.partition("=")[0].strip()
        if request.checkpoint is not None and (key == "adapter" or key.startswith(_TRAINED)):
            raise UsageError(f"--set {text}: {key} belongs to the training and cannot change here")
        if key in ("drift.times", "drift.chips", "drift.seed"):
            raise UsageError(f"--set {text}: give --{key.partition('.')[2]} instead")
        if key in _SHAPES or key.split(".")[0] == "latency" or key in ("hardware", "adapter", "model", "task"):
            continue
        listed = key if key in _STATISTICS | _ERRORS else ".".join(key.split(".")[:2])
        if listed in _SHAPES:
            continue
        if listed in _STATISTICS and not (request.statistics or request.errors):
            raise UsageError(f"--set {text}: {key} acts on weights and conductances; add --statistics or --errors")
        if listed in _ERRORS and not request.errors:
            raise UsageError(f"--set {text}: {key} acts on the errors; add --errors")
        if listed not in _STATISTICS | _ERRORS and _is_known(listed):
            raise UsageError(f"--set {text}: {key} changes nothing that inspect-tiles shows")


def _is_known(key: str) -> bool:
    """Unknown keys are left to the configuration's own check, which suggests what was meant."""
    section, _, name = key.partition(".")
    fields = Config.model_fields
    if section not in fields or not name:
        return section in fields
    return section == "train" or name in getattr(fields[section].annotation, "model_fields", {})


def _files_to_write(request: Request) -> dict[str, Path]:
    """The files to write by option; nothing is written yet.

    Raises:
        UsageError: a file exists, cannot be written, or is named twice.
    """
    given = {"json": request.json, "csv": request.csv, "plot": request.plot}
    files = {name: path for name, path in given.items() if path is not None}
    for name, path in files.items():
        if path == STDOUT and name != "json":
            raise UsageError(f"--{name} -: only --json can go to stdout; name a file")
    paths = {name: path for name, path in files.items() if path != STDOUT}
    if len({path.absolute() for path in paths.values()}) < len(paths):
        raise UsageError("--json, --csv and --plot must name different files")
    for name, path in list(paths.items()):
        if path.is_dir():
            raise UsageError(f"--{name} {path}: is a folder, expected a file")
        if path.exists() and request.resume:
            del files[name]
        elif path.exists() and not request.overwrite:
            raise UsageError(f"--{name} {path}: exists already; replace it with --overwrite, or name another file")
        parent = next(parent for parent in path.absolute().parents if parent.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise UsageError(f"--{name} {path}: cannot be written in {parent}; name another file")
    return files


def _config(request: Request) -> Config:
    overrides = list(request.overrides)
    if request.model is not None:
        overrides.insert(0, f"model.name={json.dumps(request.model)}")
    if request.errors:
        times = request.times or DEFAULT_TIMES
        overrides.append(f"drift.times=[{','.join(part.strip() for part in times.split(','))}]")
        overrides.append(f"drift.chips={request.chips or 1}")
        if request.seed is not None:
            overrides.append(f"drift.seed={request.seed}")
    if request.checkpoint is None:
        return load_config(request.preset, request.config_file, overrides)

    from analog_lora_cli.storage.checkpoint import read_checkpoint, verify_adapter
    from analog_lora_cli.storage.layout import FIRST_ADAPTER

    checkpoint, adapter = read_checkpoint(request.checkpoint), request.adapter or FIRST_ADAPTER
    verify_adapter(checkpoint, adapter)
    return load_config(base=checkpoint.config_of(adapter).model_dump(mode="json"), overrides=overrides)


def _inputs(request: Request) -> str:
    return request.inputs or ("random" if request.model is not None else "data")


def _source(request: Request, config: Config) -> Source:
    from analog_lora_cli.inspection.source import Source
    from analog_lora_cli.storage.checkpoint import read_checkpoint
    from analog_lora_cli.storage.layout import FIRST_ADAPTER

    if request.checkpoint is None:
        file = request.config_file.stem if request.config_file is not None else None
        model = Path(str(request.model))
        return Source(request.preset or file or (model.resolve().name if model.is_dir() else str(model)), config)
    checkpoint = read_checkpoint(request.checkpoint)
    return Source(request.checkpoint.resolve().name, config, checkpoint, request.adapter or FIRST_ADAPTER)


def _write(found: Inspection, files: dict[str, Path]) -> None:
    from analog_lora_cli.inspection.files import inspection_csv, inspection_json
    from analog_lora_cli.storage.files import replacing, write_json, write_text

    for name, path in files.items():
        if name == "json" and path == STDOUT:
            print(json.dumps(inspection_json(found), indent=2, ensure_ascii=False, allow_nan=False))
            continue
        if name == "json":
            write_json(path, inspection_json(found))
        elif name == "csv":
            write_text(path, inspection_csv(found))
        else:
            from analog_lora_cli.figures.tiles import tile_plot

            with replacing(path) as beside:
                tile_plot(found, beside)
        console.note(f"written: {path}")


def _print(found: Inspection, every: bool) -> None:
    from analog_lora_cli.report.tiles.latency import latency_table
    from analog_lora_cli.report.tiles.tables import digital_table, tile_table, totals_table

    tables = [tile_table(found, every), digital_table(found), totals_table(found), latency_table(found)]
    if found.weights:
        from analog_lora_cli.report.tiles.quality import error_table, statistics_table

        tables.append(statistics_table(found, every))
        if found.errors:
            tables.append(error_table(found, every))
    for index, table in enumerate(tables):
        if index:
            console.results().print()
        console.results().print(table)
