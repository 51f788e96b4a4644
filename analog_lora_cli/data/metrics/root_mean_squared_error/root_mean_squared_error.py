"""Root of the mean squared error."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from analog_lora_cli.tasks.chosen_metrics import compute


class RootMeanSquaredError(evaluate.Metric):
    """Module of `evaluate`; `analog_lora_cli.tasks.class_statistics` has the formula."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation="",
            inputs_description="predictions and references: numbers",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        return {"root_mean_squared_error": compute("root_mean_squared_error", predictions, references)}
