"""A report over finished runs: collects what lies in their folders; nothing is measured. Imports torch when it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.config.flat import flatten
from analog_lora_cli.config.load import load_config
from analog_lora_cli.config.presets import preset_names
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import CheckpointError, UsageError
from analog_lora_cli.runtime.libraries import prepare_libraries
from analog_lora_cli.storage import layout
from analog_lora_cli.storage.checkpoint import Checkpoint, read_checkpoint
from analog_lora_cli.storage.files import check_new_file, read_json
from analog_lora_cli.storage.layout import COMPARISON_JSON, DRIFT, DRIFT_JSON, SEEDS_JSON
from analog_lora_cli.storage.seed_folders import seed_folders
from analog_lora_cli.version import __version__
from analog_lora_cli.workflows.request import Request

if TYPE_CHECKING:
    from analog_lora_cli.evaluation.stored_result import StoredResult
    from analog_lora_cli.workflows.report_content import (
        ConfigDifference,
        Report,
        RunContent,
        StoredComparison,
        StoredErrors,
    )

STDOUT = Path("-")


@dataclass(frozen=True, kw_only=True)
class ReportRequest(Request):
    """The options of `analora report`."""

    PATHS = ("output", "markdown", "latex")
    LISTS = ("runs",)

    runs: Sequence[Path | str]
    """Folders: checkpoints, those of `train --seeds`, and those of `evaluate-drift --output`."""
    output: Path | None = None
    """HTML file."""
    markdown: Path | None = None
    """Markdown file; `-`: stdout."""
    latex: Path | None = None
    """LaTeX file; `-`: stdout."""
    overwrite: bool = False

    @property
    def files(self) -> dict[str, Path]:
        """What to write, by option."""
        files = {"output": self.output, "markdown": self.markdown, "latex": self.latex}
        return {option: path for option, path in files.items() if path is not None}

    def check(self) -> None:
        """Check that there is something to write and that it can be written; writes nothing.

        Raises:
            UsageError: not so.
        """
        files = self.files
        if not files:
            raise UsageError("nothing to write: give --output report.html, --markdown FILE or --latex FILE")
        if self.output == STDOUT:
            raise UsageError("--output -: a page does not go to stdout; name a file, such as report.html")
        if len({path.absolute() for path in files.values()}) < len(files):
            raise UsageError("--output, --markdown and --latex must name different files")
        for option, path in files.items():
            if path != STDOUT:
                check_new_file(f"--{option}", path, self.overwrite)


def collect(request: ReportRequest) -> Report:
    """Read everything that a report shows.

    Args:
        request: the options.

    Raises:
        UsageError: nothing can be written as asked.
        CheckpointError: a folder holds no finished run, no results, or damaged ones.
    """
    request.check()
    folders = list(dict.fromkeys(Path(run) for run in request.runs))
    if not folders:
        raise UsageError("give at least one folder")
    kinds = [_check_folder(folder) for folder in folders]
    prepare_libraries()

    from analog_lora_cli.workflows.report_content import Report

    runs: dict[str, RunContent] = {}
    for folder, read in zip(folders, kinds, strict=True):
        for run in read(folder, _name(folder, folders)):
            other = runs.get(run.name)
            if other is not None and other.main.hardware != run.main.hardware:
                run = run.renamed(f"{folder.resolve().name}/{run.name}")
            runs.setdefault(run.name, run)  # What a comparison is of may be given beside it.
    names = list(runs)
    title = names[0] if len(names) == 1 else f"{len(names)} runs: {', '.join(names)}"
    comparisons = tuple(_comparison(folder / COMPARISON_JSON) for folder in folders if _has(folder, COMPARISON_JSON))
    return Report(tuple(runs.values()), comparisons, title, __version__, time.strftime("%Y-%m-%d", time.gmtime()))


def _name(folder: Path, folders: Sequence[Path]) -> str:
    """Name of a run: that of its folder, or its path where several folders have that name."""
    name = folder.resolve().name
    return name if sum(other.resolve().name == name for other in folders) == 1 else str(folder)


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _check_folder(folder: Path) -> Callable[[Path, str], list[RunContent]]:
    """The function that reads a folder of this kind.

    Raises:
        CheckpointError: it holds nothing to report; the message says the command that makes it.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder; `analora train` writes one")
    if _has(folder, COMPARISON_JSON):  # Before the seeds: results may lie in it by the names seed-0, seed-1.
        return _compared_results
    if seed_folders(folder):
        if not _has(folder, SEEDS_JSON):
            raise CheckpointError(
                f"{folder}: no {SEEDS_JSON} in it, so nothing was measured over all trainings; "
                f"analora evaluate-drift {folder} writes it"
            )
        return _seeds_run
    if _has(folder, layout.CONFIG):
        if not any(_drift_files(folder)):
            read_checkpoint(folder)  # An unfinished run says so first.
            raise CheckpointError(
                f"{folder}: no {DRIFT_JSON} in it, so there are no results over time yet; "
                f"analora evaluate-drift {folder} writes one"
            )
        return _checkpoint_run
    if _has(folder, DRIFT_JSON):
        return _results_alone
    raise CheckpointError(
        f"{folder}: holds no run: expected a checkpoint, a folder of train --seeds, or one of evaluate-drift --output; "
        "`analora train` writes a checkpoint"
    )


