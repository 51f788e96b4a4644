"""Results with the training seed as the unit: one method, or several side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from analog_lora_cli.evaluation.statistics import student
from analog_lora_cli.evaluation.text import interval_text, number_text
from analog_lora_cli.evaluation.training_seeds import SeedGroup, seed_differences
from analog_lora_cli.report.drift.comparison import half_text, signed_text
from analog_lora_cli.report.drift.table import condition_names, coverage, noise_lines, spread_text
from analog_lora_cli.runtime import console

TOGETHER = "times share seeds, chips and samples: several tested together are correlated"


def seeds_table(group: SeedGroup) -> Table:
    """Mean over training seeds at each time, with its interval and what it is made of; fits 80 columns."""
    first = group.first
    metric, drop = first.metric, first.headline.drop
    digital, others = group.digital, [name for name in first.digital if name != metric][:1]
    known = group.deviations(metric, group.times) is not None
    last = group.summary(metric, group.times[-1])["components"]
    spread = spread_text(
        {
            "between training seeds": last["training_seed"],
            "between chips": last["chip"],
            "between reads": last["read"],
            "from the samples": last["samples"],
        }
    )
    covers = f"{seeds(len(group.results))}, {coverage(first)}" if known else f"{seeds(len(group.results))} alone"
    table = console.table(
        f"{group.name}: {metric} over time, {seeds(len(group.results))}",
        "", "mean", "std", "95 % interval", "worst", "drop", *(name.replace("_", " ") for name in others),
        caption="\n".join([
            *console.marked(group.warnings),
            f"std, worst: over {seeds(len(group.results))}, each the mean of its chips",
            f"95 % interval over {covers}",
            *([f"{TOGETHER};\nci95_all_times in seeds.json covers them together"] if known else []),
            f"std at {group.times[-1]}: {spread}",
            *noise_lines(group),
            f"drop: how much worse than digital, in {first.headline.points}; {metric}: {first.headline.direction}",
        ]),
    )  # fmt: skip
    values = group.values(metric, None)
    table.add_row(
        "digital", number_text(digital[metric]), number_text(student(np.array(values))[0]), "",
        number_text(first.headline.worst(values)), "", *(number_text(digital[other]) for other in others),
    )  # fmt: skip
    table.add_section()
    for label, name in zip(group.conditions, condition_names(group), strict=True):
        one = group.summary(metric, label)
        table.add_row(
            name, number_text(one["mean"]), number_text(one["std"]), interval_text(group.interval(metric, label)),
            number_text(one["worst"]), number_text(drop(digital[metric], one["mean"])),
            *(number_text(group.summary(other, label)["mean"]) for other in others),
        )  # fmt: skip
    return table


def seed_comparison_tables(groups: Sequence[SeedGroup]) -> list[Table]:
    """A table for each method after the first: means, and its difference to the first by training seed."""
    first, *others = groups
    return [_comparison(first, other) for other in others]


def _comparison(first: SeedGroup, other: SeedGroup) -> Table:
    metric, groups = first.first.metric, (first, other)
    counts = ", ".join(f"{group.name} {len(group.results)}" for group in groups)
    table = console.table(
        f"{metric} over time: two methods", "", *(group.name for group in groups),
        "difference", "p", "all times",
        caption="\n".join([
            *console.marked([warning for group in groups for warning in group.warnings]),
            f"difference: {other.name} - {first.name}, ± half its 95 % interval over training seeds,",
            f"chips and samples; means over the same {coverage(first.first)}",
            f"unit: the training seed ({counts})",
            "p: Welch's t-test on one value a training seed, for these chips and samples",
            f"{TOGETHER};\nall times: half of the interval that covers them together",
            *noise_lines(first),
            f"{metric}: {first.first.headline.direction}",
        ]),
    )  # fmt: skip
    table.columns[0].no_wrap = True
    table.add_row("digital", *(number_text(group.digital[metric]) for group in groups))
    table.add_section()
    differences = seed_differences(first, other)
    for label, name in zip(first.conditions, condition_names(first), strict=True):
        one, every = differences[label], differences[label]["ci95_all_times"]
        table.add_row(
            name, *(number_text(group.summary(metric, label)["mean"]) for group in groups),
            signed_text(one["mean"], one["ci95"] or one["ci95_seeds"]), f"{one['p']:.3f}",
            "" if every is None else half_text(every),
        )  # fmt: skip
    return table


def seeds(count: int) -> str:
    """Number of training seeds in words."""
    return "1 training seed" if count == 1 else f"{count} training seeds"
