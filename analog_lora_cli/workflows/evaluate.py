"""Measure what lies in a checkpoint folder, reusing the measurements that are there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from analog_lora_cli.config.flat import flatten
from analog_lora_cli.config.schema import Config, DriftConfig
from analog_lora_cli.errors import UsageError
from analog_lora_cli.evaluation.drift_grid import (
    CONVERTERS,
    DIGITAL,
    WITHOUT_CHIPS,
    Progress,
    check_times,
    drift_cells,
    drift_result,
    measure,
)
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.evaluation.log import CellLog, Metrics
from analog_lora_cli.models.build import build_from
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime import processes
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.storage import layout
from analog_lora_cli.storage.files import check_writable, file_sha256
from analog_lora_cli.storage.locks import check_free, locked
from analog_lora_cli.tasks import make_task

CELLS = "cells.jsonl"
TRAINING_ONLY = {"weight_noise", "weight_noise_type", "weight_noise_ramp"}
"""Fields of `hardware` that no measurement depends on."""


class MeasuringReport(Protocol):
    """Hears how the measuring goes."""

    def stage(self, text: str) -> None:
        """A stage begins."""

    @property
    def measured(self) -> Progress:
        """Hears of each measurement."""


@dataclass(frozen=True)
class Subject:
    """What is measured: one adapter of a checkpoint, under a configuration that may differ from the training's."""

    checkpoint: store.Checkpoint
    config: Config
    adapter: str
    note: str = ""
    """What is special about the conditions, for progress."""

    @property
    def own_folder(self) -> Path:
        """Where the checkpoint keeps this adapter's results."""
        return self.checkpoint.folder / "drift" / self.adapter

    @property
    def name(self) -> str:
        """For tables: the folder's name, and the adapter's unless it is the first."""
        folder = self.checkpoint.folder.resolve().name
        return folder if self.adapter == layout.FIRST_ADAPTER else f"{folder}/{self.adapter}"

    def key(self) -> dict[str, Any]:
        """Everything that a measurement depends on, besides chip and time."""
        return {"format": 2, **self.conditions(), **self.weights()}

    def conditions(self) -> dict[str, Any]:
        """Hardware, task and validation data: what must agree for a comparison on the same chips."""
        config = self.config
        files = make_task(config.task, config.train.seed).data_files()
        return {
            "hardware": self.hardware(),
            "task": config.task.model_dump(exclude={"train_file", "validation_file", "max_train_samples"}),
            "data": {role: file_sha256(path) for role, path in files.items() if role != "train"},
            "eval_batch_size": config.train.per_device_eval_batch_size,
        }

    def hardware(self) -> dict[str, Any]:
        """What measurements depend on of the hardware."""
        hardware = self.config.hardware.model_dump(mode="json", exclude=TRAINING_ONLY)
        if self.config.trains_base:
            del hardware["clip_sigma"], hardware["clip_scope"]
        return hardware

    def weights(self) -> dict[str, Any]:
        """Hashes of the pretrained weights and of what was trained."""
        manifest = self.checkpoint.manifest
        if self.config.trains_base:
            return {"weights": manifest["model_sha256"]}
        entry = self.checkpoint.entry(self.adapter)
        return {"base_sha256": entry["base_sha256"], "weights": entry["files"]}


@dataclass(frozen=True)
class Assessment:
    """What the measuring of one subject gave."""

    subject: Subject
    metric: str
    digital: Metrics
    converters_only: Metrics
    guess: Metrics
    """What answers that ignore the input get."""
    drift: DriftResult | None
    also: DriftResult | None = None
    """The same over other chips, where they were asked for."""


def assess(
    subject: Subject,
    folder: Path,
    report: MeasuringReport,
    with_chips: bool = True,
    also: DriftConfig | None = None,
    overwrite: bool = False,
) -> Assessment:
    """Measure one subject; what was measured before under the same conditions is not measured again.

    Args:
        subject: what is measured.
        folder: where the finished measurements are kept.
        report: hears how it goes.
        with_chips: over chips and times; else only digitally and with exact weights.
        also: more chips and times, for a result of their own.
        overwrite: measure anew what was measured before.

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
    check_writable(folder)
    if processes.is_main():
        check_free(folder)
    log = CellLog(folder / CELLS, subject.key())
    names = list(dict.fromkeys([*WITHOUT_CHIPS, *(name for drift in drifts for name in drift_cells(drift))]))
    done = {} if overwrite else log.read()
    report.stage(f"evaluating {subject.name}{subject.note}")
    if any(processes.gather(not done.keys() >= set(names))):
        done = _measured(subject, names, log, report, overwrite)
    task = make_task(config.task, config.train.seed)
    results = [drift_result(config, task, drift, subject.adapter, done) for drift in drifts]
    return Assessment(
        subject,
        task.metric,
        done[DIGITAL],
        done[CONVERTERS],
        task.guess_score(),
        results[0] if results else None,
        results[1] if len(results) > 1 else None,
    )


def _measured(
    subject: Subject, names: list[str], log: CellLog, report: MeasuringReport, overwrite: bool
) -> dict[str, Metrics]:
    place = _device()
    built = build_from(subject.checkpoint, subject.adapter, subject.config).to(place)
    evaluator = Evaluator(built.task, built.tokenizer, subject.config.train.per_device_eval_batch_size, place)
    with _held(log.path.parent):
        if overwrite and processes.is_main():
            log.path.unlink(missing_ok=True)
        processes.wait_for_all()
        return measure(built, evaluator, names, log, report.measured)


def check_comparable(subjects: list[Subject]) -> None:
    """See that all subjects are measured under the same conditions, so that differences are those of the methods.

    Raises:
        UsageError: they are not; the message names the first differences.
    """
    first = flatten(subjects[0].conditions())
    for other in subjects[1:]:
        conditions = flatten(other.conditions())
        clipping = {"hardware.clip_sigma", "hardware.clip_scope"}
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
def _held(folder: Path) -> Iterator[None]:
    if processes.is_main():
        with locked(folder):
            run_log.keep_in(folder)
            yield
    else:
        yield


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")
