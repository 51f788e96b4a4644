"""Measure checkpoints over chips and times, alone or side by side. Imports torch only when it runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.libraries import imports_done, prepare_libraries
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.storage.layout import ALL
from analog_lora_cli.storage.locks import locked
from analog_lora_cli.workflows.drift_request import DriftRequest
from analog_lora_cli.workflows.methods import methods, with_what_is_stored
from analog_lora_cli.workflows.observer import EvaluationObserver, SilentObserver
from analog_lora_cli.workflows.subject import Subject, check_comparable

if TYPE_CHECKING:
    from analog_lora_cli.evaluation.drift_result import DriftResult
    from analog_lora_cli.evaluation.thresholds import Requirement
    from analog_lora_cli.evaluation.training_seeds import SeedGroup
    from analog_lora_cli.workflows.evaluate import Evaluation


@dataclass(frozen=True)
class Check:
    """A requirement on one result."""

    name: str
    """Name of the result; empty where none has the metric."""
    rule: Requirement
    measured: float | None
    """None: not known."""


@dataclass(frozen=True)
class DriftEvaluation:
    """The measurements of one adapter, or of several on the same chips."""

    measured: list[Evaluation]
    folders: list[Path]
    """The folder of each one's drift.json, drift.csv and drift.png."""
    requirements: list[Requirement]
    written: bool
    """Whether the files were written."""
    groups: list[SeedGroup]
    """The methods, where folders of `train --seeds` were given."""
    deployment: bool
    """Adapters of one checkpoint, which serve its chip together; otherwise several are compared with the first."""

    @property
    def checks(self) -> list[Check]:
        """Each requirement with each result that has its metric; a metric that none has is a check that fails.

        Folders of `train --seeds` are checked as methods, with the training seed as the unit.
        """
        results: dict[str, DriftResult | SeedGroup] = {group.name: group for group in self.groups}
        results = results or {one.subject.name: one.result for one in self.measured}
        checks = []
        for rule in self.requirements:
            names = [name for name, result in results.items() if rule.metric.name in result.digital]
            checks += [Check(name, rule, rule.measured(results[name])) for name in names] or [Check("", rule, None)]
        return checks

    @property
    def failed(self) -> list[Check]:
        """The requirements that do not hold."""
        return [check for check in self.checks if not check.rule.admits(check.measured)]


def evaluate_drift(
    checkpoints: Path | str | Sequence[Path | str],
    *,
    adapters: str | Sequence[str] = (),
    times: str | Sequence[str] | None = None,
    chips: int | None = None,
    seed: int | None = None,
    reads: int | None = None,
    gaussian: str | Sequence[str | float] | None = None,
    recalibrate: int | None = None,
    limit: int | None = None,
    overrides: Sequence[str] = (),
    requirements: Sequence[str] = (),
    output: Path | str | None = None,
    overwrite: bool = False,
    observer: EvaluationObserver | None = None,
) -> DriftEvaluation:
    """Program simulated chips with checkpoints, age them through all times, measure them, and write the results.

    Measurements that are in the folder already, or in the checkpoint's own, are not repeated; those of the folder stay
    in its drift.json beside the new ones. With `requirements` and no `output`, nothing is written.

    Args:
        checkpoints: one folder, or several to compare on the same chips; folders of `train --seeds` are measured with
            the training seed as the unit.
        adapters: names; empty: the first adapter, `all`: every adapter of a checkpoint.
        times: times after programming, for instance `["0s", "1y"]`; None: the checkpoint's `drift.times`.
        chips: number of chips; None: the checkpoint's `drift.chips`.
        seed: seed of the first chip; None: the checkpoint's `drift.seed`.
        reads: reads of each chip at each time; None: the checkpoint's `drift.reads`.
        gaussian: sizes of static Gaussian weight noise, such as `["3%", "6.7%"]`; None: the checkpoint's
            `drift.gaussian`.
        recalibrate: rank of a recalibration in closed form, to measure each chip at each time with and without; None:
            the checkpoint's `drift.recalibrate`.
        limit: evaluation samples; None: the checkpoint's `task.max_eval_samples`.
        overrides: `KEY=VALUE` texts, as with `--set`.
        requirements: rules such as `f1>=85@1y`; see `DriftEvaluation.failed`.
        output: folder for the results; None: `drift/ADAPTER` in each checkpoint.
        overwrite: measure anew what was measured before.
        observer: watches the measurements; None: silent.

    Raises:
        UsageError: before anything is written.
        AnaloraError: while running.
    """
    options = {name: value for name, value in locals().items() if name != "observer"}  # The fields of the request.
    return carry_out(DriftRequest(**options), observer)


