"""Accuracy over time: chips are programmed, aged through all times, and measured."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analog_lora_cli.config.schema import Config, DriftConfig, HardwareConfig
from analog_lora_cli.config.times import seconds, time_label
from analog_lora_cli.engine import processes
from analog_lora_cli.engine.build import Built, place
from analog_lora_cli.engine.evaluation import Evaluator
from analog_lora_cli.errors import UsageError
from analog_lora_cli.hardware.chip import Chip, undefined_times
from analog_lora_cli.hardware.training_noise import derive_seed

FORMAT = 1
DIGITAL = "digital"
CONVERTERS = "converters only"
WITHOUT_CHIPS = [DIGITAL, CONVERTERS]
"""The measurements that no chip takes part in: digital first, because the model may not lie on tiles yet."""
Metrics = dict[str, float]


@dataclass(frozen=True)
class Cell:
    """One measurement: one chip at one time."""

    chip: int
    seconds: float
    metrics: Metrics


@dataclass(frozen=True)
class DriftResult:
    """All measurements of one adapter."""

    metric: str
    higher_is_better: bool
    adapter: str
    digital: Metrics
    """The same adapter computed digitally: with the clipped weights, or the original ones for `method: digital`."""
    converters_only: Metrics
    """On tiles with DAC, ADC and output noise, but exact weights: no programming noise, no drift."""
    hardware: HardwareConfig
    chips: list[int]
    times: list[str]
    cells: list[Cell]
    reference: dict[str, Any] | None

    def values(self, metric: str, label: str) -> list[float]:
        """The metric of every chip at a time, in the order of `chips`."""
        at = {cell.chip: cell.metrics[metric] for cell in self.cells if cell.seconds == seconds(label)}
        return [at[chip] for chip in self.chips]

    def summary(self, metric: str, label: str) -> dict[str, Any]:
        """Mean, standard deviation between chips, 95 % confidence interval of the mean, minimum, and all values."""
        return summarize(self.values(metric, label))

    def as_json(self) -> dict[str, Any]:
        """The content of drift.json."""
        return {
            "format": FORMAT,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "adapter": self.adapter,
            "digital": self.digital,
            "converters_only": self.converters_only,
            "hardware": self.hardware.model_dump(mode="json"),
            "chips": self.chips,
            "times": [
                {
                    "label": label,
                    "seconds": seconds(label),
                    "metrics": {name: self.summary(name, label) for name in self.digital},
                }
                for label in self.times
            ],
            "reference": self.reference,
        }


def summarize(values: list[float]) -> dict[str, Any]:
    """Statistics over chips.

    The standard deviation is the sample's (n - 1); the confidence interval is Student's t on the mean. With one chip
    neither is known, and both are null.
    """
    mean = float(np.mean(values))
    summary: dict[str, Any] = {"mean": mean, "std": None, "ci95": None, "min": min(values), "values": values}
    if len(values) > 1:
        from scipy.stats import t

        std = float(np.std(values, ddof=1))
        half = float(t.ppf(0.975, len(values) - 1)) * std / math.sqrt(len(values))
        summary |= {"std": std, "ci95": [mean - half, mean + half]}
    return summary


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


class CellLog:
    """Finished measurements on disk, one JSON line each, so that an interrupted evaluation can go on.

    Args:
        path: the file.
        key: what the measurements depend on; those of another key are never used.
    """

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self.path = path
        self.key = key

    def read(self) -> dict[str, Metrics]:
        """All finished measurements by their name; a line cut off by a kill is left out."""
        if not self.path.is_file():
            return {}
        lines = self.path.read_bytes().split(b"\n")
        if not lines[0] or _parsed(lines[0]) != self.key:
            raise UsageError(
                f"{self.path.parent}: holds measurements of another configuration "
                f"({_difference(_parsed(lines[0]), self.key)}); use --overwrite or another folder"
            )
        cells = {}
        for line in lines[1:]:
            entry = _parsed(line)
            if isinstance(entry, dict) and entry.keys() >= {"cell", "metrics"}:
                cells[entry["cell"]] = entry["metrics"]
        return cells

    def start(self) -> None:
        """Make the file ready for `append`: once, by one process, before any of them appends."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.path.read_bytes() if self.path.is_file() else b""
        if not whole:
            self._write(json.dumps(self.key))
        elif not whole.endswith(b"\n"):
            self._write("")

    def append(self, cell: str, metrics: Metrics) -> None:
        """Add one measurement; it is on disk when this returns. Several processes may do so."""
        self._write(json.dumps({"cell": cell, "metrics": metrics}))

    def _write(self, line: str) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # One call a line: appends of several processes do not mix.
            os.write(descriptor, line.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _difference(old: Any, new: dict[str, Any]) -> str:
    if not isinstance(old, dict):
        return "its first line is damaged"
    flat_old, flat_new = _flat(old), _flat(new)
    keys = [key for key in flat_old.keys() | flat_new.keys() if flat_old.get(key) != flat_new.get(key)]
    shown = sorted(keys)[:3]
    return "; ".join(f"{key}: {flat_old.get(key)!r} there, {flat_new.get(key)!r} here" for key in shown)


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return flat


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
    config: Config = built.config
    check_times(config.hardware, drift.times)
    chips = [drift.seed + index for index in range(drift.chips)]
    names = [*WITHOUT_CHIPS, *(_cell_name(chip, label) for chip in chips for label in drift.times)]
    done = measure(built, evaluator, names, log, progress)
    cells = [Cell(c, seconds(label), done[_cell_name(c, label)]) for c in chips for label in drift.times]
    reference = config.reference.model_dump(mode="json") if config.reference is not None else None
    return DriftResult(
        metric=built.task.metric,
        higher_is_better=built.task.higher_is_better,
        adapter=adapter,
        digital=done[DIGITAL],
        converters_only=done[CONVERTERS],
        hardware=config.hardware,
        chips=chips,
        times=list(drift.times),
        cells=cells,
        reference=reference,
    )


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
            progress(min(len(done) + len(measured) * processes.world_size(), len(names)), len(names), name, measured[name])
    built.set_analog(True)
    for layer in built.layers.values():
        layer.state = None
    for part in processes.gather(measured):
        done |= part
    return done


def _cell_name(chip: int, label: str) -> str:
    return f"chip {chip} at {seconds(label):.17g} s"


def _share(names: list[str]) -> list[str]:
    """This process's part: whole chips where possible, because programming a chip is the larger work."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.partition(" at ")[0], []).append(name)
    ranked = list(groups.values())[processes.rank() :: processes.world_size()]
    return [name for group in ranked for name in group]


def _set_up(built: Built, name: str, chip: Chip | None) -> Chip | None:
    # A model trained digitally is measured with its own weights, one trained on tiles with the clipped ones.
    if not built.layers and not (name == DIGITAL and built.config.method == "digital"):
        place(built, built.config.hardware)
        built.model.eval()
    built.set_analog(name != DIGITAL)
    if name in WITHOUT_CHIPS:
        for layer in built.layers.values():
            layer.state = None
        return chip
    words = name.split()
    seed, time = int(words[1]), float(words[3])
    if chip is None or chip.seed != seed:
        chip = Chip(seed, built.layers, built.config.hardware)
    chip.age(time)
    return chip


class _noise_of_cell:
    """The output noise of a measurement comes from the measurement's name, whatever was drawn before it."""

    def __init__(self, name: str) -> None:
        self.seed = derive_seed("output noise", name)

    def __enter__(self) -> None:
        self.devices = list(range(torch.cuda.device_count()))
        self.fork = torch.random.fork_rng(devices=self.devices)
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: Any) -> None:
        self.fork.__exit__(*error)
