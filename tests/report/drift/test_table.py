"""The drift table as a person sees them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from analog_lora_cli.config.schema import HardwareConfig
from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.drift_result import Cell, DriftResult
from analog_lora_cli.report.drift.table import drift_table

TIMES = ["0s", "1h", "1d", "1w", "30d", "1y", "10y"]


@pytest.fixture
def result() -> DriftResult:
    names = ("accuracy", "accuracy_mismatched")
    cells = [
        Cell(chip, seconds(time), 0, dict.fromkeys(names, 85.0 - index - chip / 10))
        for chip in range(3)
        for index, time in enumerate(TIMES)
    ]
    plain = dict.fromkeys(names, 86.0)
    reference = {
        "source": "arXiv 2411.17367v4, Table III",
        "digital": {"accuracy": 83.3},
        "drift": {"accuracy": dict.fromkeys(TIMES, 82.8)},
    }
    return DriftResult("accuracy", True, "default", plain, plain, HardwareConfig(), [0, 1, 2], TIMES, cells, reference)


def shown(result: DriftResult, width: int) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(drift_table(result, "run: accuracy over time", 50.0))
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
