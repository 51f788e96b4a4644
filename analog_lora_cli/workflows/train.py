"""One training run from a configuration to a complete checkpoint."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.evaluation.drift_grid import check_times, drift_measurements
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.evaluation.log import Metrics
from analog_lora_cli.hardware.kernels.choice import kernels_in_use
from analog_lora_cli.models.build import TrainingModel, build, load_base
from analog_lora_cli.models.fingerprints import weights_sha256
from analog_lora_cli.models.fragile_layers import fragile_layers
from analog_lora_cli.models.loaded import LoadedModel
from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.libraries import imports_done
from analog_lora_cli.runtime.numerics import numerics
from analog_lora_cli.runtime.provenance import environment
from analog_lora_cli.runtime.ranks import is_main, world_size
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.storage import layout
from analog_lora_cli.storage.files import file_sha256, write_json
from analog_lora_cli.storage.layout import MANIFEST
from analog_lora_cli.storage.manifest import write_manifest
from analog_lora_cli.tasks import Metric, make_task
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.objectives import make_objective
from analog_lora_cli.training.result import TrainingResult
from analog_lora_cli.training.train import train as train_model
from analog_lora_cli.workflows.evaluate import evaluate
from analog_lora_cli.workflows.observer import RunObserver, SilentObserver, planned_measurements
from analog_lora_cli.workflows.reporters import report_drift
from analog_lora_cli.workflows.results import write_drift
from analog_lora_cli.workflows.subject import Subject

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class RunResult:
    """Result of a training: metrics and files."""

    folder: Path
    result: DriftResult
    """The measurements; without chips and times if none were asked for."""
    stored: DriftResult
    """The same, with what drift.json held before."""
    metrics: dict[str, Any]
    """The content of metrics.json."""

    @property
    def headline(self) -> Metric:
        """The task's headline metric."""
        return self.result.headline

    @property
    def baseline(self) -> Metrics:
        """Metrics of answers that ignore the input."""
        return self.result.baseline

    @property
    def drift(self) -> DriftResult | None:
        """The result over chips and times; None if none were asked for."""
        return self.result if self.result.chips else None


def train(
    config: Config,
    output: Path | str,
    observer: RunObserver | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    drift: bool = True,
) -> RunResult:
    """Train as a configuration says, write the checkpoint, and evaluate what was written, over drift.

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
    imports_done()
    with processes.together(processes.collective_timeout(config)):
        check_times(config.hardware, config.drift.times)
        config = settled(config)
        if resume:
            config = store.with_measured_layers(folder, config)
        store.check_output(folder, config, resume, overwrite)
        finished = resume and (folder / MANIFEST).is_file()
        processes.wait_for_all()  # The main process must not write before the others have looked at the folder.
        if drift and not finished:
            fewer = "less with --chips, --times and --limit, none with --no-drift"
            observer.stage(f"training, then {planned_measurements(config.drift.draws, [config.drift])} ({fewer})")
        config = _with_fragile_layers(config, observer)
        observer.stage("reading data and model")
        arguments = training_arguments(config, folder / layout.TRAINER)
        setup = None if finished else prepare(config, estimate=drift)
        if setup is not None:
            observer.built(setup.model)
            if setup.evaluation_seconds is not None:
                count = len(drift_measurements(config.drift))
                observer.expected(count, count * setup.evaluation_seconds / world_size())
        with store.open_run(folder, config, resume, overwrite):
            processes.wait_for_all()
            if setup is not None:
                training = train_model(setup.model, setup.features, arguments, resume, observer.training)
                if is_main():
                    observer.stage("writing the checkpoint")
                    _store(setup.model, folder, training)
                processes.wait_for_all()
            return _evaluate(config, folder, observer, drift)


def _with_fragile_layers(config: Config, observer: RunObserver) -> Config:
    """The configuration with the layers named that `hardware.layers: auto:N` leaves digital."""
    if config.hardware.unmeasured is None:
        return config
    observer.stage(f"measuring which {config.hardware.unmeasured} layers the loss needs most")
    layers = fragile_layers(load_base(config), config.hardware.unmeasured)
    shares = ", ".join(f"{name} ({share:.1%})" for name, share in layers.items())
    observer.stage(f"{config.hardware.layers}: digital stay, with their share of the expected harm: {shares or 'none'}")
    hardware = config.hardware.model_copy(update={"digital_layers": list(layers)})
    return config.model_copy(update={"hardware": hardware})


@dataclass(frozen=True)
class TrainingSetup:
    """A model with the data to train it on."""

    model: TrainingModel
    features: Dataset
    """The objective's training data."""
    evaluation_seconds: float | None
    """About how long the digital model takes for the validation data; None if nobody asked."""


