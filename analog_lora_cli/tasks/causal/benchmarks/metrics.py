"""The metrics of benchmarks: lm-eval's, the log-likelihood margin, and the average over benchmarks.

The metric with a benchmark's own name is `acc_norm` where lm-eval reports it, else `acc`, else the first that it
reports. Further ones are `NAME_METRIC`, such as `piqa_acc`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analog_lora_cli.tasks.causal.benchmarks.definitions import Definition
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.sample_statistics import PERCENT, Array, Mean, SampleStatistic
from analog_lora_cli.tasks.scores import Columns

FIRST = ("acc_norm", "acc")
"""The metrics that are a benchmark's own, in this order."""
SHARES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "em", "f1", "mcc", "contains", "score")
"""lm-eval's metrics between 0 and 1, which are shown in percent."""
MARGIN = "margin"
BENCHMARKS, MARGINS = "benchmarks", "log-likelihood margins"
"""Groups of metrics that stand in a table together."""


@dataclass(frozen=True)
class ReportedMetric:
    """A metric that lm-eval reports for a benchmark."""

    name: str
    """lm-eval's name, such as `acc_norm`."""
    filter: str
    """lm-eval's filter of the answers; `none` where there is none."""
    metric: Metric

    @property
    def column(self) -> str:
        """Column of its scores of samples."""
        return _joined(self.name, self.filter)


@dataclass(frozen=True)
class PerplexityOfMean(SampleStatistic):
    """exp(-mean) of a column of log-likelihoods."""

    column: str

    def moments(self, columns: Columns) -> Array:
        moments: Array = columns[self.column].astype(np.float64)[:, None]
        return moments

    def value(self, means: Array) -> Array:
        return np.exp(-means[..., 0])


def reported_metrics(definition: Definition) -> list[ReportedMetric]:
    """The metrics that lm-eval reports for a benchmark, that with the benchmark's own name first."""
    entries = _entries(definition)
    names = [name for first in FIRST for name in entries if name == first]
    names += [name for name in entries if name not in FIRST]
    filters = [str(one["name"]) for one in definition.content.get("filter_list") or ()] or ["none"]
    pairs = [(name, one) for one in filters for name in names]
    return [
        ReportedMetric(name, one, _metric(definition, name, one, entries[name], own=index == 0))
        for index, (name, one) in enumerate(pairs)
    ]


def margin_of(definition: Definition) -> Metric | None:
    """The log-likelihood of the right choice minus that of the best wrong one; None without choices."""
    if definition.output_type != "multiple_choice":
        return None
    return Metric(
        f"{definition.label}_{MARGIN}",
        unit="nats",
        statistic=Mean(MARGIN, scale=1.0),
        sample_set=definition.label,
        group=MARGINS,
        row=definition.label,
    )


def benchmark_metrics(definitions: Sequence[Definition]) -> list[Metric]:
    """All metrics of some benchmarks: the averages first, then each one's own, its margin, and what else it reports."""
    reported = [reported_metrics(one) for one in definitions]
    own = [metrics[0].metric for metrics in reported]
    margins = [margin for margin in map(margin_of, definitions) if margin is not None]
    shares = [metric for metric in own if metric.unit == "%" and metric.higher_is_better]
    averages = []
    if len(shares) > 1:
        averages.append(Metric("average", group=BENCHMARKS, average_of=tuple(shares)))
    if len(margins) > 1:
        averages.append(
            Metric(f"average_{MARGIN}", unit="nats", group=MARGINS, row="average", average_of=tuple(margins))
        )
    return [*averages, *own, *margins, *(one.metric for metrics in reported for one in metrics[1:])]


def _entries(definition: Definition) -> dict[str, Mapping[str, object]]:
    """lm-eval's entries of a definition's metrics, by name."""
    listed = definition.content.get("metric_list")
    if listed:
        # A function of the definition's own stands there as PATH.NAME.
        return {str(entry["metric"]).rpartition(".")[2]: entry for entry in listed}
    from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY

    return {name: {} for name in DEFAULT_METRIC_REGISTRY[definition.output_type]}


def _metric(definition: Definition, name: str, one: str, entry: Mapping[str, object], own: bool) -> Metric:
    from lm_eval.api.registry import is_higher_better

    higher = entry.get("higher_is_better", is_higher_better(name))
    aggregation = str(entry.get("aggregation") or _default_aggregation(name))
    column = _joined(name, one)
    share = name in SHARES
    statistics: dict[str, SampleStatistic] = {
        "mean": Mean(column, scale=PERCENT if share else 1.0),
        "perplexity": PerplexityOfMean(column),
    }
    return Metric(
        definition.label if own else _joined(definition.label, name, one),
        unit="%" if share else "",
        higher_is_better=higher is not False,
        statistic=statistics.get(aggregation),
        sample_set=definition.label,
        group=BENCHMARKS if own else "",
        note=name if one == "none" else f"{name}, {one}",
    )


def _default_aggregation(name: str) -> str:
    from lm_eval.api.registry import AGGREGATION_REGISTRY, get_metric_aggregation

    default = get_metric_aggregation(name)
    return next((key for key in ("mean", "perplexity") if AGGREGATION_REGISTRY.get(key) is default), "")


def _joined(*parts: str) -> str:
    """A name of letters, digits and underscores."""
    return "_".join(re.sub(r"\W+", "_", part) for part in parts if part != "none")
