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
from analog_lora_cli.config.schema import Config
from analog_lora_cli.engine import checkpoint as store
from analog_lora_cli.engine import processes
from analog_lora_cli.engine.build import build_from
from analog_lora_cli.engine.cells import CellLog, Metrics
from analog_lora_cli.engine.drift import (
    CONVERTERS,
    DIGITAL,
    WITHOUT_CHIPS,
    Progress,
    check_times,
    evaluate_drift,
    measure,
)
from analog_lora_cli.engine.drift_result import DriftResult
from analog_lora_cli.engine.evaluation import Evaluator
from analog_lora_cli.engine.storage import file_sha256, locked
from analog_lora_cli.errors import UsageError
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

    @property
    def own_folder(self) -> Path:
        """Where the checkpoint keeps this adapter's results."""
        return self.checkpoint.folder / "drift" / self.adapter

    @property
    def name(self) -> str:
        """For tables: the folder's name, and the adapter's unless it is the first."""
        folder = self.checkpoint.folder.resolve().name
        return folder if self.adapter == store.FIRST_ADAPTER else f"{folder}/{self.adapter}"

    def key(self) -> dict[str, Any]:
        """Everything that a measurement depends on, besides chip and time."""
        return {"format": 1, **self.conditions(), **self.weights()}

    def conditions(self) -> dict[str, Any]:
        """Hardware, task and validation data: what must agree for a comparison on the same chips."""
        config = self.config
        hardware = config.hardware.model_dump(mode="json", exclude=TRAINING_ONLY)
        if config.method == "full":
            del hardware["clip_sigma"], hardware["clip_scope"]
        files = make_task(config.task, config.train.seed).data_files()
        return {
            "hardware": hardware,
            "task": config.task.model_dump(exclude={"train_file", "validation_file", "max_train_samples"}),
            "data": {role: file_sha256(path) for role, path in files.items() if role != "train"},
            "eval_batch_size": config.train.per_device_eval_batch_size,
        }

    def weights(self) -> dict[str, Any]:
        """Hashes of the pretrained weights and of what was trained."""
        manifest = self.checkpoint.manifest
        if self.config.method == "full":
            return {"weights": manifest["model_sha256"]}
        return {"base_sha256": manifest["base_sha256"], "weights": manifest["adapters"][self.adapter]["files"]}


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


def assess(subject: Subject, folder: Path, report: MeasuringReport, with_chips: bool = True) -> Assessment:
    """Measure one subject; what was measured before under the same conditions is not measured again.

    Args:
        subject: what is measured.
        folder: where the finished measurements are kept.
        report: hears how it goes.
        with_chips: over chips and times; else only digitally and with exact weights.

    Raises:
        CheckpointError: the adapter or the base is damaged or another one.
        UsageError: the folder's measurements belong to other conditions, or the device is not defined at a time.
    """
    config = subject.config
    if with_chips:
        check_times(config.hardware, config.drift.times)
    store.verify_adapter(subject.checkpoint, subject.adapter)
    log = CellLog(folder / CELLS, subject.key())
    log.read()
    report.stage(f"evaluating {subject.name}")
    place = _device()
    checkpoint = subject.checkpoint
    built = build_from(checkpoint.folder, config, subject.adapter, checkpoint.manifest, checkpoint.config).to(place)
    evaluator = Evaluator(built.task, built.tokenizer, config.train.per_device_eval_batch_size, place)
    with _held(folder):
        processes.wait_for_all()
        result = None
        if with_chips:
            result = evaluate_drift(built, evaluator, config.drift, subject.adapter, log, report.measured)
            done = {DIGITAL: result.digital, CONVERTERS: result.converters_only}
        else:
            done = measure(built, evaluator, WITHOUT_CHIPS, log, report.measured)
    return Assessment(subject, built.task.metric, done[DIGITAL], done[CONVERTERS], built.task.guess_score(), result)


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
            yield
    else:
        yield


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")