def carry_out(request: DriftRequest, observer: EvaluationObserver | None = None) -> DriftEvaluation:
    """Measure as a request says; errors as with `evaluate_drift`."""
    observer = observer or SilentObserver()
    plan = request.plan()
    prepare_libraries()

    from analog_lora_cli.evaluation.drift_grid import check_times
    from analog_lora_cli.evaluation.thresholds import parse_requirement
    from analog_lora_cli.tasks import make_task
    from analog_lora_cli.workflows.evaluate import check_evaluation, evaluate

    imports_done()
    with processes.together():
        subjects = _distinct(plan)
        deployment = _is_deployment(subjects, ALL in request.adapters)
        metrics = {metric.name: metric for subject in subjects for metric in make_task(subject.config.task, 0).metrics}
        times = subjects[0].config.drift.times
        requirements = [parse_requirement(text, list(metrics.values()), times) for text in request.requirements]
        for subject in subjects:
            check_times(subject.config.hardware, times, "drift.times" if request.times is None else "--times")
        if len(subjects) > 1 and not deployment:
            check_comparable(subjects)
        folders = [_folder(subject, request.output, len(subjects) > 1) for subject in subjects]
        for subject in subjects:
            if subject.config.drift.recalibrate is not None:
                subject.check_training_data()
        # The others too before hours of measurements of the first, which `evaluate` checks at once.
        for subject, folder in zip(subjects[1:], folders[1:], strict=True):
            check_evaluation(subject, folder, request.writes, request.overwrite)
        measured = [
            evaluate(subject, folder, observer, overwrite=request.overwrite, keep=request.writes)
            for subject, folder in zip(subjects, folders, strict=True)
        ]
        evaluation = DriftEvaluation(measured, folders, requirements, request.writes, methods(measured), deployment)
        if is_main() and request.writes:
            _write(evaluation, request.output)
    return evaluation


def _distinct(subjects: Sequence[Subject]) -> list[Subject]:
    """The subjects, each once; where folders share a name, `a/run` and `b/run` in place of it."""
    subjects = list({(one.checkpoint.folder.resolve(), one.adapter): one for one in subjects}.values())
    if len({one.name for one in subjects}) == len(subjects):
        return subjects
    above = os.path.commonpath([one.checkpoint.folder.resolve().parent for one in subjects])
    return [replace(one, label=one.checkpoint.folder.resolve().relative_to(above).as_posix()) for one in subjects]


def _is_deployment(subjects: Sequence[Subject], all_adapters: bool) -> bool:
    """Whether these are what one chip serves: adapters for several tasks cannot be compared with each other."""
    if any(subject.group is not None for subject in subjects):
        return False
    one_checkpoint = len({subject.checkpoint.folder for subject in subjects}) == 1
    several_tasks = len({subject.config.task.name for subject in subjects}) > 1
    return one_checkpoint and len(subjects) > 1 and (all_adapters or several_tasks)


def _folder(subject: Subject, output: Path | None, several: bool) -> Path:
    """The folder for a subject's measurements."""
    if output is None:
        return subject.own_folder
    return output / subject.name.replace("/", "-") if several else output


def _write(evaluation: DriftEvaluation, output: Path | None) -> None:
    from analog_lora_cli.workflows.results import (
        write_comparison,
        write_deployment,
        write_drift,
        write_seed_comparison,
        write_seeds,
    )

    for one, folder in zip(evaluation.measured, evaluation.folders, strict=True):
        run_log.keep_in(folder)
        with locked(folder, wait=True):
            write_drift(one.with_what_is_stored(folder), folder, one.subject.name)
    if len(evaluation.groups) == 1:
        group = evaluation.measured[0].subject.group
        assert group is not None
        stored = [one.stored for one in evaluation.measured]
        write_seeds(with_what_is_stored(evaluation.groups[0], stored), group if output is None else output)
        return
    if output is None or len(evaluation.measured) < 2:
        return
    if evaluation.groups:
        write_seed_comparison(evaluation.groups, output)
        return
    if evaluation.deployment:
        write_deployment(evaluation.measured, output)
    else:
        write_comparison(evaluation.measured, output)
