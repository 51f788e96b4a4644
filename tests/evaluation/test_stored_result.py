"""Results that are read back for a report say what the tables said."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analog_lora_cli.config.recalibration import Recalibration
from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.measurement import DIGITAL, Measurement
from analog_lora_cli.evaluation.stored_result import read_drift
from analog_lora_cli.tasks import Metric
from analog_lora_cli.tasks.sample_statistics import Mean
from analog_lora_cli.workflows.results import write_drift
from tests.evaluation.results import drift_result


def test_conditions_and_samples_are_those_of_the_result(tmp_path: Path) -> None:
    day, year = seconds("1d"), seconds("1y")
    own = Recalibration(rank=2, tokens=64, reads=2)
    measurements = [
        *(Measurement("chip", chip, time) for chip in range(2) for time in (day, year)),
        *(Measurement("recalibrated", chip, year, recalibration=own, calibrated=day) for chip in range(2)),
    ]
    samples = {
        one: {"answers.hit": np.array([1.0, 0.0, 1.0])}
        for one in (DIGITAL, Measurement("converters_only"), *measurements)
    }
    metric = Metric("hits", statistic=Mean("hit"), sample_set="answers")
    result = drift_result(
        [metric], {"hits": 66.7}, {one: {"hits": 66.7} for one in measurements}, ["1d", "1y"], samples=samples
    )  # fmt: skip
    write_drift(result, tmp_path, "run")
    stored = read_drift(tmp_path / "drift.json", "run")
    assert [row.label for row in (*stored.times, *stored.further)] == result.conditions
    assert result.conditions[-1] == "1y recalibrated at 1d"
    assert stored.interval_covers == "2 chips and 3 samples; one training seed"
