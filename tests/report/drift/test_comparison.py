"""The comparison of methods as a person sees it."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from analog_lora_cli.evaluation.measurement import Measurement
from analog_lora_cli.report.drift.comparison import comparison_table
from analog_lora_cli.tasks import Metric
from analog_lora_cli.workflows.evaluate import Evaluation
from tests.evaluation.results import drift_result


def evaluation(name: str, metric: Metric, values: list[float]) -> Evaluation:
    measured = {Measurement("chip", chip, 0.0): {metric.name: value} for chip, value in enumerate(values)}
    result = drift_result([metric], {metric.name: 9.0}, measured, ["0s"])
    return Evaluation(cast(Any, SimpleNamespace(name=name)), result, result)


@pytest.mark.parametrize("higher", [True, False])
def test_a_difference_is_a_difference_and_the_caption_says_which_sign_is_better(higher: bool) -> None:
    metric = Metric("score", "", higher)
    table = comparison_table([evaluation("a", metric, [10.0, 20.0]), evaluation("b", metric, [11.0, 21.0])])
    text = io.StringIO()
    Console(file=text, width=80).print(table)
    (row,) = [line.split() for line in text.getvalue().splitlines() if line.startswith(" 0s")]
    assert row == ["0s", "15.00", "16.00", "+1.00", "±", "0.00"]
    assert ("higher" if higher else "lower") + " is better" in " ".join(text.getvalue().split())
