"""Result of a drift evaluation: the measurements of one adapter over chips and times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from analog_lora_cli.config.noise_levels import noise_level
from analog_lora_cli.config.recalibration import Recalibration
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.bootstrap import Array, Clusters, simultaneous
from analog_lora_cli.evaluation.log import Measurements, Metrics
from analog_lora_cli.evaluation.measurement import DIGITAL, CalibrationCost, Measurement
from analog_lora_cli.evaluation.statistics import MetricOverChips, Statistics, Summary, interval_of, wider
from analog_lora_cli.hardware.physics.compensation import coarse_read_out
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.scores import PREDICTION, Columns, answers_in, has_answers

FORMAT = 2
DRAWS = "draws"
"""Way of the bootstrap in which the draws of the output noise are resampled."""


@dataclass(frozen=True)
class DriftResult:
    """All measurements of one adapter."""

    metrics: dict[str, Metric]
    """The task's metrics by name, the headline first."""
    adapter: str
    hardware: HardwareConfig
    chips: list[int]
    times: list[str]
    measured: Measurements
    """Digital; with converters only, in several draws; each reading of each chip at each time. Not every chip need be
    measured at every time."""
    baseline: Metrics = field(default_factory=dict)
    """Metrics of answers that ignore the input."""
    training_seeds: list[int] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)
    """Labels of the sizes of static Gaussian weight noise that were measured beside the times."""
    reference: dict[str, Any] | None = None
    """The paper's numbers, as in the configuration; None if there are none."""

    @property
    def headline(self) -> Metric:
        """The metric that tables and plots show first."""
        return next(iter(self.metrics.values()))

    @property
    def metric(self) -> str:
        """Name of the headline metric."""
        return self.headline.name

    @property
    def digital(self) -> Metrics:
        """The same adapter computed digitally: with the clipped weights, or the original ones for `method: digital`."""
        return self.measured.scores[DIGITAL].metrics

    @cached_property
    def draws(self) -> list[Measurement]:
        """The measurements with converters only: on tiles with DAC, ADC and output noise, but exact weights."""
        return [one for one in self.measured.scores if one.kind == "converters_only"]

    @cached_property
    def converters_only(self) -> Metrics:
        """Means over the draws with converters only."""
        return {name: float(np.mean([self._value(draw, name) for draw in self.draws])) for name in self.digital}

    @property
    def measurements(self) -> dict[Measurement, Metrics]:
        """The metrics of each reading of each chip, and of each chip with Gaussian noise."""
        return {one: scores.metrics for one, scores in self.measured.scores.items() if one.has_chip}

    @property
    def conditions(self) -> list[str]:
        """Labels of the conditions that chips were measured under: times, times after a recalibration, sizes of
        Gaussian noise.

        What is asked for at a time can be asked for at each of them.
        """
        return [label for group in self.condition_groups for label in group]

    @property
    def condition_groups(self) -> tuple[list[str], ...]:
        """The conditions by their kind; intervals that hold for all together are those of one kind."""
        return self.times, self.recalibrated, self.levels

    @cached_property
    def recalibrated(self) -> list[str]:
        """Labels of the times after a recalibration: first those after one at the same time."""
        found = {one: label for one, label in self.labels.items() if one.kind == "recalibrated"}
        order = sorted(found, key=lambda one: (one.calibrated != one.seconds, one.calibrated, one.seconds))
        return list(dict.fromkeys(found[one] for one in order))

    @property
    def calibrations(self) -> list[CalibrationCost]:
        """Costs of the recalibrations, each once."""
        by_moment = {(one.chip, one.calibrated): cost for one, cost in self.measured.calibrations.items()}
        return list(by_moment.values())

    @property
    def recalibration(self) -> Recalibration | None:
        """Settings of the recalibrations; None without any."""
        return next((one.recalibration for one in self.measurements if one.recalibration is not None), None)

    @cached_property
    def labels(self) -> dict[Measurement, str]:
        """The measurements over chips, each with the label of its condition."""
        return {one: one.condition(label) for one, label in self.times_and_levels.items()}

    @cached_property
    def times_and_levels(self) -> dict[Measurement, str]:
        """The measurements over chips, each with the label of its time or noise."""
        times = {seconds(label): label for label in self.times}
        levels = {noise_level(label): label for label in self.levels}
        return {one: times[one.seconds] if one.ages else levels[one.level] for one in self.measurements}

    def chips_at(self, label: str) -> list[int]:
        """The chips that were measured at a time, in ascending order."""
        return list(self._readings_at(label))

    def reads_at(self, label: str) -> list[int]:
        """The number of readings of each of these chips."""
        return [len(readings) for readings in self._readings_at(label).values()]

    def over_chips(self, metric: str, label: str) -> MetricOverChips:
        """A metric of every chip at a time, on these samples and on others."""
        return self._rows[metric, label]

    def over_draws(self, metric: str) -> MetricOverChips:
        """A metric with converters only; its rows are draws in place of chips."""
        return replace(self._of_rows(metric, [[draw] for draw in self.draws]), way=DRAWS)

    def values(self, metric: str, label: str) -> list[float]:
        """The metric of every chip at a time, the mean over its readings."""
        return self.summary(metric, label)["values"]

    def summary(self, metric: str, label: str) -> Summary:
        """Statistics of a metric at a time."""
        return self._summaries[metric, label]

    def interval(self, metric: str, label: str) -> list[float] | None:
        """95 % interval of the mean at a time, see `interval_of`; None with one chip."""
        return interval_of(self.summary(metric, label))

    def sizes(self) -> dict[str, dict[str, int]]:
        """Number of samples, and of clusters that they fall into, of each evaluation set."""
        return {
            name: {"samples": len(clusters.of_sample), "clusters": clusters.members}
            for name, clusters in self._clusters.items()
        }

    def digital_interval(self, metric: str) -> list[float] | None:
        """95 % interval of the digital value over samples; None: unknown."""
        return self._of_rows(metric, [[DIGITAL]]).interval_over_samples()

    def without_chip(self, seed: int) -> DriftResult:
        """The same result without one of its chips."""
        scores = {key: scores for key, scores in self.measured.scores.items() if not key.ages or key.chip != seed}
        chips = [chip for chip in self.chips if chip != seed]
        calibrations = {key: cost for key, cost in self.measured.calibrations.items() if key in scores}
        return replace(self, chips=chips, measured=Measurements(scores, self.measured.truth, calibrations))

    def constant_answers(self, measurement: Measurement) -> bool:
        """Whether all predictions of a measurement are the same class, set of classes or value."""
        samples = _of_set(self.measured.scores[measurement].samples, self.headline.sample_set)
        if not has_answers(samples, PREDICTION):
            return False
        predictions = answers_in(samples, PREDICTION)
        return bool((predictions == predictions[0]).all())

    @cached_property
    def warnings(self) -> list[str]:
        """Sentences on what makes the numbers meaningless: no better than the baseline, or always the same answer."""
        found = []
        metric, baseline = self.metric, self.baseline.get(self.metric)
        if baseline is not None:
            value, interval = self.digital[metric], self.digital_interval(metric) or [self.digital[metric]]
            clearly = "" if self.headline.gain(baseline, value) <= 0 else "clearly "
            if self.headline.gain(baseline, self.headline.worst(interval)) <= 0:
                found.append(
                    f"not {clearly}better than the baseline: {metric} is {value:.2f} digitally, {baseline:.2f} without "
                    "looking at the input; what learned nothing loses nothing"
                )
        if self.constant_answers(DIGITAL):
            found.append("one answer only: the digital model gives the same answer to every sample")
        compensation = coarse_read_out(self.hardware)
        if self.chips and compensation is not None:
            found.append(compensation)
        for label in self.conditions:
            chips = self._readings_at(label)
            constant = [chip for chip, readings in chips.items() if all(map(self.constant_answers, readings))]
            if constant and not self.constant_answers(DIGITAL):
                found.append(f"one answer only at {label}: {len(constant)} of {len(chips)} chips")
        return found

    def _value(self, measurement: Measurement, metric: str) -> float:
        return self.measured.scores[measurement].metrics[metric]

    def _readings_at(self, label: str) -> dict[int, list[Measurement]]:
        by_chip: dict[int, list[Measurement]] = defaultdict(list)
        for one in sorted(self.labels, key=lambda one: (one.chip, one.read)):
            if self.labels[one] == label:
                by_chip[one.chip].append(one)
        return dict(by_chip)

    def _of_rows(self, metric: str, rows: Sequence[Sequence[Measurement]]) -> MetricOverChips:
        """A metric of some rows, each with several readings."""
        readings = [[self._value(one, metric) for one in row] for row in rows]
        over_samples = self._over_samples(self.metrics[metric], [one for row in rows for one in row])
        if over_samples is None:
            return MetricOverChips(readings, None)
        ends = np.cumsum([len(row) for row in rows])[:-1]
        by_row = [part.mean(axis=1) for part in np.split(over_samples, ends, axis=1)]
        # Of an average the fewest: their correction is the largest.
        clusters = min(self._clusters[name].count for name in self.metrics[metric].sample_sets)
        return MetricOverChips(readings, np.stack(by_row, axis=1), clusters)

    def _over_samples(self, metric: Metric, readings: list[Measurement]) -> Array | None:
        """(replicates, readings): a metric of each reading on resampled samples; None: unknown."""
        if metric.average_of:
            parts = [self._over_samples(part, readings) for part in metric.average_of]
            known = [part for part in parts if part is not None]
            return np.mean(known, axis=0) if len(known) == len(parts) else None
        clusters = self._clusters.get(metric.sample_set)
        if metric.statistic is None or clusters is None:
            return None
        truth = _of_set(self.measured.truth or {}, metric.sample_set)
        columns = [{**truth, **_of_set(self.measured.scores[one].samples, metric.sample_set)} for one in readings]
        return clusters.resampled(metric.statistic, columns)

    @cached_property
    def _clusters(self) -> dict[str, Clusters]:
        samples = self.measured.scores[DIGITAL].samples
        names = dict.fromkeys(key.partition(".")[0] for key in samples)
        return {
            name: Clusters.of(
                _of_set(self.measured.truth or {}, name), len(next(iter(_of_set(samples, name).values())))
            )
            for name in names
        }

    @cached_property
    def _rows(self) -> dict[tuple[str, str], MetricOverChips]:
        return {
            (metric, label): self._of_rows(metric, list(self._readings_at(label).values()))
            for metric in self.digital
            for label in self.conditions
        }

    @cached_property
    def _summaries(self) -> dict[tuple[str, str], Summary]:
        summaries = {}
        for metric, labels in product(self.digital, self.condition_groups):
            rows = {label: self.over_chips(metric, label) for label in labels}
            together = _together(rows)
            for label, row in rows.items():
                worst = self.metrics[metric].worst(row.values.tolist())
                own = row.statistics()
                every = wider(together[label], own["ci95"]) if together else None
                summaries[metric, label] = Summary(
                    **own, ci95_all_times=every, components=row.components(), worst=worst
                )
        return summaries


