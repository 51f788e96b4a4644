"""Results with the training seed as the unit: one method, or several side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from analog_lora_cli.evaluation.training_seeds import SeedGroup, seed_differences
from analog_lora_cli.report.drift.table import coverage
from analog_lora_cli.runtime import console

TOGETHER = "times share seeds, chips and samples: several tested together are correlated"


def seeds_table(group: SeedGroup) -> Table:
    """Mean over training seeds at each time, with its interval and what it is made of; fits 80 columns."""
    first = group.first
    metric, drop = first.metric, first.headline.drop
    digital = float(np.mean(group.values(metric, None)))
    others = [name for name in first.digital if name != metric][:1]
    known = group.deviations(metric) is not None
    last = group.statistics(metric, first.times[-1])["components"]
    names = {"training seeds": last["training_seed"], "chips": last["chip"], "reads": last["read"]}
    spread = [f"{value:.2f} between {name}" for name, value in names.items() if value is not None]
    spread += [] if last["samples"] is None else [f"{last['samples']:.2f} from the samples"]
    covers = f"{seeds(len(group.results))}, {coverage(first)}" if known else f"{seeds(len(group.results))} alone"
    table = console.table(
        f"{group.name}: {metric} over time, {seeds(len(group.results))}",
        "", "mean", "std", "95 % interval", "worst", "drop", *(name.replace("_", " ") for name in others),
        caption="\n".join([
            *console.marked(group.warnings),
            f"std, worst: over {seeds(len(group.results))}, each the mean of its chips",
            f"95 % interval over {covers}",
            *([f"{TOGETHER};\nci95_all_times in seeds.json covers them together"] if known else []),
            f"std at {first.times[-1]}: {', '.join(spread)}",
            f"drop: how much worse than digital, in {first.headline.points}; {metric}: {first.headline.direction}",
        ]),
    )  # fmt: skip
    values = group.values(metric, None)
    table.add_row(
        "digital", f"{digital:.2f}", _std(values), "", f"{first.headline.worst(values):.2f}", "",
        *(f"{np.mean(group.values(other, None)):.2f}" for other in others),
    )  # fmt: skip
    table.add_section()
    for label in first.times:
        one = group.statistics(metric, label)
        interval = one["ci95"] or one["ci95_seeds"]
        table.add_row(
            label, f"{one['mean']:.2f}", "" if one["std"] is None else f"{one['std']:.2f}",
            "" if interval is None else f"{interval[0]:.2f} .. {interval[1]:.2f}",
            f"{one['worst']:.2f}", f"{drop(digital, one['mean']):.2f}",
            *(f"{group.statistics(other, label)['mean']:.2f}" for other in others),
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
            f"{metric}: {first.first.headline.direction}",
        ]),
    )  # fmt: skip
    table.columns[0].no_wrap = True
    table.add_row("digital", *(f"{np.mean(group.values(metric, None)):.2f}" for group in groups))
    table.add_section()
    for label, one in seed_differences(first, other).items():
        interval, every = one["ci95"] or one["ci95_seeds"], one["ci95_all_times"]
        table.add_row(
            label, *(f"{np.mean(group.values(metric, label)):.2f}" for group in groups),
            f"{one['mean']:+.2f} ± {(interval[1] - interval[0]) / 2:.2f}", f"{one['p']:.3f}",
            "" if every is None else f"± {(every[1] - every[0]) / 2:.2f}",
        )  # fmt: skip
    return table


def seeds(count: int) -> str:
    """Number of training seeds in words."""
    return "1 training seed" if count == 1 else f"{count} training seeds"


def _std(values: Sequence[float]) -> str:
    return f"{np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
