"""Evaluation of a checkpoint folder, reusing the measurements that are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from analog_lora_cli.config.noise_levels import level_label
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
from analog_lora_cli.storage.files import check_writable
from analog_lora_cli.storage.layout import DRIFT_JSON
from analog_lora_cli.storage.locks import check_free, locked
from analog_lora_cli.storage.sealed import read_sealed
from analog_lora_cli.tasks import Metric
from analog_lora_cli.workflows.observer import EvaluationObserver, planned_measurements
from analog_lora_cli.workflows.subject import Subject

MEASUREMENTS = "measurements.jsonl"
"""Name of the log of finished measurements, in the folder of an adapter's results."""


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
        if not finished.scores.keys() >= self.stored.measured.scores.keys():
            return self.stored
        return _with_stored(self.subject, finished, _stored_grid(folder / DRIFT_JSON), self.stored)

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


def check_evaluation(subject: Subject, folder: Path, keep: bool, overwrite: bool) -> None:
    """Check what can be checked of an evaluation before it begins; arguments as for `evaluate`.

    Raises:
        CheckpointError: the adapter is damaged or another one.
        UsageError: the folder's measurements belong to other conditions, or it cannot be written.
        BusyError: another process is adding to them.
    """
    hardware = subject.config.hardware
    store.verify_adapter(subject.checkpoint, subject.adapter)
    require_learned_ranges(hardware, subject.checkpoint.input_ranges(subject.adapter, hardware))
    if keep:
        check_writable(folder)
    if keep and not overwrite:
        MeasurementLog(folder / MEASUREMENTS, subject.key()).check()
    if keep and is_main():
        check_free(folder)


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
        folder: folder of the log of measurements; what only the checkpoint's own log holds of them is copied there.
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
    check_evaluation(subject, folder, keep, overwrite)
    log = MeasurementLog(folder / MEASUREMENTS, subject.key())
    over_chips = [measurement for drift in drifts for measurement in drift_measurements(drift)]
    measurements = list(dict.fromkeys([*without_chips(config.drift.draws), *over_chips]))
    finished = Measurements() if overwrite else _finished(log, keep)
    if not overwrite and folder.resolve() != subject.own_folder.resolve():
        finished = _with_the_checkpoints_own(subject, measurements, finished, log, keep)
    grid = {} if overwrite else _stored_grid(folder / DRIFT_JSON)
    reused = len(finished.scores.keys() & set(measurements))
    plan = planned_measurements(config.drift.draws, drifts, len(measurements), reused)
    observer.stage(f"evaluating {subject.name}{subject.note}: {plan}")
    if processes.any_of(finished.truth is None or not finished.scores.keys() >= set(measurements)):
        finished = _measure(subject, measurements, finished, log, observer, overwrite, keep)
    parts = [_labelled(drift) for drift in drifts]
    asked = parts[0] if parts else {}
    result, *further = [_result(subject, finished, part) for part in (asked, *parts[1:])]
    return Evaluation(subject, result, _with_stored(subject, finished, grid, result), *further)


def _finished(log: MeasurementLog, keep: bool) -> Measurements:
    """Finished measurements; where nothing will be written, those of other conditions are no obstacle."""
    try:
        return log.read()
    except UsageError:
        if keep:
            raise
        return Measurements()


def _with_the_checkpoints_own(
    subject: Subject, measurements: list[Measurement], finished: Measurements, log: MeasurementLog, keep: bool
) -> Measurements:
    """Finished measurements with those that the checkpoint's own log holds besides; with `keep` they are logged."""
    own = _finished(MeasurementLog(subject.own_folder / MEASUREMENTS, subject.key()), keep=False)
    known = own.scores if own.truth is not None else {}
    scores = {one: known[one] for one in measurements if one in known and one not in finished.scores}
    if own.truth is None or not scores:
        return finished
    if keep:
        with _locked(log.path.parent):
            if is_main():
                log.start(own.truth)
                for one, values in scores.items():
                    log.append(one, values, own.calibrations.get(one))
            processes.wait_for_all()
    truth = own.truth if finished.truth is None else finished.truth
    return Measurements({**finished.scores, **scores}, truth, {**own.calibrations, **finished.calibrations})


def _labelled(drift: DriftConfig) -> dict[Measurement, str]:
    """The measurements over chips, each with the label of its time or noise."""
    labels = {seconds(label): label for label in drift.times}
    return {
        one: labels[one.seconds] if one.ages else level_label(one.level)
        for one in drift_measurements(drift)
        if one.has_chip
    }


def _stored_grid(file: Path) -> dict[Measurement, str]:
    """The measurements over chips that a drift.json was made from, each with the label of its time or noise; none where
    there is no whole one."""
    try:
        return measured_grid(read_sealed(file)) if file.is_file() else {}
    except CheckpointError:
        return {}  # It is written anew from the log.


def _with_stored(
    subject: Subject, finished: Measurements, grid: dict[Measurement, str], result: DriftResult
) -> DriftResult:
    """A result with those measurements of a stored grid, and those draws, that are finished; itself if it has all."""
    # One table holds recalibrations of one kind: those that were asked for.
    kinds = {None, result.recalibration}
    mixes = result.recalibration is not None
    stored = {
        one: label
        for one, label in grid.items()
        if one in finished.scores and not (mixes and one.recalibration not in kinds)
    }
    draws = [one for one in finished.scores if one.kind == "converters_only"]
    merged = _result(subject, finished, {**stored, **result.times_and_levels}, draws)
    return result if merged.measured.scores.keys() == result.measured.scores.keys() else merged


def _result(
    subject: Subject,
    finished: Measurements,
    over_chips: dict[Measurement, str],
    draws: Sequence[Measurement] = (),
) -> DriftResult:
    """The result of some measurements over chips, each with its label, and of those without chips.

    Args:
        subject: the adapter.
        finished: the measurements.
        over_chips: which of those over chips.
        draws: draws with converters only, beside those of the configuration.
    """
    config, task = subject.config, subject.task
    times = {one.seconds: label for one, label in over_chips.items() if one.ages}
    levels = {one.level: label for one, label in over_chips.items() if one.kind == "gaussian"}
    by_chip = sorted(over_chips, key=lambda one: (one.level, one.kind, one.calibrated, one.chip, one.seconds, one.read))
    further = sorted(draws, key=lambda one: one.read)
    wanted = dict.fromkeys([*without_chips(config.drift.draws), *further, *by_chip])
    return DriftResult(
        metrics={metric.name: metric for metric in task.metrics},
        adapter=subject.adapter,
        hardware=config.hardware,
        chips=sorted({one.chip for one in over_chips if one.kind == "chip"}),
        times=[times[time] for time in sorted(times)],
        measured=Measurements(
            {one: finished.scores[one] for one in wanted},
            finished.truth,
            {one: finished.calibrations[one] for one in wanted if one in finished.calibrations},
        ),
        baseline=subject.baseline,
        training_seeds=[config.train.seed],
        levels=[levels[level] for level in sorted(levels)],
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
    evaluator = Evaluator(loaded.task, loaded.processor, subject.config.train.per_device_eval_batch_size, device)
    evaluator.check(loaded.module)
    if not keep:
        return measure(loaded, evaluator, measurements, finished, None, observer.measured)
    with _locked(log.path.parent):
        if overwrite and is_main():
            log.path.unlink(missing_ok=True)
        processes.wait_for_all()
        # Another process may have added to the log since.
        finished = log.read()
        return measure(loaded, evaluator, measurements, finished, log, observer.measured)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if is_main():
        with locked(folder):
            run_log.keep_in(folder)
            yield
    else:
        yield
