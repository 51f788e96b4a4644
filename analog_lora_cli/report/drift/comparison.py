"""Several adapters on the same chips: one table with paired differences."""

from __future__ import annotations

from rich.table import Table

from analog_lora_cli.evaluation.drift_result import paired_difference
from analog_lora_cli.evaluation.statistics import Statistics, interval_of
from analog_lora_cli.report.drift.table import condition_names, coverage, noise_lines, warning_lines
from analog_lora_cli.runtime import console
from analog_lora_cli.workflows.evaluate import Evaluation

NUMBERS = {2: "two", 3: "three", 4: "four"}


def comparison_table(evaluations: list[Evaluation]) -> Table:
    """The mean of each adapter at each time, and the paired difference of each to the first."""
    results = [one.drift for one in evaluations if one.drift is not None]
    first = results[0]
    metric = first.metric
    names = [one.subject.name for one in evaluations]
    caption = [
        *dict.fromkeys(line for result in results for line in warning_lines(result)),
        f"mean over the chips; {metric}: {first.headline.direction}",
        f"differences: mean ± half its 95 % interval over the same {coverage(first)}",
        "one training seed each: they tell these adapters apart, not their methods",
        *noise_lines(first),
    ]
    table = console.table(
        f"{metric} over time, {NUMBERS.get(len(results), len(results))} adapters on the same chips",
        "",
        *names,
        *(f"{name} - {names[0]}" for name in names[1:]),
        caption="\n".join(caption),
    )
    for column in table.columns[1:]:
        column.no_wrap = False
    for label, values in (
        ("digital", [result.digital[metric] for result in results]),
        ("converters only", [result.converters_only[metric] for result in results]),
    ):
        table.add_row(label, *(f"{v:.2f}" for v in values), *(f"{v - values[0]:+.2f}" for v in values[1:]))
    table.add_section()
    for label, name in zip(first.conditions, condition_names(first), strict=True):
        differences = [signed(paired_difference(first, other, label)) for other in results[1:]]
        table.add_row(name, *(f"{result.summary(metric, label)['mean']:.2f}" for result in results), *differences)
    return table


def signed(difference: Statistics | None) -> str:
    """A paired difference with the half-width of its mean's 95 % interval, if that is known."""
    if difference is None:
        return ""
    return signed_text(difference["mean"], interval_of(difference))


def signed_text(mean: float, interval: list[float] | None) -> str:
    """A difference with half of its interval, if that is known."""
    return f"{mean:+.2f}" + ("" if interval is None else f" {half_text(interval)}")


def half_text(interval: list[float]) -> str:
    """Half of an interval."""
    return f"± {(interval[1] - interval[0]) / 2:.2f}"
