"""One more adapter of a checkpoint, stored beside the others in one step."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from analog_lora_cli.config.load import dump_config
from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.hardware.kernels.choice import kernels_in_use
from analog_lora_cli.models.build import TrainingModel
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime.numerics import numerics
from analog_lora_cli.runtime.provenance import environment
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.storage import layout
from analog_lora_cli.storage.checkpoint import read_checkpoint
from analog_lora_cli.storage.locks import locked
from analog_lora_cli.storage.manifest import write_manifest
from analog_lora_cli.storage.sealed import write_sealed
from analog_lora_cli.training.result import TrainingResult
from analog_lora_cli.workflows.adaptation import Adaptation
from analog_lora_cli.workflows.train import data_hashes, unchanged_layers


@contextmanager
def open_adaptation(adaptation: Adaptation, resume: bool) -> Iterator[None]:
    """Lock an adaptation's folder and record the request inside the block; only the main process writes.

    Args:
        adaptation: the plan, checked.
        resume: keep saved states that are there.
    """
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


@dataclass(frozen=True)
class NewAdapter:
    """An adapter that is to be stored."""

    save: Callable[[Path], object]
    """Writes its PEFT folder."""
    parameters: dict[str, int]
    """Numbers of parameters by kind, for the manifest."""
    details: dict[str, object] = field(default_factory=dict)
    """Further entries of the manifest."""


def store_adapter(adaptation: Adaptation, model: TrainingModel, training: TrainingResult, new: NewAdapter) -> None:
    """Put an adapter into the checkpoint: first its folder, then the manifest that names it.

    Args:
        adaptation: the plan.
        model: the model that it belongs to.
        training: how it came about.
        new: the adapter.
    """
    folder, name, loaded = adaptation.checkpoint.folder, adaptation.name, model.loaded
    entry = {
        "task": loaded.config.task.name,
        "base_sha256": loaded.fingerprint.base_sha256,
        **adaptation.request(),
        "data": data_hashes(loaded),
        "parameters": new.parameters,
        "training": asdict(training),
        **new.details,
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
        store.write_adapter(folder, name, new.save, frozen, ranges, dump_config(loaded.config))
        adapters[name] = {**entry, "files": store.adapter_files(folder, name)}
        layers = manifest.get("analog_layers") or layers
        write_manifest(folder, {**manifest, "adapters": adapters, "analog_layers": layers})
