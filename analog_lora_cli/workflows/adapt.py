"""One more adapter for a checkpoint: trained on the weights that its chip holds, stored beside the others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analog_lora_cli.config.load import differences, dump_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.times import seconds
from analog_lora_cli.errors import AnaloraError, UsageError
from analog_lora_cli.models.build import Built, build
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.numerics import numerics
from analog_lora_cli.runtime.provenance import environment
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.storage import layout
from analog_lora_cli.storage.checkpoint import Checkpoint, read_checkpoint
from analog_lora_cli.storage.files import check_writable
from analog_lora_cli.storage.locks import check_free, locked
from analog_lora_cli.storage.manifest import is_adapter_name, write_manifest
from analog_lora_cli.storage.sealed import read_sealed, write_sealed
from analog_lora_cli.storage.workspace import remove_left_overs
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.train import TrainingResult, train
from analog_lora_cli.workflows.train import RunReport, data_hashes, parameter_counts, unchanged_layers

REQUEST = "adaptation.json"
"""In the training folder of an adaptation: what was asked for, so that `--resume` continues that and nothing else."""


@dataclass(frozen=True)
class AgedChip:
    """One chip at one time."""

    seed: int
    at: str
    """Time after programming, with its unit."""

    @property
    def age(self) -> float:
        """Seconds after programming."""
        return seconds(self.at)


@dataclass(frozen=True)
class Adaptation:
    """What an adaptation is to do."""

    checkpoint: Checkpoint
    config: Config
    name: str
    """Of the new adapter."""
    start: str | None = None
    """The adapter to start from; None: a new one."""
    chip: AgedChip | None = None
    """The chip to train on; None: statistical noise, for all chips."""

    @property
    def trainer_folder(self) -> Path:
        """Where the states for `--resume` lie."""
        return self.checkpoint.folder / layout.TRAINER / layout.ADAPTERS / self.name

    @property
    def finished(self) -> bool:
        """Whether the checkpoint holds an adapter of this name."""
        return self.name in self.checkpoint.manifest["adapters"]

    @property
    def unfinished(self) -> bool:
        """Whether an adaptation of this name was begun, perhaps to replace an adapter, and not ended."""
        request = self.trainer_folder / REQUEST
        if not (self.finished and request.is_file()):
            return request.is_file()
        asked, stored = read_sealed(request), self.checkpoint.entry(self.name)
        same = all(asked.get(key) == stored.get(key) for key in self.request())
        return not same or Config.model_validate(asked["config"]) != self.checkpoint.config_of(self.name)

    def request(self) -> dict[str, Any]:
        """What decides the result, for the manifest and for `--resume`."""
        files = None if self.start is None else self.checkpoint.entry(self.start)["files"]
        return {"from": self.start, "from_files": files, "chip": None if self.chip is None else asdict(self.chip)}


def check_adaptation(adaptation: Adaptation, resume: bool, overwrite: bool) -> None:
    """See whether an adaptation can be done, without writing anything.

    Raises:
        UsageError: the name is not one or is taken, the adapter to start from does not fit, or an unfinished
            adaptation is in the way.
        CheckpointError: the adapter to start from is damaged.
    """
    checkpoint, config, name = adaptation.checkpoint, adaptation.config, adaptation.name
    if checkpoint.config.trains_base:
        raise UsageError(
            f"{checkpoint.folder}: method full has trained the weights on the tiles for one task and has no adapters; "
            "adapt works on checkpoints of method lora or digital"
        )
    if not is_adapter_name(name) or name in (layout.ALL, layout.FIRST_ADAPTER):
        taken = f"; {name!r} has a meaning of its own" if name in (layout.ALL, layout.FIRST_ADAPTER) else ""
        raise UsageError(
            f"--adapter {name}: expected a name of at most 64 letters, digits, dots, dashes and underscores{taken}"
        )
    if adaptation.chip is not None and not config.on_tiles:
        raise UsageError("--chip: method digital knows no chips; add --set method=lora")
    if adaptation.start is not None:
        _check_start(adaptation, adaptation.start)
    check_writable(checkpoint.folder)
    if processes.is_main():
        check_free(adaptation.trainer_folder)
    _check_existing(adaptation, resume, overwrite)


def _check_start(adaptation: Adaptation, start: str) -> None:
    store.verify_adapter(adaptation.checkpoint, start)
    old, new = adaptation.checkpoint.config_of(start), adaptation.config
    if old.task.name != new.task.name:
        raise UsageError(
            f"--from {start}: was trained for {old.task.name}, with a head that {new.task.name} cannot use; leave "
            "--from out"
        )
    if new.adapter.variant == "adalora":
        raise UsageError(
            f"--from {start}: AdaLoRA has spread its ranks already and cannot start from there; leave --from out, or "
            "use another adapter.variant from the beginning"
        )
    changed = [
        key for key in ("variant", "rank", "alpha", "targets") if getattr(old.adapter, key) != getattr(new.adapter, key)
    ]
    if changed:
        raise UsageError(
            f"--from {start}: its adapter.{changed[0]} is {getattr(old.adapter, changed[0])!r}, which cannot change; "
            "leave --from out for a new adapter"
        )


def _check_existing(adaptation: Adaptation, resume: bool, overwrite: bool) -> None:
    folder, name = adaptation.checkpoint.folder, adaptation.name
    if adaptation.finished and not (resume or overwrite):
        raise UsageError(
            f"{folder}: has an adapter {name} already; choose another --adapter, or replace it with --overwrite"
        )
    request = adaptation.trainer_folder / REQUEST
    if adaptation.finished and resume and not adaptation.unfinished:
        old_config, old = adaptation.checkpoint.config_of(name), adaptation.checkpoint.entry(name)
    elif request.is_file() and not overwrite:
        old = read_sealed(request)
        old_config = Config.model_validate(old["config"])
        if not resume:
            raise UsageError(
                f"{folder}: holds an unfinished adaptation {name}; continue it with --resume, replace it with "
                "--overwrite, or choose another --adapter"
            )
    else:
        return
    changed = [line for line in differences(old_config, adaptation.config) if not line.startswith("description:")]
    for key, value in adaptation.request().items():
        if old.get(key) != value:
            changed.append(f"--{key.replace('_', ' ')}: {old.get(key)!r} there, {value!r} here")
    if changed:
        shown = "\n".join(f"  - {line}" for line in changed)
        raise UsageError(
            f"{folder}: --resume continues an adaptation as it was started; {name} differs in\n{shown}\n"
            "Use the old values, or another --adapter"
        )


def run_adaptation(
    adaptation: Adaptation, report: RunReport, resume: bool = False, overwrite: bool = False
) -> Checkpoint:
    """Train the adapter and store it; an adapter that is complete is not trained again.

    The checkpoint is left as it was until the adapter is complete.

    Args:
        adaptation: what to do.
        report: hears how it goes.
        resume: continue where an interrupted adaptation stopped.
        overwrite: replace an adapter of the same name.

    Returns:
        the checkpoint with the new adapter.

    Raises:
        UsageError: before anything is written.
        AnaloraError: while running.
    """
    check_adaptation(adaptation, resume, overwrite)
    if processes.is_main():
        remove_left_overs(adaptation.checkpoint.folder)
    if resume and adaptation.finished and not adaptation.unfinished:
        return adaptation.checkpoint
    report.stage("reading data and model")
    arguments = training_arguments(adaptation.config, adaptation.trainer_folder)
    built = build(adaptation.config, adaptation.checkpoint, adaptation.start)
    report.built(built)
    chip = None if adaptation.chip is None else (adaptation.chip.seed, adaptation.chip.age)
    with _open(adaptation, resume):
        processes.wait_for_all()
        training = train(built, arguments, resume, report.training, chip)
        if processes.is_main():
            report.stage(f"writing adapter {adaptation.name}")
            _store(adaptation, built, training)
        processes.wait_for_all()
    return read_checkpoint(adaptation.checkpoint.folder)


@contextmanager
def _open(adaptation: Adaptation, resume: bool) -> Iterator[None]:
    if not processes.is_main():
        yield
        return
    folder = adaptation.trainer_folder
    with locked(folder):
        run_log.keep_in(adaptation.checkpoint.folder)
        if not resume:
            for state in folder.glob("checkpoint-*"):
                shutil.rmtree(state)
        config = adaptation.config.model_dump(mode="json")
        write_sealed(folder / REQUEST, {"config": config, **adaptation.request()})
        yield
        # A complete adapter needs no request; --resume finds it in the manifest.
        (folder / REQUEST).unlink()


def _store(adaptation: Adaptation, built: Built, training: TrainingResult) -> None:
    """Put the adapter into the checkpoint: first its folder, then the manifest that names it."""
    folder, name = adaptation.checkpoint.folder, adaptation.name
    entry = {
        "task": built.config.task.name,
        "base_sha256": built.base_sha256,
        **adaptation.request(),
        "data": data_hashes(built),
        "parameters": parameter_counts(built),
        "training": asdict(training),
        "environment": environment(),
        "numerics": numerics(),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    layers = unchanged_layers(built)
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
        store.write_adapter(folder, name, built.model, built.frozen_head, dump_config(built.config))
        adapters[name] = {**entry, "files": store.adapter_files(folder, name)}
        held = manifest.get("analog_layers") or layers
        write_manifest(folder, {**manifest, "adapters": adapters, "analog_layers": held})
