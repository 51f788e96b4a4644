"""Drift results with given numbers, for tests of statistics, tables and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.log import Measurements, Metrics
from analog_lora_cli.evaluation.measurement import DIGITAL, Measurement
from analog_lora_cli.tasks import Metric, Scores
from analog_lora_cli.tasks.scores import Columns


def drift_result(
    metrics: Sequence[Metric],
    digital: Metrics,
    chips: Mapping[Measurement, Metrics],
    times: Sequence[str],
    *,
    converters_only: Sequence[Metrics] = (),
    samples: Mapping[Measurement, Columns] | None = None,
    truth: Columns | None = None,
    baseline: Metrics | None = None,
    reference: dict[str, Any] | None = None,
    levels: Sequence[str] = (),
) -> DriftResult:
    """The result of measurements with these metrics; with converters only as digitally, unless said otherwise."""
    samples = samples or {}
    draws = {
        Measurement("converters_only", read=draw): values for draw, values in enumerate(converters_only or [digital])
    }
    scores = {one: Scores(values, samples.get(one, {})) for one, values in {DIGITAL: digital, **draws, **chips}.items()}
    return DriftResult(
        metrics={metric.name: metric for metric in metrics},
        adapter="default",
        hardware=HardwareConfig(),
        chips=sorted({one.chip for one in chips if one.kind == "chip"}),
        times=list(times),
        measured=Measurements(scores, truth or {}),
        baseline=baseline or {},
        reference=reference,
        levels=list(levels),
    )
