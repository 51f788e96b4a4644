"""The drift table, CSV and plot as a person sees them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.drift_result import Cell, DriftResult
from analog_lora_cli.report.drift.table import drift_csv, drift_table, write_drift

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


def test_csv_has_every_measurement_once(result: DriftResult) -> None:
    rows = list(csv.DictReader(io.StringIO(drift_csv(result))))
    assert len(rows) == 2 * (2 + 3 * 7)
    year = [row for row in rows if row["time"] == "1y" and row["metric"] == "accuracy"]
    assert [float(row["value"]) for row in year] == pytest.approx([80.0, 79.9, 79.8])
    assert {row["seconds"] for row in year} == {"31536000"}


def test_files_are_written_whole(result: DriftResult, tmp_path: Path) -> None:
    write_drift(result, tmp_path, "title")
    assert {path.name for path in tmp_path.iterdir()} == {"drift.json", "drift.csv", "drift.png"}
    assert (tmp_path / "drift.png").stat().st_size > 20_000
