"""The tables of adaptations and deployments as a person sees them."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.reference import ReferenceConfig
from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.measurement import Measurement
from analog_lora_cli.report.drift.adaptation import recovery_sentence, recovery_table
from analog_lora_cli.tasks import Metric
from analog_lora_cli.workflows.adaptation import Adaptation, AgedChip
from analog_lora_cli.workflows.evaluate import Evaluation
from analog_lora_cli.workflows.recover import Cost, Recovery
from tests.evaluation.results import drift_result

TIMES = ["0s", "1h", "1d", "1w", "30d", "1y", "10y"]
F1 = Metric("f1")


def measured(level: float, chips: list[int], spread: float = 0.1, metric: Metric = F1) -> DriftResult:
    measurements = {
        Measurement("chip", chip, seconds(time)): {metric.name: level - index - spread * chip}
        for chip in chips
        for index, time in enumerate(TIMES)
    }
    return drift_result([metric], {metric.name: 90.0}, measurements, TIMES)


def part(drift: DriftResult, also: DriftResult | None = None) -> Evaluation:
    return Evaluation(cast(Any, SimpleNamespace(name="run")), drift, drift, also)


def recovery(chip: AgedChip | None = None, metric: Metric = F1, **levels: float) -> Recovery:
    reference = ReferenceConfig(source="arXiv", drift={"f1": {"10y": 74.23}}, before={"f1": {"10y": 60.81}})
    config = Config(reference=reference)
    adaptation = Adaptation(cast(Any, None), config, "a-long-name-of-an-adapter", "default", chip)
    parts = {
        name: part(
            measured(level, [0, 1, 2], metric=metric),
            None if chip is None else measured(level + 1, [chip.seed], metric=metric),
        )
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


def test_where_lower_is_better_less_is_recovered() -> None:
    """At 10y: 90 - 6 on the old hardware, 104 before, 94 after."""
    made = recovery(metric=Metric("perplexity", "", False), after=100.0, before=110.0, original=90.0)
    text = recovery_sentence(made)
    assert text.startswith("Recovered 10.00 perplexity of the 20.00 that were lost at 10y.")
    rows = {line.split()[0]: line.split() for line in shown(recovery_table(made), 80).splitlines() if line.strip()}
    assert rows["10y"][4] == "+10.00"


def test_an_aged_chip_is_compared_with_digital() -> None:
    made = recovery(AgedChip(1, "1y"), after=80.0, before=70.0)
    # Own chip before: 71 - 5 (1y is the sixth time) - 0.1 (chip 1) = 65.9; digital 90.
    assert made.lost("1y") == pytest.approx(90 - 65.9)
    assert "on chip 1 at 1y" in recovery_sentence(made)


def test_higher_cost_for_fewer_points() -> None:
    made = recovery(after=70.5, before=70.0)
    assert replace(made.cost, steps=1).per(0.5)["steps"] == 2
