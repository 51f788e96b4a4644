"""One more adapter for a checkpoint: trained on the weights that its chip holds, stored beside the others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from analog_lora_cli.config.load import dump_config
from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.hardware.kernels.choice import kernels_in_use
from analog_lora_cli.models.build import TrainingModel
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.numerics import numerics
from analog_lora_cli.runtime.provenance import environment
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.storage import layout
from analog_lora_cli.storage.checkpoint import Checkpoint, read_checkpoint
from analog_lora_cli.storage.locks import locked
from analog_lora_cli.storage.manifest import write_manifest
from analog_lora_cli.storage.sealed import write_sealed
from analog_lora_cli.storage.workspace import remove_left_overs
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.result import TrainingResult
from analog_lora_cli.training.train import train
from analog_lora_cli.workflows.adaptation import Adaptation, check_adaptation
from analog_lora_cli.workflows.observer import RunObserver
from analog_lora_cli.workflows.train import data_hashes, parameter_counts, prepare, unchanged_layers


def train_adapter(
    adaptation: Adaptation, observer: RunObserver, resume: bool = False, overwrite: bool = False
) -> Checkpoint:
    """Train the adapter and store it; an adapter that is complete is not trained again.

    The checkpoint is left as it was until the adapter is complete.

    Args:
        adaptation: the plan.
        observer: watches it.
        resume: continue where an interrupted adaptation stopped.
        overwrite: replace an adapter of the same name.

    Returns:
        the checkpoint with the new adapter.

    Raises:
        UsageError: before anything is written.
        AnaloraError: while running.
    """
    check_adaptation(adaptation, resume, overwrite)
    processes.wait_for_all()  # The main process must not write before the others have looked at the folder.
    if is_main():
        remove_left_overs(adaptation.checkpoint.folder)
    if resume and adaptation.finished and not adaptation.unfinished:
        return adaptation.checkpoint
    observer.stage("reading data and model")
    arguments = training_arguments(adaptation.config, adaptation.trainer_folder)
    setup = prepare(adaptation.config, adaptation.checkpoint, adaptation.start)
    observer.built(setup.model)
    chip = None if adaptation.chip is None else (adaptation.chip.seed, adaptation.chip.age)
    with _open(adaptation, resume):
        processes.wait_for_all()
        training = train(setup.model, setup.features, arguments, resume, observer.training, chip)
        if is_main():
            observer.stage(f"writing adapter {adaptation.name}")
            _store(adaptation, setup.model, training)
        processes.wait_for_all()
    return read_checkpoint(adaptation.checkpoint.folder)


@contextmanager
def _open(adaptation: Adaptation, resume: bool) -> Iterator[None]:
    if not is_main():
        yield
        return
    folder = adaptation.trainer_folder
    with locked(folder):
        run_log.keep_in(adaptation.checkpoint.folder)
        if not resume:
            for state in folder.glob("checkpoint-*"):
                shutil.rmtree(state)
        config = adaptation.config.model_dump(mode="json")
        write_sealed(folder / layout.REQUEST, {"config": config, **adaptation.request()})
        yield
        # A complete adapter needs no request; --resume finds it in the manifest.
        (folder / layout.REQUEST).unlink()


def _store(adaptation: Adaptation, model: TrainingModel, training: TrainingResult) -> None:
    """Put the adapter into the checkpoint: first its folder, then the manifest that names it."""
    folder, name, loaded = adaptation.checkpoint.folder, adaptation.name, model.loaded
    entry = {
        "task": loaded.config.task.name,
        "base_sha256": loaded.fingerprint.base_sha256,
        **adaptation.request(),
        "data": data_hashes(loaded),
        "parameters": parameter_counts(model),
        "training": asdict(training),
        "environment": environment(),
        "numerics": {**numerics(), "kernels": kernels_in_use(loaded.config.hardware, loaded.module.device)},
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    layers = unchanged_layers(model)
    with locked(folder, wait=True):
        manifest = dict(read_checkpoint(folder).manifest)
        if manifest["adapters"][layout.FIRST_ADAPTER] != adaptation.checkpoint.entry(layout.FIRST_ADAPTER):
            raise AnaloraError(
                f"{folder}: another run has replaced this checkpoint meanwhile; adapter {name} is not stored"
            )
        adapters = {key: value for key, value in manifest["adapters"].items() if key != name}
        if name in manifest["adapters"]:
            write_manifest(folder, {**manifest, "adapters": adapters})
            shutil.rmtree(folder / "drift" / name, ignore_errors=True)
        frozen, ranges = dict(loaded.head.frozen), model.input_ranges
        store.write_adapter(folder, name, loaded.module, frozen, ranges, dump_config(loaded.config))
        adapters[name] = {**entry, "files": store.adapter_files(folder, name)}
        layers = manifest.get("analog_layers") or layers
        write_manifest(folder, {**manifest, "adapters": adapters, "analog_layers": layers})
