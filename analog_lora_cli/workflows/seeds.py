"""Several trainings of one configuration that differ in their seed, in `DIR/seed-0`, `DIR/seed-1`, ..."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.train import TrainConfig
from analog_lora_cli.errors import BusyError, UsageError
from analog_lora_cli.evaluation.drift_grid import check_times
from analog_lora_cli.evaluation.training_seeds import SeedGroup
from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.ranks import is_main, world_size
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.storage.layout import CONFIG, SEEDS_JSON
from analog_lora_cli.storage.locks import check_free
from analog_lora_cli.storage.seed_folders import seed_folder
from analog_lora_cli.workflows.methods import with_what_is_stored
from analog_lora_cli.workflows.observer import RunObserver, SilentObserver
from analog_lora_cli.workflows.results import write_seeds
from analog_lora_cli.workflows.train import RunResult, settled, train


@dataclass(frozen=True)
class SeedRuns:
    """The trainings of `train_seeds`."""

    folder: Path
    runs: list[RunResult]
    """The finished ones, by seed."""
    busy: list[Path]
    """Folders in which another process was training."""

    @property
    def group(self) -> SeedGroup | None:
        """All trainings as one method; None if some are not finished, or there were no measurements over chips."""
        results = [run.drift for run in self.runs]
        if self.busy or any(result is None for result in results):
            return None
        return SeedGroup(self.folder.resolve().name, [result for result in results if result is not None])


def train_seeds(
    config: Config,
    output: Path | str,
    seeds: int,
    observer: RunObserver | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    drift: bool = True,
) -> SeedRuns:
    """Train a configuration with several seeds, one after the other: `train.seed`, and those that follow it.

    With `resume`, finished trainings are not repeated and interrupted ones go on; several processes that run the same
    command, on one machine or on a shared disk, share the trainings: each takes the next one that nobody works on.

    Args:
        config: from `load_config`.
        output: folder; gets `seed-0`, `seed-1`, ..., each a checkpoint, and with `drift` also seeds.json.
        seeds: number of trainings.
        observer: watches the runs; None: silent.
        resume: as in `train`.
        overwrite: as in `train`.
        drift: evaluate each over drift.

    Raises:
        UsageError: before anything is written.
        AnaloraError: while running.
    """
    folder, observer = Path(output), observer or SilentObserver()
    config = settled(config)
    plan = [
        (seed_folder(folder, index), config.model_copy(update={"train": _seeded(config, index)}))
        for index in range(seeds)
    ]
    _check(folder, plan, resume, overwrite)
    runs, busy = [], []
    if overwrite and is_main():
        (folder / SEEDS_JSON).unlink(missing_ok=True)
    for index, (own_folder, own) in enumerate(plan):
        if resume and _is_busy(own_folder):
            observer.stage(f"{own_folder.name}: another process is training it")
            busy.append(own_folder)
            continue
        observer.stage(f"training seed {own.train.seed} ({index + 1} of {seeds})")
        try:
            runs.append(train(own, own_folder, observer, resume=resume, overwrite=overwrite, drift=drift))
        except BusyError:  # Another process was faster.
            if not resume or world_size() > 1:
                raise
            busy.append(own_folder)
    result = SeedRuns(folder, runs, busy)
    if result.group is not None and is_main():
        write_seeds(with_what_is_stored(result.group, [run.stored for run in runs]), folder)
    return result


def _seeded(config: Config, index: int) -> TrainConfig:
    return config.train.model_copy(update={"seed": config.train.seed + index})


def _check(folder: Path, plan: list[tuple[Path, Config]], resume: bool, overwrite: bool) -> None:
    """Check all folders before the first training begins."""
    check_times(plan[0][1].hardware, plan[0][1].drift.times)
    if (folder / CONFIG).exists():
        raise UsageError(
            f"{folder}: is a checkpoint itself, --seeds needs a folder for several; choose another --output"
        )
    busy = {own_folder: resume and _is_busy(own_folder) for own_folder, _ in plan}
    with processes.together():
        for own_folder, own in plan:
            if not busy[own_folder]:
                known = store.with_measured_layers(own_folder, own) if resume else own
                store.check_output(own_folder, known, resume, overwrite)
        processes.wait_for_all()


def _is_busy(folder: Path) -> bool:
    """Whether another process is training in a folder: the same answer on all processes of this run."""
    with processes.together():
        busy = False
        if is_main():
            try:
                check_free(folder)
            except BusyError:
                busy = True
        return processes.any_of(busy)