def _drift_files(folder: Path) -> list[Path]:
    """The drift.json of each adapter of a checkpoint, the first adapter first."""
    found = (folder / DRIFT).glob(f"*/{DRIFT_JSON}")
    return sorted(found, key=lambda file: (file.parent.name != layout.FIRST_ADAPTER, file.parent.name))


def _checkpoint_run(folder: Path, name: str) -> list[RunContent]:
    checkpoint = read_checkpoint(folder)
    results = _adapter_results(folder, name)
    return [_described(name, folder, results, [checkpoint])]


def _adapter_results(folder: Path, name: str) -> list[StoredResult]:
    from analog_lora_cli.evaluation.stored_result import read_drift

    names = {layout.FIRST_ADAPTER: name}
    return [
        read_drift(file, names.get(file.parent.name, f"{name}/{file.parent.name}")) for file in _drift_files(folder)
    ]


def _seeds_run(folder: Path, name: str) -> list[RunContent]:
    from analog_lora_cli.evaluation.stored_result import read_seeds

    results, trainings = [read_seeds(folder / SEEDS_JSON, name)], []
    for own in seed_folders(folder):
        trainings.append(read_checkpoint(own))
        results += _adapter_results(own, f"{name}/{own.name}")[:1]
    return [_described(name, folder, results, trainings)]


def _results_alone(folder: Path, name: str) -> list[RunContent]:
    from analog_lora_cli.evaluation.stored_result import read_drift
    from analog_lora_cli.workflows.report_content import RunContent

    return [RunContent(name, folder, (read_drift(folder / DRIFT_JSON, name),), None)]


def _compared_results(folder: Path, name: str) -> list[RunContent]:
    """The results below a folder of a comparison, in its order."""
    first = _comparison(folder / COMPARISON_JSON).first.replace("/", "-")
    inner = sorted(file.parent for file in folder.glob(f"*/{DRIFT_JSON}"))
    inner.sort(key=lambda one: one.name != first)
    if not inner:
        raise CheckpointError(f"{folder}: no {DRIFT_JSON} below it; write it anew with analora evaluate-drift")
    return [run for each in inner for run in _results_alone(each, each.name)]


def _described(name: str, folder: Path, results: list[StoredResult], trainings: list[Checkpoint]) -> RunContent:
    from analog_lora_cli.inspection.stored import stored_inspection
    from analog_lora_cli.workflows.report_content import RunContent

    checkpoint = trainings[0]
    preset, differences = nearest_preset(checkpoint.config)
    inspection = stored_inspection(checkpoint, name)
    return RunContent(
        name=name,
        folder=folder,
        results=tuple(results),
        checkpoint=checkpoint,
        trainings=tuple(trainings),
        preset=preset,
        differences=tuple(differences),
        inspection=inspection,
        errors=None if inspection is None else _errors(checkpoint),
    )


def nearest_preset(config: Config) -> tuple[str | None, list[ConfigDifference]]:
    """The preset that a configuration came from, and where it is not as that says.

    A checkpoint does not say its preset: it is the one with the same description, of several the one with the fewest
    differences.

    Returns:
        None and no differences if no preset has the description.
    """
    from analog_lora_cli.workflows.report_content import ConfigDifference

    here = flatten(config.model_dump(mode="json"))
    candidates: list[tuple[str | None, list[ConfigDifference]]] = []
    for name, preset in _presets().items():
        if config.description and preset.description == config.description:
            there = flatten(preset.model_dump(mode="json"))
            keys = [key for key in [*here, *(there.keys() - here.keys())] if here.get(key) != there.get(key)]
            candidates.append((name, [ConfigDifference(key, there.get(key), here.get(key)) for key in keys]))
    return min(candidates, key=lambda one: len(one[1]), default=(None, []))


@cache
def _presets() -> dict[str, Config]:
    return {name: load_config(preset=name) for name in preset_names()}


def _errors(checkpoint: Checkpoint) -> StoredErrors | None:
    """Measured errors by layer from tiles.json; None where there are none, or they are those of other hardware."""
    from analog_lora_cli.workflows.report_content import LayerError, StoredErrors

    file = checkpoint.folder / layout.TILES
    if not file.is_file():
        return None
    content = read_json(file)
    measured_on = content.get("errors_measured_on")
    if measured_on is None or content.get("hardware") != checkpoint.config.hardware.model_dump(mode="json"):
        return None
    layers = [
        LayerError(one["name"], tuple((effect["name"], effect["error"]) for effect in one["errors"]["effects"]))
        for one in content["layers"]
        if one["errors"]
    ]
    layers.sort(key=lambda one: -one.effects[-1][1])
    effects = tuple(name for name, _ in layers[0].effects)
    return StoredErrors(measured_on["inputs"], tuple(measured_on["chips"]), effects, tuple(layers))


def _comparison(file: Path) -> StoredComparison:
    from analog_lora_cli.evaluation.stored_result import COMPARISON_FORMAT, check_format
    from analog_lora_cli.workflows.report_content import StoredComparison

    content = read_json(file)
    check_format(file, content, COMPARISON_FORMAT)
    return StoredComparison(
        file, content["metric"], content["first"], content["unit_of_comparison"], content["differences"]
    )
