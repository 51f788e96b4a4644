"""What a result must reach: `f1>=85@1y`, `accuracy:min>=80@10y`, `f1:lower>84.5@30d`."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from difflib import get_close_matches

from analog_lora_cli.config.times import seconds, time_label
from analog_lora_cli.errors import UsageError
from analog_lora_cli.evaluation.drift_result import DriftResult

_COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_STATISTICS = ("mean", "min", "lower")
_FORM = re.compile(
    r"(?P<metric>\w+)(?::(?P<statistic>\w+))?\s*(?P<comparison>>=|<=|>|<)\s*(?P<value>-?[0-9.]+)\s*@\s*(?P<time>\S+)"
)


@dataclass(frozen=True)
class Requirement:
    """One condition on a drift result."""

    text: str
    metric: str
    statistic: str
    """`mean` over chips, `min` over chips, or `lower`: the lower end of the mean's 95 % confidence interval."""
    comparison: str
    value: float
    time: str

    def measured(self, result: DriftResult) -> float | None:
        """The statistic that the condition is about; None if it is not known (`lower` with one chip)."""
        label = next(label for label in result.times if seconds(label) == seconds(self.time))
        summary = result.summary(self.metric, label)
        if self.statistic == "lower":
            return None if summary["ci95"] is None else float(summary["ci95"][0])
        return float(summary[self.statistic])

    def holds(self, result: DriftResult) -> bool:
        """Whether the condition holds; one that cannot be known does not."""
        measured = self.measured(result)
        return measured is not None and bool(_COMPARISONS[self.comparison](measured, self.value))


def parse_requirement(text: str, metrics: tuple[str, ...], times: list[str]) -> Requirement:
    """Read a `--require`.

    Args:
        text: `METRIC[:mean|min|lower] COMPARISON VALUE @ TIME`.
        metrics: metrics of the task.
        times: times that will be measured.

    Raises:
        UsageError: another form, an unknown metric or statistic, or a time that is not measured.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--require {text!r}: expected METRIC>=VALUE@TIME, for instance f1>=85@1y or f1:min>80@10y")
    if match["metric"] not in metrics:
        near = get_close_matches(match["metric"], metrics, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"--require {text!r}: the task has no metric {match['metric']!r}, only {', '.join(metrics)}{hint}"
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
    return Requirement(text, match["metric"], statistic, match["comparison"], value, label)
