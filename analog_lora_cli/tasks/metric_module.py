"""The metrics that come along as modules of `evaluate`; the folders in `data/metrics` hold one each."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from analog_lora_cli.config.metrics import METRICS
from analog_lora_cli.tasks.chosen_metrics import compute


def metric_module(name: str, description: str | None) -> type[evaluate.Metric]:
    """The class that `evaluate.load` looks for in a module; `tasks.class_statistics` has the formulas.

    Args:
        name: one of `METRICS`.
        description: what the metric is.
    """
    kind, inputs = ("int64", "class numbers 0, 1, ...") if METRICS[name].of_classes else ("float64", "numbers")

    class BuiltIn(evaluate.Metric):
        def _info(self) -> evaluate.MetricInfo:
            number = datasets.Value(kind)
            return evaluate.MetricInfo(
                description=description or "",
                citation="",
                inputs_description=f"predictions and references: {inputs}",
                features=datasets.Features({"predictions": number, "references": number}),
            )

        def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
            return {name: compute(name, predictions, references)}

    return BuiltIn
