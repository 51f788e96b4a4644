"""Evaluation of a checkpoint folder, reusing the measurements that are there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from analog_lora_cli.config import scope
from analog_lora_cli.config.flat import flatten
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.drift import DriftConfig
from analog_lora_cli.config.times import seconds
from analog_lora_cli.errors import CheckpointError, UsageError
from analog_lora_cli.evaluation.drift_grid import check_times, drift_measurements, measure
from analog_lora_cli.evaluation.drift_json import measured_grid
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.evaluation.log import MeasurementLog, Measurements, Metrics
from analog_lora_cli.evaluation.measurement import Measurement, without_chips
from analog_lora_cli.models.build import build_from
from analog_lora_cli.models.input_ranges import require_learned_ranges
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.storage import layout
from analog_lora_cli.storage.files import check_writable, file_sha256
from analog_lora_cli.storage.locks import check_free, locked
from analog_lora_cli.storage.sealed import read_sealed
from analog_lora_cli.tasks import Metric, Task, make_task
from analog_lora_cli.workflows.observer import EvaluationObserver, planned_measurements

DRIFT_JSON = "drift.json"
MEASUREMENTS = "measurements.jsonl"
"""Name of the log of finished measurements, in the folder of an adapter's results."""


@dataclass(frozen=True)
class Subject:
    """One adapter of a checkpoint, under a configuration that may differ from the training's."""

    checkpoint: store.Checkpoint
    config: Config
    adapter: str
    note: str = ""
    """Remark on the conditions, for progress."""
    label: str = ""
    """Name of the checkpoint where that of its folder is not distinct."""
    group: Path | None = None
    """Folder of `train --seeds` that the checkpoint belongs to; None: it stands alone."""

    @property
    def own_folder(self) -> Path:
        """Folder in which the checkpoint keeps this adapter's results."""
        return self.checkpoint.folder / "drift" / self.adapter

    @property
    def name(self) -> str:
        """Name for tables: that of the checkpoint, and of the adapter unless it is the first."""
        folder = self.checkpoint.folder.resolve()
        checkpoint = self.label or (folder.name if self.group is None else f"{folder.parent.name}/{folder.name}")
        return checkpoint if self.adapter == layout.FIRST_ADAPTER else f"{checkpoint}/{self.adapter}"

    @cached_property
    def task(self) -> Task:
        """Task of the adapter."""
        return make_task(self.config.task, self.config.train.seed)

    @cached_property
    def baseline(self) -> Metrics:
        """Metrics of answers that ignore the input."""
        return self.task.baseline_score()

    def key(self) -> dict[str, Any]:
        """Identity of a measurement besides chip and time: all that its value depends on."""
        return {"format": 3, **self.conditions(), **self.weights()}

    def conditions(self) -> dict[str, Any]:
        """Hardware, task and validation data: what must agree for a comparison on the same chips."""
        config = self.config
        files = self.task.data_files()
        return {
            "hardware": self.hardware(),
            "task": scope.project(config.task, *scope.MEASUREMENT),
            "train": scope.project(config.train, *scope.MEASUREMENT),
            "data": {role: file_sha256(path) for role, path in files.items() if role != "train" or self.calibrates},
        }

    @property
    def calibrates(self) -> bool:
        """Whether the input ranges come from the training data now, not from the checkpoint."""
        hardware = self.config.hardware
        return hardware.input_range == "static" and not self.checkpoint.input_ranges(self.adapter, hardware)

    def hardware(self) -> dict[str, Any]:
        """Hardware settings that measurements depend on."""
        # The stored weights of a trained base are clipped already.
        effects = [one for one in scope.MEASUREMENT if one != "clipping" or not self.config.trains_base]
        return scope.project(self.config.hardware, *effects)

    def weights(self) -> dict[str, Any]:
        """Hashes of the pretrained weights and of what was trained."""
        manifest = self.checkpoint.manifest
        if self.config.trains_base:
            ranges = manifest["files"].get(f"{layout.MODEL}/{layout.INPUT_RANGES_FILE}")
            return {"weights": manifest["model_sha256"], **({} if ranges is None else {"input_ranges": ranges})}
        entry = self.checkpoint.entry(self.adapter)
        return {"base_sha256": entry["base_sha256"], "weights": entry["files"]}


