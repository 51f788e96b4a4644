"""One training run from a configuration to a complete checkpoint."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.evaluation.drift_grid import Progress, check_times
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.log import Metrics
from analog_lora_cli.models.build import Built, build
from analog_lora_cli.models.loading import weights_sha256
from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.numerics import numerics
from analog_lora_cli.runtime.provenance import environment
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.storage import layout
from analog_lora_cli.storage.files import file_sha256, write_json
from analog_lora_cli.storage.layout import MANIFEST
from analog_lora_cli.storage.manifest import write_manifest
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.callbacks import TrainingReport
from analog_lora_cli.training.train import TrainingResult, train
from analog_lora_cli.workflows.evaluate import Subject, assess


class RunReport(Protocol):
    """Hears how a run goes."""

    training: TrainingReport

    def stage(self, text: str) -> None:
        """A stage begins."""

    def built(self, built: Built) -> None:
        """The model is built: its placement can be shown."""

    @property
    def measured(self) -> Progress:
        """Hears of each measurement."""


@dataclass(frozen=True)
class RunResult:
    """What a run ended with."""

    folder: Path
    task_metric: str
    metrics: dict[str, Any]
    """The content of metrics.json."""
    guess: Metrics
    """What a guesser that ignores the input gets."""
    drift: DriftResult | None


def run_training(
    config: Config, folder: Path, report: RunReport, resume: bool = False, overwrite: bool = False, drift: bool = True
) -> RunResult:
    """Train what the configuration says, write the checkpoint, and evaluate what was written, over drift.

    Args:
        config: the configuration.
        folder: the checkpoint folder.
        report: hears how it goes.
        resume: continue what is in the folder; starts afresh if there is nothing.
        overwrite: replace what is in the folder.
        drift: evaluate over drift at the end.

    Raises:
        UsageError: before anything is written.
        AnaloraError: while running.
    """
    check_times(config.hardware, config.drift.times)
    store.check_output(folder, config, resume, overwrite)
    report.stage("reading data and model")
    arguments = training_arguments(config, folder / layout.TRAINER)
    finished = resume and (folder / MANIFEST).is_file()
    built = None if finished else build(config)
    if built is not None:
        report.built(built)
    with store.open_run(folder, config, resume, overwrite):
        processes.wait_for_all()
        if built is not None:
            training = train(built, arguments, resume, report.training)
            if processes.is_main():
                report.stage("writing the checkpoint")
                _store(built, folder, training)
            processes.wait_for_all()
        return _evaluate(config, folder, report, drift)


def _store(built: Built, folder: Path, training: TrainingResult) -> None:
    config = built.config
    manifest: dict[str, Any] = {
        "method": config.method,
        "seed": config.train.seed,
        "base": {"name": config.model.name, "revision": config.model.revision},
        "base_sha256": built.base_sha256,
        "body_sha256": built.body_sha256,
        "base_config": built.body_config,
        "adapters": {},
    }
    files = [layout.CONFIG]
    if config.trains_base:
        files += store.write_full_model(folder, built.model)
        manifest["model_sha256"] = weights_sha256(built.model, leave_out=set())
    else:
        manifest |= _stored_adapter(built, folder)
    files += store.write_tokenizer(folder, built.tokenizer)
    manifest |= {
        "files": {name: file_sha256(folder / name) for name in files},
        "data": data_hashes(built),
        "parameters": parameter_counts(built),
        "placement": built.placement.as_json() if built.placement is not None else None,
        "training": asdict(training),
        "environment": environment(),
        "numerics": numerics(),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_manifest(folder, manifest)


def _stored_adapter(built: Built, folder: Path) -> dict[str, Any]:
    store.write_adapter(folder, layout.FIRST_ADAPTER, built.model, built.frozen_head)
    entry = {
        "task": built.config.task.name,
        "base_sha256": built.base_sha256,
        "files": store.adapter_files(folder, layout.FIRST_ADAPTER),
    }
    return {"adapters": {layout.FIRST_ADAPTER: entry}, "analog_layers": unchanged_layers(built)}


def unchanged_layers(built: Built) -> dict[str, str]:
    """The hashes of the layers on tiles, after seeing that the training has left them as they were programmed.

    Raises:
        AnaloraError: it has not.
    """
    after = built.analog_sha256()
    if built.layers and after != built.programmed:
        raise AnaloraError("the weights on the tiles changed during training: this is a bug, please report it")
    return after


def data_hashes(built: Built) -> dict[str, dict[str, str]]:
    """The local data files by role, with the sha256 of each."""
    return {role: {"file": str(path), "sha256": file_sha256(path)} for role, path in built.task.data_files().items()}


def parameter_counts(built: Built) -> dict[str, int]:
    """How many parameters there are of each kind."""
    placed = built.placement.layers if built.placement is not None else []
    return {
        "total": built.plain_parameters,
        "head": built.head_parameters,
        "trainable": built.trainable_parameters,
        "on_tiles": sum(layer.parameters for layer in placed if layer.analog),
        "adapters": sum(layer.adapter_parameters for layer in placed),
    }


def _evaluate(config: Config, folder: Path, report: RunReport, drift: bool) -> RunResult:
    """Evaluate what lies in the folder, as a user who loads it would."""
    subject = Subject(store.read_checkpoint(folder), config, layout.FIRST_ADAPTER)
    assessment = assess(subject, subject.own_folder, report, with_chips=drift)
    training = {key: value for key, value in subject.checkpoint.manifest["training"].items() if key != "log"}
    metrics = {"digital": assessment.digital, "analog": assessment.converters_only, "train": training}
    if processes.is_main():
        write_json(folder / layout.METRICS, metrics)
    return RunResult(folder, assessment.metric, metrics, assessment.guess, assessment.drift)