def _of_set(columns: Columns, name: str) -> Columns:
    """The columns of one evaluation set, without its name."""
    return {key.partition(".")[2]: values for key, values in columns.items() if key.partition(".")[0] == name}


def _together(rows: dict[str, MetricOverChips]) -> dict[str, list[float]]:
    """Intervals that hold at all times together, by time; none where an interval is unknown."""
    deviations = [row.deviations for row in rows.values() if row.deviations is not None]
    if len(deviations) < len(rows) or not rows:
        return {}
    return dict(zip(rows, simultaneous([row.mean for row in rows.values()], deviations), strict=True))


def paired_gain(before: DriftResult, after: DriftResult, label: str) -> Statistics:
    """Improvement of the second result over the first at a time, on the same chips and samples.

    Returns:
        statistics of the mean gain, chip by chip.
    """
    pair = (before, after) if before.headline.higher_is_better else (after, before)
    return paired_difference(*pair, label)


def paired_difference(first: DriftResult, second: DriftResult, label: str, metric: str | None = None) -> Statistics:
    """The second result minus the first at a time, on the same chips and samples.

    Args:
        first: a result.
        second: another one.
        label: label of a time, or of noise.
        metric: name of the metric; None: the headline.

    Returns:
        statistics of the mean difference, chip by chip.
    """
    metric = metric or first.metric
    return (second.over_chips(metric, label) - first.over_chips(metric, label)).statistics()
