"""The metrics that come along as modules of `evaluate`; the folders in `data/metrics` hold one each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from analog_lora_cli.config.metrics import METRICS, Compared
from analog_lora_cli.tasks.chosen_metrics import MULTI_LABEL, TAGS, compute
from analog_lora_cli.tasks.token_classification.metrics import compute_of_tags

_FORMS: dict[Compared, tuple[Any, str]] = {
    "classes": (datasets.Value("int64"), "class numbers 0, 1, ..."),
    "sets of classes": (datasets.List(datasets.Value("int64")), "0 or 1 for each class"),
    "tags": (datasets.List(datasets.Value("string")), "names of the tags of each sentence"),
    "numbers": (datasets.Value("float64"), "numbers"),
}
_CONFIGURATIONS: dict[str | None, Compared] = {MULTI_LABEL: "sets of classes", TAGS: "tags"}


def metric_module(name: str, description: str | None) -> type[evaluate.Metric]:
    """The class that `evaluate.load` looks for in a module; `tasks.class_statistics` has the formulas.

    Args:
        name: one of `METRICS`.
        description: what the metric is.
    """
    compares = METRICS[name].compares

    class BuiltIn(evaluate.Metric):
        def _info(self) -> evaluate.MetricInfo:
            one, inputs = _FORMS[self._compared]
            return evaluate.MetricInfo(
                description=description or "",
                citation="",
                inputs_description=f"predictions and references: {inputs}",
                features=datasets.Features({"predictions": one, "references": one}),
            )

        @property
        def _compared(self) -> Compared:
            return _CONFIGURATIONS.get(self.config_name, compares[0])

        def _compute(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
            if self._compared == "tags":
                return {name: compute_of_tags(name, predictions, references)}
            return {name: compute(name, self._compared, np.asarray(predictions), np.asarray(references))}

    return BuiltIn
