"""Accuracy over time: chips at several times after programming, measured one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from analog_lora_cli.config.sections.drift import DriftConfig
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.times import seconds, shortest_label
from analog_lora_cli.errors import UsageError
from analog_lora_cli.evaluation.evaluator import Evaluator
from analog_lora_cli.evaluation.log import MeasurementLog, Measurements, Metrics
from analog_lora_cli.evaluation.measurement import DIGITAL, CalibrationCost, Measurement, without_chips
from analog_lora_cli.hardware.physics.devices import undefined_times
from analog_lora_cli.hardware.seeds import seeded_globally
from analog_lora_cli.models.input_ranges import set_input_ranges
from analog_lora_cli.models.loaded import LoadedModel
from analog_lora_cli.models.recalibration import Calibration, Recalibrator
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
    aged = [
        Measurement("chip", chip, seconds(label), read)
        for chip in chips
        for label in drift.times
        for read in range(drift.reads)
    ]
    noise = [Measurement("gaussian", chip, level=level) for chip in chips for level in drift.gaussian]
    # Measurements after one recalibration come one after another, so that it is made once.
    recalibrated = [
        Measurement(
            "recalibrated", chip, seconds(time), read, recalibration=drift.recalibration, calibrated=seconds(calibrated)
        )
        for chip in chips
        for calibrated, time in drift.recalibrated_times
        for read in range(drift.reads)
    ]
    return [*without_chips(drift.draws), *aged, *recalibrated, *noise]


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
    results = Measurements(dict(earlier.scores), evaluator.truth, dict(earlier.calibrations))
    remaining = [measurement for measurement in measurements if measurement not in results.scores]
    reused = len(measurements) - len(remaining)
    processes.wait_for_all()
    if log is not None and is_main():
        log.start(evaluator.truth)
    processes.wait_for_all()
    bench = _Bench(loaded)
    new: dict[Measurement, Scores] = {}
    costs: dict[Measurement, CalibrationCost] = {}
    for measurement in remaining[rank() :: world_size()]:
        with bench.conditions(measurement), seeded_globally("output noise", measurement.key()):
            scores = new[measurement] = evaluator.run(loaded.module)
        if measurement.recalibration is not None:
            costs[measurement] = bench.calibration_cost
        if log is not None:
            log.append(measurement, scores, costs.get(measurement))
        if progress is not None:
            total = len(measurements)
            # The other processes are taken to be as far as this one.
            progress(min(reused + len(new) * world_size(), total), total, measurement, scores.metrics)
    for part, own_costs in processes.gather((new, costs)):
        results.scores |= part
        results.calibrations |= own_costs
    return results


class _Bench:
    """Gives a model the conditions of one measurement after another; puts it onto tiles once."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._analog: AnalogModel | None = None
        self._recalibrator: Recalibrator | None = None
        self._calibration: tuple[int, float, Calibration] | None = None
        """The newest calibration after its chip and time."""

    @property
    def calibration_cost(self) -> CalibrationCost:
        """Cost of the newest calibration."""
        assert self._calibration is not None
        own = self._calibration[2]
        return CalibrationCost(own.seconds, own.parameters, own.ranks, own.explained)

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
            with self._corrected(self._analog, measurement):
                chip = self._analog.program(measurement.chip)
                with self._analog.on_chip(chip, measurement.seconds, measurement.read):
                    yield

    def _corrected(self, model: AnalogModel, measurement: Measurement) -> AbstractContextManager[None]:
        """Recalibrate the chip if the measurement asks for it, and correct the products inside the block."""
        settings = measurement.recalibration
        if settings is None:
            return nullcontext()
        if self._recalibrator is None or self._recalibrator.settings != settings:
            self._recalibrator, self._calibration = Recalibrator(model, settings), None
        moment = measurement.chip, measurement.calibrated
        if self._calibration is None or self._calibration[:2] != moment:
            self._calibration = (*moment, self._recalibrator.calibrate(*moment))
        return self._calibration[2].applied(model)
