"""Tables of benchmarks: a row each, with intervals, that fit a terminal."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from rich.console import Console

from analog_lora_cli.config.recalibration import Recalibration
from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.drift_result import DriftResult, paired_difference
from analog_lora_cli.evaluation.measurement import DIGITAL, Measurement
from analog_lora_cli.evaluation.training_seeds import SeedGroup
from analog_lora_cli.report.drift.groups import group_tables
from analog_lora_cli.tasks import Metric
from analog_lora_cli.tasks.sample_statistics import Mean
from tests.evaluation.results import drift_result

TIMES = ["0s", "1h", "1d", "1w", "30d", "1y", "10y"]
NAMES = ("arc_challenge", "hellaswag")
OWN = [Metric(name, statistic=Mean("acc"), sample_set=name, group="benchmarks", note="acc_norm") for name in NAMES]
LOSS = Metric("loss", unit="", higher_is_better=False)
METRICS = [LOSS, Metric("average", group="benchmarks", average_of=tuple(OWN)), *OWN]


CALIBRATED = Recalibration(rank=4, tokens=128, reads=2)


def measured(seed: int = 0, questions: int = 400, recalibrated: Sequence[str] = ()) -> DriftResult:
    """Four chips; a question of either benchmark is answered rightly with a probability of 0.6."""
    draw = np.random.default_rng(seed)
    chips = [Measurement("chip", chip, seconds(time)) for chip, time in itertools.product(range(4), TIMES)]
    chips += [
        Measurement("recalibrated", chip, seconds(time), recalibration=CALIBRATED, calibrated=seconds(time))
        for chip, time in itertools.product(range(4), recalibrated)
    ]
    noise = [Measurement("gaussian", chip, level=0.03) for chip in range(4)]
    right = {name: draw.random(questions) < 0.6 for name in NAMES}
    samples = {}
    for one in (DIGITAL, Measurement("converters_only"), *chips, *noise):
        flips = {name: draw.random(questions) < 0.05 for name in NAMES}
        samples[one] = {f"{name}.acc": np.float64(right[name] ^ flips[name]) for name in NAMES}
    metrics = {}
    for one, columns in samples.items():
        values = {name: 100 * float(columns[f"{name}.acc"].mean()) for name in NAMES}
        metrics[one] = {"loss": 1.0, "average": float(np.mean(list(values.values()))), **values}
    digital, exact = metrics.pop(DIGITAL), metrics.pop(Measurement("converters_only"))
    return drift_result(
        METRICS, digital, metrics, TIMES, samples=samples, converters_only=[exact], levels=["3%"]
    )  # fmt: skip


def shown(result: DriftResult | SeedGroup, width: int) -> str:
    text = io.StringIO()
    for table in group_tables(result, "run"):
        Console(file=text, width=width).print(table)
    return text.getvalue()


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("of", [lambda one: one, lambda one: SeedGroup("method", [one, measured(1)])])
def test_a_row_for_each_benchmark_and_their_average_fits(of: object, width: int) -> None:
    result = of(measured())  # type: ignore[operator]
    text = shown(result, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width and "…" not in text
    heading = next(line for line in lines if "digital" in line)
    assert heading.split() == ["digital", "tiles", *TIMES]
    for name in ("average", *NAMES):
        row = next(line for line in lines if line.lstrip().startswith(name)).split()
        assert row[0] == name and len(row) == 1 + 2 + len(TIMES)
        assert row[-1] == f"{result.summary(name, '10y')['mean']:.1f}"
    assert text.count("acc_norm") == 2 * len(NAMES) and "3%" in text and "±" in text


@pytest.mark.parametrize("of", [lambda one: one, lambda one: SeedGroup("method", [one, one])])
def test_recalibrated_benchmarks_have_a_table(of: object) -> None:
    result = of(measured(recalibrated=TIMES))  # type: ignore[operator]
    lines = shown(result, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.split() == ["digital", "tiles", *TIMES] for line in lines) == 2
    assert sum(line.strip().endswith("benchmarks, recalibrated") for line in lines) == 1
    rows = [line.split() for line in lines if line.lstrip().startswith("hellaswag")]
    assert rows[1][-1] == f"{result.summary('hellaswag', '10y recalibrated')['mean']:.1f}"


def test_the_average_has_the_interval_of_independent_benchmarks() -> None:
    result = measured(questions=300)
    half = {name: np.ptp(result.summary(name, "1y")["ci95"]) / 2 for name in ("average", *NAMES)}
    assert half["average"] == pytest.approx(np.hypot(half[NAMES[0]], half[NAMES[1]]) / 2, rel=0.15)
    components = result.summary("average", "1y")["components"]
    assert components["samples"] == pytest.approx(100 * np.sqrt(0.24 / 300 / 2), rel=0.2)


def test_pairing_removes_what_the_questions_have_in_common() -> None:
    result, other = measured(), measured()
    difference = paired_difference(result, other, "1y", "average")
    assert difference["mean"] == 0 and difference["ci95"] == [0, 0]


def test_without_chips_the_numbers_alone() -> None:
    result = measured()
    alone = drift_result(METRICS, result.digital, {}, [])
    text = shown(alone, 80)
    assert "average" in text and "10y" not in text and "±" not in text