@dataclass(frozen=True)
class Evaluation:
    """The results of one subject."""

    subject: Subject
    result: DriftResult
    """The measurements that were asked for; without chips and times if there were none."""
    stored: DriftResult
    """The same, with what the folder's drift.json held before: a smaller evaluation never replaces a fuller one."""
    also: DriftResult | None = None
    """Result over further chips; None without them."""

    @property
    def drift(self) -> DriftResult | None:
        """The result over chips and times; None if none were asked for."""
        return self.result if self.result.chips else None

    def with_what_is_stored(self, folder: Path) -> DriftResult:
        """The result with what a folder's drift.json and log hold now, where others may have added to them."""
        log = MeasurementLog(folder / MEASUREMENTS, self.subject.key())
        finished = log.read()
        own = {one: _label(self.stored, one.seconds) for one in self.stored.measurements}
        before = {one: label for label, one in _stored_grid(folder / DRIFT_JSON) if one in finished.scores}
        if not finished.scores.keys() >= self.stored.measured.scores.keys():
            return self.stored
        return _result(self.subject, finished, {**before, **own}, all_draws=True)

    @property
    def headline(self) -> Metric:
        """The metric that tables show first."""
        return self.result.headline

    @property
    def metric(self) -> str:
        """Name of the headline metric."""
        return self.headline.name

    @property
    def digital(self) -> Metrics:
        """Metrics of the same adapter without analog hardware."""
        return self.result.digital

    @property
    def converters_only(self) -> Metrics:
        """Metrics with converters only, means over the draws."""
        return self.result.converters_only


def evaluate(
    subject: Subject,
    folder: Path,
    observer: EvaluationObserver,
    with_chips: bool = True,
    also: DriftConfig | None = None,
    overwrite: bool = False,
    keep: bool = True,
) -> Evaluation:
    """Measure one subject; what was measured before under the same conditions is not measured again.

    Args:
        subject: the adapter and its conditions.
        folder: folder of the log of measurements.
        observer: watches the measurements.
        with_chips: over chips and times; else only digitally and with exact weights.
        also: further chips and times, for a result of their own.
        overwrite: measure anew what was measured before.
        keep: add new measurements to the folder's log; else nothing is written.

    Raises:
        CheckpointError: the adapter or the base is damaged or another one.
        UsageError: the folder's measurements belong to other conditions, another process is adding to them, or the
            device is not defined at a time.
    """
    config = subject.config
    drifts = [drift for drift in (config.drift, also) if with_chips and drift is not None]
    for drift in drifts:
        check_times(config.hardware, drift.times)
    store.verify_adapter(subject.checkpoint, subject.adapter)
    require_learned_ranges(config.hardware, subject.checkpoint.input_ranges(subject.adapter, config.hardware))
    if keep:
        check_writable(folder)
    if keep and is_main():
        check_free(folder)
    log = MeasurementLog(folder / MEASUREMENTS, subject.key())
    over_chips = [measurement for drift in drifts for measurement in drift_measurements(drift)]
    measurements = list(dict.fromkeys([*without_chips(config.drift.draws), *over_chips]))
    finished = Measurements() if overwrite else _finished(log, keep)
    grid = [] if overwrite else _stored_grid(folder / DRIFT_JSON)
    reused = len(finished.scores.keys() & set(measurements))
    plan = planned_measurements(config.drift.draws, drifts, len(measurements), reused)
    observer.stage(f"evaluating {subject.name}{subject.note}: {plan}")
    if processes.any_of(finished.truth is None or not finished.scores.keys() >= set(measurements)):
        finished = _measure(subject, measurements, finished, log, observer, overwrite, keep)
    parts = [_labelled(drift) for drift in drifts]
    asked = parts[0] if parts else {}
    before = {one: label for label, one in grid if one in finished.scores}
    result, *further = [_result(subject, finished, part) for part in (asked, *parts[1:])]
    return Evaluation(subject, result, _result(subject, finished, {**before, **asked}, all_draws=True), *further)


