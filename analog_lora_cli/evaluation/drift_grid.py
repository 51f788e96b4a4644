"""Accuracy over time: chips are programmed, aged through all times, and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.drift import DriftConfig
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.times import seconds, time_label
from analog_lora_cli.errors import UsageError
from analog_lora_cli.evaluation.drift_result import Cell, DriftResult
from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.evaluation.log import CellLog, Metrics
from analog_lora_cli.hardware.physics.chip import Chip, undefined_times
from analog_lora_cli.hardware.tile.training_noise import derive_seed
from analog_lora_cli.models.build import Built, place
from analog_lora_cli.runtime import processes
from analog_lora_cli.tasks.base import Task

DIGITAL = "digital"
CONVERTERS = "converters only"
WITHOUT_CHIPS = [DIGITAL, CONVERTERS]
"""The measurements that no chip takes part in: digital first, because the model may not lie on tiles yet."""


def check_times(hardware: HardwareConfig, times: list[str]) -> None:
    """See that the device is defined at all times.

    Raises:
        UsageError: it is not; the message lists the times that it is defined at.
        ConfigError: the device's constants are wrong.
    """
    undefined, defined = undefined_times(hardware, [seconds(label) for label in times])
    if undefined:
        known = ", ".join(time_label(time) for time in defined or [])
        wrong = ", ".join(label for label in times if seconds(label) in undefined)
        raise UsageError(f"drift.times: {wrong}: device {hardware.device} has data for {known} only")


Progress = Callable[[int, int, str, Metrics], None]
"""Called with the number of finished and of all measurements, what was measured, and the metrics."""


def evaluate_drift(
    built: Built,
    evaluator: Evaluator,
    drift: DriftConfig,
    adapter: str,
    log: CellLog | None = None,
    progress: Progress | None = None,
) -> DriftResult:
    """Measure a model over chips and times; several processes share the work.

    Args:
        built: from `build_from`; it is put onto tiles if it is not.
        evaluator: the validation data.
        drift: chips, times and the first chip's seed.
        adapter: name, for the result.
        log: keeps finished measurements; None: nothing is kept.
        progress: told about each measurement.

    Raises:
        UsageError: the device is not defined at a time, or the log belongs to other settings.
    """
    check_times(built.config.hardware, drift.times)
    done = measure(built, evaluator, drift_cells(drift), log, progress)
    return drift_result(built.config, built.task, drift, adapter, done)


def drift_cells(drift: DriftConfig) -> list[str]:
    """Names of all measurements of a drift evaluation, in the order in which they are made."""
    return [*WITHOUT_CHIPS, *(_cell_name(*place) for place in _places(drift))]


def drift_result(config: Config, task: Task, drift: DriftConfig, adapter: str, done: dict[str, Metrics]) -> DriftResult:
    """The result that finished measurements amount to.

    Args:
        config: of the model that was measured.
        task: its task.
        drift: which measurements.
        adapter: name.
        done: the metrics of each measurement of `drift_cells`, by its name.
    """
    cells = [
        Cell(chip, seconds(label), read, done[_cell_name(chip, label, read)]) for chip, label, read in _places(drift)
    ]
    return DriftResult(
        metric=task.metric,
        higher_is_better=task.higher_is_better,
        adapter=adapter,
        digital=done[DIGITAL],
        converters_only=done[CONVERTERS],
        hardware=config.hardware,
        chips=[drift.seed + index for index in range(drift.chips)],
        times=list(drift.times),
        cells=cells,
        reference=config.reference.model_dump(mode="json") if config.reference is not None else None,
    )


def _places(drift: DriftConfig) -> list[tuple[int, str, int]]:
    chips = range(drift.seed, drift.seed + drift.chips)
    return [(chip, label, read) for chip in chips for label in drift.times for read in range(drift.reads)]


def measure(
    built: Built,
    evaluator: Evaluator,
    names: list[str],
    log: CellLog | None = None,
    progress: Progress | None = None,
) -> dict[str, Metrics]:
    """The named measurements: those that are in the log, and the others measured now.

    Args:
        built: from `build_from`; it is put onto tiles once the digital measurement is done.
        evaluator: the validation data.
        names: from `WITHOUT_CHIPS`, or a chip at a time.
        log: keeps finished measurements.
        progress: told about each measurement.

    Returns:
        the metrics of each name, the same on all processes.
    """
    done = log.read() if log is not None else {}
    done = {name: done[name] for name in names if name in done}
    todo = [name for name in names if name not in done]
    processes.wait_for_all()
    if log is not None and todo and processes.is_main():
        log.start()
    processes.wait_for_all()
    chip: Chip | None = None
    measured: dict[str, Metrics] = {}
    for name in _share(todo):
        chip = _set_up(built, name, chip)
        with _noise_of_cell(name):
            measured[name] = evaluator.run(built.model)
        if log is not None:
            log.append(name, measured[name])
        if progress is not None:
            progress(
                min(len(done) + len(measured) * processes.world_size(), len(names)), len(names), name, measured[name]
            )
    built.set_analog(True)
    built.forget_chip()
    for part in processes.gather(measured):
        done |= part
    return done


def _cell_name(chip: int, label: str, read: int) -> str:
    name = f"chip {chip} at {seconds(label):.17g} s"
    return f"{name} read {read}" if read else name


def _share(names: list[str]) -> list[str]:
    """This process's part: whole chips where possible, because programming a chip is the larger work."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.partition(" at ")[0], []).append(name)
    ranked = list(groups.values())[processes.rank() :: processes.world_size()]
    return [name for group in ranked for name in group]


def _set_up(built: Built, name: str, chip: Chip | None) -> Chip | None:
    # A model trained digitally is measured with its own weights, one trained on tiles with the clipped ones.
    if not built.layers and not (name == DIGITAL and not built.config.on_tiles):
        place(built, built.config.hardware)
        built.model.eval()
    built.set_analog(name != DIGITAL)
    if name in WITHOUT_CHIPS:
        built.forget_chip()
        return chip
    words = name.split()
    seed, time = int(words[1]), float(words[3])
    if chip is None or chip.seed != seed:
        chip = Chip(seed, built.layers, built.config.hardware)
    chip.age(time, read=int(words[6]) if len(words) > 6 else 0)
    return chip


@contextmanager
def _noise_of_cell(name: str) -> Iterator[None]:
    """The output noise of a measurement comes from the measurement's name, whatever was drawn before it."""
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(derive_seed("output noise", name))
        yield
