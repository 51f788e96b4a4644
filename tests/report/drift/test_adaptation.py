"""The tables of adaptations and deployments as a person sees them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.sections.reference import ReferenceConfig
from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.drift_result import Cell, DriftResult
from analog_lora_cli.report.drift.adaptation import recovery_sentence, recovery_table
from analog_lora_cli.report.drift.deployment import ParameterCount
from analog_lora_cli.workflows.adapt import Adaptation, AgedChip
from analog_lora_cli.workflows.evaluate import Assessment
from analog_lora_cli.workflows.recover import Cost, Recovery

TIMES = ["0s", "1h", "1d", "1w", "30d", "1y", "10y"]
Measured = Callable[..., DriftResult]


def measured(level: float, chips: list[int], spread: float = 0.1) -> DriftResult:
    cells = [
        Cell(chip, seconds(time), 0, {"f1": level - index - spread * chip})
        for chip in chips
        for index, time in enumerate(TIMES)
    ]
    exact = {"f1": 90.0}
    return DriftResult("f1", True, "default", exact, exact, HardwareConfig(), chips, TIMES, cells, None)


def part(drift: DriftResult, also: DriftResult | None = None) -> Assessment:
    return Assessment(cast(Any, SimpleNamespace(name="run")), "f1", drift.digital, drift.digital, {}, drift, also)


def recovery(chip: AgedChip | None = None, **levels: float) -> Recovery:
    reference = ReferenceConfig(source="arXiv", drift={"f1": {"10y": 74.23}}, before={"f1": {"10y": 60.81}})
    config = Config(reference=reference)
    adaptation = Adaptation(cast(Any, None), config, "a-long-name-of-an-adapter", "default", chip)
    parts = {
        name: part(measured(level, [0, 1, 2]), None if chip is None else measured(level + 1, [chip.seed]))
        for name, level in levels.items()
    }
    return Recovery(adaptation, parts["after"], Cost(500, 60, 90.0, 74000), parts["before"], parts.get("original"))


def shown(made: object, width: int) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(made)
    return text.getvalue()


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("chip", [None, AgedChip(1, "1y")], ids=["hardware", "chip"])
def test_the_tables_are_readable_in_a_pipe(chip: AgedChip | None, width: int) -> None:
    levels = {"after": 80.0, "before": 70.0} | ({"original": 85.0} if chip is None else {})
    text = shown(recovery_table(recovery(chip, **levels)), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    if chip is None:
        assert rows["10y"] == ["10y", "78.90", "63.90", "73.90", "+10.00", "±", "0.00", "60.81", "74.23"]
        assert rows["digital"][1:4] == ["90.00"] * 3
    else:
        # Chip 1 was trained on: the means of the others are those of chips 0 and 2.
        assert rows[">"] == [">", "1y", "65.90", "75.90", "+10.00", "64.90", "74.90", "+10.00", "±", "0.00"]


def test_the_sentence_says_what_a_point_costs() -> None:
    text = recovery_sentence(recovery(after=80.0, before=70.0, original=85.0))
    assert text.startswith("Recovered 10.00 points of f1 of the 15.00 that were lost at 10y.")
    assert "for each point 50 samples, 6.0 steps, 9.0 s, 7,400 parameters" in text
    assert recovery_sentence(recovery(after=69.0, before=70.0)).startswith("Nothing is recovered at 10y: f1 -1.00")


def test_an_aged_chip_is_compared_with_digital() -> None:
    made = recovery(AgedChip(1, "1y"), after=80.0, before=70.0)
    # Own chip before: 71 - 5 (1y is the sixth time) - 0.1 (chip 1) = 65.9; digital 90.
    assert made.lost("1y") == pytest.approx(90 - 65.9)
    assert "on chip 1 at 1y" in recovery_sentence(made)


def test_higher_cost_for_fewer_points() -> None:
    made = recovery(after=70.5, before=70.0)
    assert replace(made.cost, steps=1).per(0.5)["steps"] == 2


def test_parameters_are_counted_as_the_paper_does() -> None:
    """Eight GLUE tasks: 8 x 1.6 + 20.4 + 4.9 = 38.1 M against 8 x 20.4 + 4.9 M."""
    count = ParameterCount(adapters=8, on_tiles=20_400_000, digital=4_900_000, trained=8 * 1_600_000, heads=0)
    assert count.deployment == 38_100_000
    assert count.separate == 168_100_000


def test_files_appear_in_the_adapters_folder(tmp_path: Path) -> None:
    from analog_lora_cli.report.drift.adaptation import _write_recovery

    made = recovery(AgedChip(7, "1y"), after=80.0, before=70.0)
    made = replace(made, adaptation=replace(made.adaptation, start=None))
    _write_recovery(made, tmp_path)
    assert (tmp_path / "adaptation.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "before" / "drift.csv").is_file()