def _finished(log: MeasurementLog, keep: bool) -> Measurements:
    """Finished measurements; where nothing will be written, those of other conditions are no obstacle."""
    try:
        return log.read()
    except UsageError:
        if keep:
            raise
        return Measurements()


def _labelled(drift: DriftConfig) -> dict[Measurement, str]:
    """The measurements over chips, each with the label of its time."""
    labels = {seconds(label): label for label in drift.times}
    return {one: labels[one.seconds] for one in drift_measurements(drift) if one.kind == "chip"}


def _label(result: DriftResult, time: float) -> str:
    return next(label for label in result.times if seconds(label) == time)


def _stored_grid(file: Path) -> list[tuple[str, Measurement]]:
    """The measurements over chips that a drift.json was made from; none where there is no whole one."""
    try:
        return measured_grid(read_sealed(file)) if file.is_file() else []
    except CheckpointError:
        return []  # It is written anew from the log.


def _result(
    subject: Subject, finished: Measurements, over_chips: dict[Measurement, str], all_draws: bool = False
) -> DriftResult:
    """The result of some measurements over chips, each with the label of its time; with all draws that there are."""
    config, task = subject.config, subject.task
    times = {one.seconds: label for one, label in over_chips.items()}
    by_chip = sorted(over_chips, key=lambda one: (one.chip, one.seconds, one.read))
    draws = max(config.drift.draws, sum(one.kind == "converters_only" for one in finished.scores) if all_draws else 0)
    wanted = [*without_chips(draws), *by_chip]
    return DriftResult(
        metrics={metric.name: metric for metric in task.metrics},
        adapter=subject.adapter,
        hardware=config.hardware,
        chips=sorted({one.chip for one in over_chips}),
        times=[times[time] for time in sorted(times)],
        measured=Measurements({one: finished.scores[one] for one in wanted}, finished.truth),
        baseline=subject.baseline,
        training_seeds=[config.train.seed],
        reference=config.reference.model_dump(mode="json") if config.reference is not None else None,
    )


def _measure(
    subject: Subject,
    measurements: list[Measurement],
    finished: Measurements,
    log: MeasurementLog,
    observer: EvaluationObserver,
    overwrite: bool,
    keep: bool,
) -> Measurements:
    device = processes.own_device()
    loaded = build_from(subject.checkpoint, subject.adapter, subject.config)
    loaded.module.to(device)
    evaluator = Evaluator(loaded.task, loaded.tokenizer, subject.config.train.per_device_eval_batch_size, device)
    if not keep:
        return measure(loaded, evaluator, measurements, finished, None, observer.measured)
    with _locked(log.path.parent):
        if overwrite and is_main():
            log.path.unlink(missing_ok=True)
        processes.wait_for_all()
        # Another process may have added to the log since.
        finished = log.read()
        return measure(loaded, evaluator, measurements, finished, log, observer.measured)


def check_comparable(subjects: list[Subject]) -> None:
    """Check that all subjects are measured under the same conditions, so that differences are those of the methods.

    Raises:
        UsageError: the conditions differ; the message names the first differences.
    """
    first = flatten(subjects[0].conditions())
    for other in subjects[1:]:
        conditions = flatten(other.conditions())
        clipping = set(scope.keys("clipping"))
        keys = sorted(
            key for key in (first.keys() | conditions.keys()) - clipping if first.get(key) != conditions.get(key)
        )
        if keys:
            shown = "; ".join(f"{key}: {first.get(key)!r} and {conditions.get(key)!r}" for key in keys[:3])
            raise UsageError(
                f"{subjects[0].name} and {other.name} cannot be compared on the same chips: {shown}. "
                "Make them agree with --set"
            )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if is_main():
        with locked(folder):
            run_log.keep_in(folder)
            yield
    else:
        yield
