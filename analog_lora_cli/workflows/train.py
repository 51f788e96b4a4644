"""One training run from a configuration to a complete checkpoint."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.evaluation.drift_grid import check_times
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.log import Metrics
from analog_lora_cli.hardware.kernels.choice import kernels_in_use
from analog_lora_cli.models.build import Built, build
from analog_lora_cli.models.loading import weights_sha256
from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.numerics import arithmetic
from analog_lora_cli.runtime.provenance import environment
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.storage.files import file_sha256, write_json
from analog_lora_cli.storage.manifest import MANIFEST, write_manifest
from analog_lora_cli.tasks import Metric
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.result import TrainingResult
from analog_lora_cli.training.train import train as train_model
from analog_lora_cli.workflows.evaluate import Subject, evaluate
from analog_lora_cli.workflows.observer import RunObserver, SilentObserver, planned_measurements
from analog_lora_cli.workflows.results import write_drift


@dataclass(frozen=True)
class RunResult:
    """The metrics and files that a run ended with."""

    folder: Path
    headline: Metric
    """The task's headline metric."""
    metrics: dict[str, Any]
    """The content of metrics.json."""
    baseline: Metrics
    """Metrics of the baseline, which ignores the input."""
    drift: DriftResult | None


def train(
    config: Config,
    output: Path | str,
    observer: RunObserver | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    drift: bool = True,
) -> RunResult:
    """Train what a configuration says, write the checkpoint, and evaluate what was written, over drift.

    Args:
        config: from `load_config`.
        output: the checkpoint folder; gets every file of a checkpoint, and with `drift` also drift.json, drift.csv
            and drift.png.
        observer: watches the run; None: silent.
        resume: continue what is in the folder; starts afresh if there is nothing.
        overwrite: replace what is in the folder.
        drift: evaluate over drift at the end.

    Raises:
        UsageError: before anything is written.
        AnaloraError: while running.
    """
    folder, observer = Path(output), observer or SilentObserver()
    with processes.together(processes.collective_timeout(config)):
        check_times(config.hardware, config.drift.times)
        store.check_output(folder, config, resume, overwrite)
        finished = resume and (folder / MANIFEST).is_file()
        if drift and not finished:
            fewer = "less with --chips, --times and --limit, none with --no-drift"
            observer.stage(f"training, then {planned_measurements([config.drift])} ({fewer})")
        observer.stage("reading data and model")
        arguments = training_arguments(config, folder / store.TRAINER)
        built = None if finished else build(config)
        if built is not None:
            observer.built(built)
        with store.open_run(folder, config, resume, overwrite):
            processes.wait_for_all()
            if built is not None:
                training = train_model(built, arguments, resume, observer.training)
                if processes.is_main():
                    observer.stage("writing the checkpoint")
                    _store(built, folder, training)
                processes.wait_for_all()
            return _evaluate(config, folder, observer, drift)


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
    files = [store.CONFIG]
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
        "arithmetic": {**arithmetic(), "kernels": kernels_in_use(built.config.hardware)},
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_manifest(folder, manifest)


def _stored_adapter(built: Built, folder: Path) -> dict[str, Any]:
    store.write_adapter(folder, store.FIRST_ADAPTER, built.model, built.frozen_head)
    entry = {
        "task": built.config.task.name,
        "base_sha256": built.base_sha256,
        "files": store.adapter_files(folder, store.FIRST_ADAPTER),
    }
    return {"adapters": {store.FIRST_ADAPTER: entry}, "analog_layers": unchanged_layers(built)}


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


def _evaluate(config: Config, folder: Path, observer: RunObserver, drift: bool) -> RunResult:
    """Evaluate what lies in the folder, as a user who loads it would, and write the results."""
    subject = Subject(store.read_checkpoint(folder), config, store.FIRST_ADAPTER)
    evaluation = evaluate(subject, subject.own_folder, observer, with_chips=drift)
    training = {key: value for key, value in subject.checkpoint.manifest["training"].items() if key != "log"}
    metrics = {"digital": evaluation.digital, "analog": evaluation.converters_only, "train": training}
    if processes.is_main():
        write_json(folder / store.METRICS, metrics)
        if evaluation.drift is not None:
            write_drift(evaluation.drift, subject.own_folder, subject.name)
    return RunResult(folder, evaluation.headline, metrics, evaluation.baseline, evaluation.drift)
