"""Requirements on a result: `f1>=85@1y`, `accuracy:worst>=80@10y`, `f1:lower>84.5@30d`, `perplexity:upper<=9@1y`."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from analog_lora_cli.config.times import seconds, time_label
from analog_lora_cli.errors import UsageError
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.training_seeds import SeedGroup
from analog_lora_cli.tasks.metric import Metric

_COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_STATISTICS = ("mean", "worst", "min", "lower", "upper")
_FORM = re.compile(
    r"(?P<metric>\w+)(?::(?P<statistic>\w+))?\s*(?P<comparison>>=|<=|>|<)\s*(?P<value>-?[0-9.]+)\s*@\s*(?P<time>\S+)"
)


@dataclass(frozen=True)
class Requirement:
    """One condition on a drift result."""

    text: str
    metric: Metric
    statistic: str
    """`mean` over chips; `worst` or `min`: the worst chip, the one with the largest value where lower is better;
    `lower`: the pessimistic end of the mean's 95 % confidence interval, the wider of the one over chips and samples and
    the one over chips, so its upper end where lower is better; `upper`: its upper end in any case."""
    comparison: str
    value: float
    time: str

    def measured(self, result: DriftResult | SeedGroup) -> float | None:
        """The statistic that the condition is about; None if it is not known (an end of the interval with one chip)."""
        label = next(label for label in result.times if seconds(label) == seconds(self.time))
        summary = result.summary(self.metric.name, label)
        if self.statistic == "mean":
            return float(summary["mean"])
        if self.statistic in ("worst", "min"):
            return float(summary["worst"])
        interval = result.interval(self.metric.name, label)
        if interval is None:
            return None
        return self.metric.worst(interval) if self.statistic == "lower" else max(interval)

    def holds(self, result: DriftResult | SeedGroup) -> bool:
        """Whether the condition holds; one that cannot be known does not."""
        return self.admits(self.measured(result))

    def admits(self, value: float | None) -> bool:
        """Whether a value of the statistic is allowed; None, not known, is not."""
        return value is not None and bool(_COMPARISONS[self.comparison](value, self.value))


def parse_requirement(text: str, metrics: Sequence[Metric], times: list[str]) -> Requirement:
    """Read a `--require`.

    Args:
        text: condition, `METRIC[:mean|worst|lower|upper] COMPARISON VALUE @ TIME`.
        metrics: metrics of the task.
        times: times that will be measured.

    Raises:
        UsageError: another form, an unknown metric or statistic, or a time that is not measured.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--require {text!r}: expected METRIC>=VALUE@TIME, for instance f1>=85@1y or f1:worst>80@10y")
    by_name = {metric.name: metric for metric in metrics}
    if match["metric"] not in by_name:
        near = get_close_matches(match["metric"], by_name, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"--require {text!r}: the task has no metric {match['metric']!r}, only {', '.join(by_name)}{hint}"
        )
    statistic = match["statistic"] or "mean"
    if statistic not in _STATISTICS:
        raise UsageError(f"--require {text!r}: unknown statistic {statistic!r}; known: {', '.join(_STATISTICS)}")
    try:
        value, label = float(match["value"]), time_label(match["time"])
    except ValueError as error:
        raise UsageError(f"--require {text!r}: {error}") from None
    if seconds(label) not in [seconds(time) for time in times]:
        raise UsageError(f"--require {text!r}: {label} is not measured; add it to --times ({','.join(times)})")
    return Requirement(text, by_name[match["metric"]], statistic, match["comparison"], value, label)