def prepare(
    config: Config, base_checkpoint: store.Checkpoint | None = None, start: str | None = None, estimate: bool = False
) -> TrainingSetup:
    """Read the data, and build the model for a training on them.

    Args:
        config: the configuration.
        base_checkpoint: the checkpoint whose programmed weights a further adapter is trained for; None: a new
            deployment.
        start: the adapter of `base_checkpoint` to start from; None: a new one.
        estimate: estimate how long an evaluation takes, by one batch.

    Raises:
        DataError: the training or the validation data are missing or malformed.
        UsageError, HubError, CheckpointError: as for `load_base` and `build`.
    """
    base = load_base(config, base_checkpoint)
    features = make_objective(config.objective, base.task).training_data(base.processor)
    base.task.note_training_data()
    # An error in the validation data must come before the training, not after it.
    device = processes.own_device()
    evaluator = Evaluator(base.task, base.processor, config.train.per_device_eval_batch_size, device)
    evaluator.check(base.module)
    seconds = _evaluation_seconds(base, evaluator) if estimate else None
    return TrainingSetup(build(base, base_checkpoint, start), features, seconds)


def settled(config: Config) -> Config:
    """A configuration with all that the task finds in its training data filled in, such as the names of classes.

    Raises:
        DataError, HubError, UsageError: the training data cannot be read.
    """
    section = make_task(config.task, config.train.seed).settled()
    return config if section is config.task else config.model_copy(update={"task": section})


def _evaluation_seconds(base: LoadedModel, evaluator: Evaluator) -> float:
    base.module.to(evaluator.device)
    seconds = evaluator.expected_seconds(base.module)
    base.module.to("cpu")  # The parameters of the adapter are drawn on the CPU, so that a seed gives the same ones.
    return seconds


def _store(model: TrainingModel, folder: Path, training: TrainingResult) -> None:
    loaded, config = model.loaded, model.loaded.config
    manifest: dict[str, Any] = {
        "method": config.method,
        "seed": config.train.seed,
        "base": {"name": config.model.name, "revision": config.model.revision},
        "base_sha256": loaded.fingerprint.base_sha256,
        "body_sha256": loaded.fingerprint.body_sha256,
        "base_config": loaded.fingerprint.body_config,
        "adapters": {},
    }
    files = [layout.CONFIG]
    if config.trains_base:
        files += store.write_full_model(folder, loaded.module, loaded.original_state(), model.input_ranges)
        manifest["model_sha256"] = weights_sha256(loaded.module, leave_out=set())
    else:
        manifest |= _stored_adapter(model, folder)
    files += store.write_processor(folder, loaded.processor)
    manifest |= {
        "files": {name: file_sha256(folder / name) for name in files},
        "data": data_hashes(loaded),
        "parameters": parameter_counts(model),
        "placement": model.analog.placement.as_json() if model.analog is not None else None,
        "training": asdict(training),
        "environment": environment(),
        "numerics": {**numerics(), "kernels": kernels_in_use(config.hardware, loaded.module.device)},
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_manifest(folder, manifest)


def _stored_adapter(model: TrainingModel, folder: Path) -> dict[str, Any]:
    loaded = model.loaded
    save = store.saved_by_peft(loaded.module)
    store.write_adapter(folder, layout.FIRST_ADAPTER, save, dict(loaded.head.frozen), model.input_ranges)
    entry = {
        "task": loaded.config.task.name,
        "base_sha256": loaded.fingerprint.base_sha256,
        "files": store.adapter_files(folder, layout.FIRST_ADAPTER),
    }
    return {"adapters": {layout.FIRST_ADAPTER: entry}, "analog_layers": unchanged_layers(model)}


def unchanged_layers(model: TrainingModel) -> dict[str, str]:
    """sha256 of the layers on tiles by name, which must be what was programmed.

    Raises:
        AnaloraError: the training has changed one.
    """
    if model.analog is None:
        return {}
    after = model.analog.analog_sha256()
    if after != model.analog.mapped:
        raise AnaloraError("the weights on the tiles changed during training: this is a bug, please report it")
    return after


def data_hashes(loaded: LoadedModel) -> dict[str, dict[str, str]]:
    """The local data files by role, with the sha256 of each."""
    task = loaded.task
    return {
        role: {"file": str(path), "sha256": task.content_sha256(role, path)} for role, path in task.data_files().items()
    }


def parameter_counts(model: TrainingModel) -> dict[str, int]:
    """Numbers of parameters by kind."""
    loaded = model.loaded
    layers = model.analog.placement.layers if model.analog is not None else []
    return {
        "total": loaded.parameters.total,
        "head": loaded.parameters.head,
        "trainable": loaded.trainable_parameters,
        "on_tiles": sum(layer.parameters for layer in layers if layer.analog),
        "adapters": sum(layer.adapter_parameters for layer in layers),
    }


def _evaluate(config: Config, folder: Path, observer: RunObserver, drift: bool) -> RunResult:
    """Evaluate what lies in the folder, as a user who loads it would, and write the results."""
    subject = Subject(store.read_checkpoint(folder), config, layout.FIRST_ADAPTER)
    evaluation = evaluate(subject, subject.own_folder, observer, with_chips=drift)
    training = {key: value for key, value in subject.checkpoint.manifest["training"].items() if key != "log"}
    metrics = {"digital": evaluation.digital, "analog": evaluation.converters_only, "train": training}
    if is_main():
        write_json(folder / layout.METRICS, metrics)
        if evaluation.drift is not None:
            write_drift(evaluation.stored, subject.own_folder, subject.name)
            report_drift(config, folder, subject.own_folder, subject.name)
    return RunResult(folder, evaluation.result, evaluation.stored, metrics)
