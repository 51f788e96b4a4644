"""Tables of metrics that stand together, such as benchmarks: a row each, a column for each condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.table import Table

from analog_lora_cli.evaluation.drift_result import DriftResult, paired_difference
from analog_lora_cli.evaluation.statistics import interval_of
from analog_lora_cli.evaluation.training_seeds import SeedGroup
from analog_lora_cli.report.drift.table import noise_lines, recalibration_lines
from analog_lora_cli.runtime import console
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.workflows.evaluate import Evaluation

COLUMNS = 7
"""Most conditions beside each other, so that a table fits 80 columns."""
INTERVAL = "±: half of the 95 % interval"

Result = DriftResult | SeedGroup
Cell = tuple[float, list[float] | None]
"""A number, and its interval where that is known."""


def group_tables(result: Result, name: str) -> list[Table]:
    """Each group of metrics: digital, with converters only, and the mean at each time and noise.

    Args:
        result: the measurements; without times, the numbers without chips alone.
        name: what was measured, for the titles.
    """
    exact = result.converters_only

    def at(metric: Metric, label: str) -> Cell:
        return float(result.summary(metric.name, label)["mean"]), result.interval(metric.name, label)

    def without_chips(metric: Metric) -> list[Cell]:
        return [(result.digital[metric.name], None), (exact[metric.name], None)]

    return [
        _table(f"{name}: {group}", metrics, ["digital", "tiles"], conditions, without_chips, at)
        for group, metrics in _groups(result).items()
        for conditions in _conditions(result)
    ]


def group_comparison_tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """Each group of metrics: the paired difference of each adapter to the first."""
    results = {one.subject.name: one.drift for one in evaluations if one.drift is not None}
    (first_name, first), *others = results.items()
    return [table for name, other in others for table in _differences(first, other, f"{name} - {first_name}")]


def _differences(first: DriftResult, other: DriftResult, name: str) -> list[Table]:
    def at(metric: Metric, label: str) -> Cell:
        difference = paired_difference(first, other, label, metric.name)
        return difference["mean"], interval_of(difference)

    def digital(metric: Metric) -> list[Cell]:
        return [(other.digital[metric.name] - first.digital[metric.name], None)]

    return [
        _table(f"{name}: {group}", metrics, ["digital"], conditions, digital, at, sign="+")
        for group, metrics in _groups(first).items()
        for conditions in _conditions(first)
    ]


def _groups(result: Result) -> dict[str, list[Metric]]:
    """The metrics of each group that were measured."""
    groups: dict[str, list[Metric]] = {}
    for metric in result.metrics.values():
        if metric.group and metric.name in result.digital:
            groups.setdefault(metric.group, []).append(metric)
    return groups


@dataclass(frozen=True)
class _Conditions:
    """The conditions of one table."""

    labels: Sequence[str] = ()
    caption: Sequence[str] = ()
    """What is to be said about them."""
    kind: str = ""
    """What all have in common: a part of each label that the title says once."""

    @property
    def headings(self) -> list[str]:
        return [label.replace(f" {self.kind}", "") if self.kind else label for label in self.labels]


def _conditions(result: Result) -> Iterator[_Conditions]:
    """The conditions of each table."""
    kinds = [
        _Conditions(result.times),
        _Conditions(result.recalibrated, recalibration_lines(result), "recalibrated"),
        _Conditions(result.levels, noise_lines(result)),
    ]
    for kind in kinds:
        for start in range(0, len(kind.labels), COLUMNS):
            yield replace(kind, labels=kind.labels[start : start + COLUMNS])
    if not result.times:
        yield _Conditions()


def _table(
    title: str,
    metrics: Sequence[Metric],
    firsts: Sequence[str],
    conditions: _Conditions,
    without_chips: Callable[[Metric], list[Cell]],
    at: Callable[[Metric, str], Cell],
    sign: str = "",
) -> Table:
    rows = [[*without_chips(metric), *(at(metric, label) for label in conditions.labels)] for metric in metrics]
    known = any(interval is not None for row in rows for _, interval in row)
    lines = [
        *([INTERVAL] if known else []),
        *(["tiles: with converters only, no chip"] if "tiles" in firsts else []),
        *sorted({f"{metric.unit}: {metric.direction}" for metric in metrics if metric.unit}),
        *sorted({f"{_name(metric)}: {metric.direction}" for metric in metrics if not metric.unit}),
        *conditions.caption,
    ]
    title = f"{title}, {conditions.kind}" if conditions.kind else title
    headings = ("", *firsts, *conditions.headings)
    table = console.table(title, *headings, caption="\n".join(lines), padding=(0, 1, 0, 0))
    table.columns[0].no_wrap = True
    for metric, row in zip(metrics, rows, strict=True):
        digits = 1 if metric.unit == "%" else 2
        note = f"\n [dim]{metric.note}[/dim]" if metric.note else ""
        cells = [f"{value:{sign}.{digits}f}{_half(interval, digits)}" for value, interval in row]
        table.add_row(f"{_name(metric)}{note}", *cells)
    return table


def _name(metric: Metric) -> str:
    return metric.row or metric.name


def _half(interval: list[float] | None, digits: int) -> str:
    return "" if interval is None else f"\n[dim]±{(interval[1] - interval[0]) / 2:.{digits}f}[/dim]"
