"""Accuracy over time: chips at several times after programming, measured one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from analog_lora_cli.config.sections.drift import DriftConfig
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.times import seconds, shortest_label
from analog_lora_cli.errors import UsageError
from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.evaluation.log import MeasurementLog, Measurements, Metrics
from analog_lora_cli.evaluation.measurement import DIGITAL, Measurement, without_chips
from analog_lora_cli.hardware.physics.devices import undefined_times
from analog_lora_cli.hardware.seeds import derive_seed, seed_generator
from analog_lora_cli.models.input_ranges import set_input_ranges
from analog_lora_cli.models.loaded import LoadedModel
from analog_lora_cli.models.tiling import AnalogModel, put_on_tiles
from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.ranks import is_main, rank, world_size
from analog_lora_cli.tasks.scores import Scores

Progress = Callable[[int, int, Measurement, Metrics], None]
"""Callback after each measurement: numbers of finished and of all measurements, the measurement, its metrics."""


def check_times(hardware: HardwareConfig, times: list[str], origin: str = "drift.times") -> None:
    """Check that the device has data for all times.

    Args:
        hardware: configuration of the device.
        times: labels of times after programming.
        origin: key or option of the times, for the message.

    Raises:
        UsageError: it has none for one of them; the message lists the times that it has data for.
        ConfigError: the device's constants are wrong.
    """
    undefined, defined = undefined_times(hardware, [seconds(label) for label in times])
    if undefined:
        known = ", ".join(shortest_label(time) for time in defined or [])
        wrong = ", ".join(label for label in times if seconds(label) in undefined)
        raise UsageError(f"{origin}: {wrong}: device {hardware.device} has data for {known} only")


def drift_measurements(drift: DriftConfig) -> list[Measurement]:
    """All measurements of a drift evaluation, in their order."""
    chips = range(drift.seed, drift.seed + drift.chips)
    noise = [Measurement("gaussian", chip, level=level) for chip in chips for level in drift.gaussian]
    return [*without_chips(drift.draws), *_chip_measurements(drift), *noise]


def _chip_measurements(drift: DriftConfig) -> list[Measurement]:
    chips = range(drift.seed, drift.seed + drift.chips)
    return [
        Measurement("chip", chip, seconds(label), read)
        for chip in chips
        for label in drift.times
        for read in range(drift.reads)
    ]


def measure(
    loaded: LoadedModel,
    evaluator: Evaluator,
    measurements: list[Measurement],
    earlier: Measurements | None = None,
    log: MeasurementLog | None = None,
    progress: Progress | None = None,
) -> Measurements:
    """Scores of some measurements, from earlier ones where they are there; several processes share the others.

    Args:
        loaded: the model; it is put onto tiles, with `method: digital` after the digital measurement.
        evaluator: the validation data.
        measurements: measurements, such as those of `drift_measurements`.
        earlier: earlier measurements, on the same model; None: none.
        log: log to which the new ones are added; None: no log.
        progress: callback after each measurement.

    Returns:
        the earlier measurements and the new ones, the same on all processes.
    """
    earlier = earlier or Measurements()
    results = Measurements(dict(earlier.scores), evaluator.truth)
    remaining = [measurement for measurement in measurements if measurement not in results.scores]
    reused = len(measurements) - len(remaining)
    processes.wait_for_all()
    if log is not None and is_main():
        log.start(evaluator.truth)
    processes.wait_for_all()
    bench = _Bench(loaded)
    new: dict[Measurement, Scores] = {}
    for measurement in remaining[rank() :: world_size()]:
        with bench.conditions(measurement), _output_noise_of(measurement):
            scores = new[measurement] = evaluator.run(loaded.module)
        if log is not None:
            log.append(measurement, scores)
        if progress is not None:
            total = len(measurements)
            # The other processes are taken to be as far as this one.
            progress(min(reused + len(new) * world_size(), total), total, measurement, scores.metrics)
    for part in processes.gather(new):
        results.scores |= part
    return results


class _Bench:
    """Gives a model the conditions of one measurement after another; puts it onto tiles once."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._analog: AnalogModel | None = None

    @contextmanager
    def conditions(self, measurement: Measurement) -> Iterator[None]:
        """Give the model the conditions of a measurement, inside the block."""
        # A model trained digitally is measured with its own weights, one trained on tiles with the clipped ones.
        if measurement == DIGITAL and not self.loaded.config.on_tiles and self._analog is None:
            yield
            return
        if self._analog is None:
            self._analog = put_on_tiles(self.loaded, self.loaded.config.hardware)
            set_input_ranges(self._analog)
        if measurement == DIGITAL:
            with self._analog.digital():
                yield
        elif measurement.kind == "converters_only":
            yield
        elif measurement.kind == "gaussian":
            with self._analog.with_gaussian_noise(measurement.chip, measurement.level):
                yield
        else:
            chip = self._analog.program(measurement.chip)
            with self._analog.on_chip(chip, measurement.seconds, measurement.read):
                yield


@contextmanager
def _output_noise_of(measurement: Measurement) -> Iterator[None]:
    """Seed the output noise with the measurement's key, so that it does not depend on what was drawn before."""
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        seed = derive_seed("output noise", measurement.key())
        torch.manual_seed(seed)
        seed_generator(torch.default_generator, seed)
        yield
