"""The drift table and plot as a person sees them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from matplotlib import pyplot
from rich.console import Console

from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.measurement import Measurement
from analog_lora_cli.figures.drift import drift_plot
from analog_lora_cli.report.drift.run import untimed_table
from analog_lora_cli.report.drift.table import drift_table
from analog_lora_cli.tasks import Metric
from tests.evaluation.results import drift_result

TIMES = ["0s", "1h", "1d", "1w", "30d", "1y", "10y"]


def two_metrics(reference: dict[str, Any] | None = None) -> DriftResult:
    """Three chips of two metrics of the same values, which fall with each time."""
    names = ("accuracy", "accuracy_mismatched")
    measured = {
        Measurement("chip", chip, seconds(time)): dict.fromkeys(names, 85.0 - index - chip / 10)
        for chip in range(3)
        for index, time in enumerate(TIMES)
    }
    metrics, baseline = [Metric(name) for name in names], {names[0]: 50.0}
    return drift_result(metrics, dict.fromkeys(names, 86.0), measured, TIMES, baseline=baseline, reference=reference)


@pytest.fixture
def result() -> DriftResult:
    return two_metrics(
        {
            "source": "arXiv 2411.17367v4, Table III",
            "digital": {"accuracy": 83.3},
            "drift": {"accuracy": dict.fromkeys(TIMES, 82.8)},
        }
    )


def shown(result: DriftResult, width: int) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(drift_table(result, "run: accuracy over time"))
    return text.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_the_widest_table_is_readable_in_a_pipe(width: int, result: DriftResult) -> None:
    text = shown(result, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "\x1b" not in text
    assert "…" not in text
    (ten_years,) = [line for line in lines if line.startswith(" 10y")]
    assert ten_years.split() == ["10y", "78.90", "0.10", "78.65", "..", "79.15", "78.80", "7.10", "82.80", "78.90"]
    assert "82.80" in ten_years, "the paper's number stands beside the measured one"


def test_one_chip_has_no_spread(result: DriftResult) -> None:
    assert "over 3 chips" in shown(result, 80)
    text = shown(result.without_chip(1).without_chip(2), 80)
    assert "one chip only; std and 95 % interval need at least two" in text and "1 chips" not in text


PERPLEXITY = Metric("perplexity", unit="", higher_is_better=False)


@pytest.mark.parametrize("width", [80, 140])
def test_perplexities_of_a_destroyed_model_fit(width: int) -> None:
    """Thousands need no decimals, and the second metric stays on its line."""
    measured = {
        Measurement("chip", chip, seconds(time)): {"perplexity": (chip + 1) * size, "loss": 7.25}
        for chip in range(3)
        for time, size in {"0s": 50.0, "10y": 5000.0}.items()
    }
    metrics = [PERPLEXITY, Metric("loss", unit="", higher_is_better=False)]
    text = shown(drift_result(metrics, {"perplexity": 27.0, "loss": 3.3}, measured, ["0s", "10y"]), width)
    assert max(map(len, text.splitlines())) <= width
    (ten_years,) = [line for line in text.splitlines() if line.startswith(" 10y")]
    assert ten_years.split() == ["10y", "10000", "5000", "-2421", "..", "22421", "15000", "9973", "7.25"]


@pytest.fixture
def lower_is_better() -> DriftResult:
    """Perplexity 9 digitally; on two chips 10 and 12."""
    measured = {Measurement("chip", chip, 0.0): {"perplexity": 10.0 + 2 * chip} for chip in range(2)}
    return drift_result([PERPLEXITY], {"perplexity": 9.0}, measured, ["0s"])


def test_a_higher_perplexity_is_a_drop_and_the_highest_the_worst(lower_is_better: DriftResult) -> None:
    text = shown(lower_is_better, 100)
    (row,) = [line.split() for line in text.splitlines() if line.startswith(" 0s")]
    assert row[0] == "0s" and row[1] == "11.00" and row[-2:] == ["12.00", "2.00"]
    assert "perplexity: lower is better" in " ".join(text.split())
    (exact,) = [line.split() for line in text.splitlines() if line.startswith(" converters only")]
    assert exact[-1] == "0.00"


def test_the_axis_says_the_unit(result: DriftResult, lower_is_better: DriftResult, tmp_path: Path) -> None:
    for drift, label in ((result, "accuracy (%)"), (lower_is_better, "perplexity")):
        with patch.object(pyplot.Axes, "set_ylabel") as axis:
            drift_plot(drift, tmp_path / "drift.png", "title")
        axis.assert_called_once_with(label)


def test_without_chips_a_higher_perplexity_is_a_drop() -> None:
    text = io.StringIO()
    draws = [{"perplexity": 9.4}, {"perplexity": 9.6}]
    result = drift_result([PERPLEXITY], {"perplexity": 9.0}, {}, [], converters_only=draws)
    Console(file=text, width=80).print(untimed_table("run", result))
    (row,) = [line.split() for line in text.getvalue().splitlines() if line.startswith(" converters only")]
    assert row[-3:] == ["9.50", "0.14", "0.50"]
