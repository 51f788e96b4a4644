"""The files of results as scripts read them."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.workflows.adaptation import AgedChip
from analog_lora_cli.workflows.results import ParameterCount, drift_csv, write_drift, write_recovery
from tests.report.drift.test_adaptation import recovery
from tests.report.drift.test_table import two_metrics


@pytest.fixture
def result() -> DriftResult:
    return two_metrics()


def test_csv_has_every_measurement_once(result: DriftResult) -> None:
    rows = list(csv.DictReader(io.StringIO(drift_csv(result))))
    assert len(rows) == 2 * (2 + 3 * 7)
    year = [row for row in rows if row["time"] == "1y" and row["metric"] == "accuracy"]
    assert [float(row["value"]) for row in year] == pytest.approx([80.0, 79.9, 79.8])
    assert {row["seconds"] for row in year} == {"31536000"}


def test_drift_files_are_written_whole(result: DriftResult, tmp_path: Path) -> None:
    write_drift(result, tmp_path, "title")
    assert {path.name for path in tmp_path.iterdir()} == {"drift.json", "drift.csv", "drift.png", "samples.npz"}
    assert (tmp_path / "drift.png").stat().st_size > 20_000


def test_an_adaptations_files(tmp_path: Path) -> None:
    made = recovery(AgedChip(7, "1y"), after=80.0, before=70.0)
    made = replace(made, adaptation=replace(made.adaptation, start=None))
    write_recovery(made, tmp_path)
    assert (tmp_path / "adaptation.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "adaptation.json").is_file() and (tmp_path / "drift.json").is_file()
    assert (tmp_path / "before" / "drift.csv").is_file()


def test_parameters_are_counted_as_the_paper_does() -> None:
    """Eight GLUE tasks: 8 x 1.6 + 20.4 + 4.9 = 38.1 M against 8 x 20.4 + 4.9 M."""
    count = ParameterCount(adapters=8, on_tiles=20_400_000, digital=4_900_000, trained=8 * 1_600_000, heads=0)
    assert count.deployment == 38_100_000
    assert count.separate == 168_100_000
