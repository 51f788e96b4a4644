"""Precision in percent: of class 1 of two, of more the mean over the classes."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from analog_lora_cli.tasks.chosen_metrics import compute


class Precision(evaluate.Metric):
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
        return {"precision": compute("precision", predictions, references)}
