"""Mean of the classes' F1, weighted by how many samples each has, in percent."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from analog_lora_cli.tasks.chosen_metrics import compute


class F1Weighted(evaluate.Metric):
    """Module of `evaluate`; `analog_lora_cli.tasks.class_statistics` has the formula."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation="",
            inputs_description="predictions and references: class numbers 0, 1, ...",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        return {"f1_weighted": compute("f1_weighted", predictions, references)}
