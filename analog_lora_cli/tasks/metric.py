"""A metric: its name, its unit, and which direction is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analog_lora_cli.tasks.sample_statistics import SampleStatistic


@dataclass(frozen=True)
class Metric:
    """A score of a task's outputs; tables, drops, worst chips, requirements and plots ask it."""

    name: str
    """Key in metrics.json and drift.json, such as `f1`."""
    unit: str = "%"
    """Unit of the values, for labels; empty for a metric without unit, such as perplexity."""
    higher_is_better: bool = True
    statistic: SampleStatistic | None = None
    """The metric as a function of the samples' scores, for intervals over samples; None: they cover chips only."""
    sample_set: str = "validation"
    """Name of the evaluation set that the metric is measured on."""
    group: str = ""
    """Metrics of which this is one, such as `benchmarks`: a table shows them together. Empty: none."""
    row: str = ""
    """Name in that table; empty: `name`."""
    note: str = ""
    """What that name leaves out: `acc_norm`."""
    average_of: tuple[Metric, ...] = ()
    """The metrics whose mean this is; empty: it is measured itself."""

    @property
    def sample_sets(self) -> list[str]:
        """Names of the evaluation sets that the metric is measured on."""
        parts = [name for part in self.average_of for name in part.sample_sets]
        return list(dict.fromkeys(parts)) or [self.sample_set]

    @property
    def label(self) -> str:
        """Name for headings and axes, with the unit: `f1 (%)`, `perplexity`."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def points(self) -> str:
        """Unit of differences: `points of f1` for a percentage, else the label."""
        return f"points of {self.name}" if self.unit == "%" else self.label

    @property
    def direction(self) -> str:
        """Phrase for captions: `higher is better` or `lower is better`."""
        return "higher is better" if self.higher_is_better else "lower is better"

    def drop(self, reference: float, value: float) -> float:
        """Loss from a reference to a value, in the metric's unit; negative if it is better."""
        return reference - value if self.higher_is_better else value - reference

    def gain(self, before: float, after: float) -> float:
        """Improvement from one value to another, in the metric's unit; negative if it is worse."""
        return self.drop(after, before)

    def worst(self, values: Iterable[float]) -> float:
        """The worst of some values: the smallest where higher is better, else the largest."""
        return min(values) if self.higher_is_better else max(values)
