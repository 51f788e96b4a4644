"""A drift result as a table."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from analog_lora_cli.config.times import duration
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.statistics import Statistics, interval_of
from analog_lora_cli.evaluation.text import interval_text, number_text
from analog_lora_cli.evaluation.training_seeds import SeedGroup
from analog_lora_cli.runtime import console


def drift_table(result: DriftResult, title: str) -> Table:
    """Mean over chips at each time, its spread, and the drop against digital; fits 80 columns."""
    metric = result.metric
    others = [name for name in result.digital if name != metric][:1]
    paper = (result.reference or {}).get("drift", {}).get(metric, {})
    paper_digital = (result.reference or {}).get("digital", {}).get(metric)
    with_paper = bool(paper) or paper_digital is not None
    table = console.table(
        title, "", "mean", "std", "95 % interval", "worst", "drop", *(["paper"] if with_paper else []),
        *(name.replace("_", " ") for name in others), caption="\n".join(_caption(result, with_paper)),
    )  # fmt: skip
    # A header of two words may take two lines, a number never does.
    table.columns[-1].no_wrap, table.columns[-1].min_width = False, len("100.00")
    table.columns[0].no_wrap = True
    digital, drop = result.digital[metric], result.headline.drop

    def row(name: str, mean: float, cells: list[str], published: float | None, other: list[float]) -> None:
        beside = [number_text(published)] if with_paper else []
        table.add_row(name, number_text(mean), *cells, *beside, *map(number_text, other))

    interval = interval_text(result.digital_interval(metric))
    row("digital", digital, ["", interval, "", ""], paper_digital, [result.digital[name] for name in others])
    draws = result.over_draws(metric).statistics()
    exact, exact_others = draws["mean"], [result.converters_only[name] for name in others]
    row("converters only", exact, [*_spread(draws), "", number_text(drop(digital, exact))], None, exact_others)
    table.add_section()
    for label, name in zip(result.conditions, condition_names(result), strict=True):
        summary = result.summary(metric, label)
        cells = [*_spread(summary), number_text(summary["worst"]), number_text(drop(digital, summary["mean"]))]
        means = [result.summary(other, label)["mean"] for other in others]
        row(name, summary["mean"], cells, paper.get(label), means)
    return table


def condition_names(result: DriftResult | SeedGroup) -> list[str]:
    """Names of the conditions for tables: `1y`, `1y recalibrated`, `noise 3%`."""
    return [f"noise {label}" if label in result.levels else label for label in result.conditions]


def recalibration_lines(result: DriftResult | SeedGroup) -> list[str]:
    """What the rows after a recalibration are and cost, for a caption; nothing without them."""
    settings, costs = result.recalibration, result.calibrations
    if settings is None or not costs:
        return []
    count, took = (sum(getattr(cost, name) for cost in costs) / len(costs) for name in ("parameters", "seconds"))
    return [
        f"recalibrated: rank {settings.rank} beside each layer, without training: {settings.tokens} training",
        f"tokens x {settings.reads} reads, {count / 1e6:.2f} M parameters, {duration(took)} a chip and time",
    ]


def noise_lines(result: DriftResult | SeedGroup) -> list[str]:
    """What the rows with Gaussian noise are, for a caption; nothing without them."""
    if not result.levels:
        return []
    return [
        "noise: static Gaussian weight noise, std relative to each column's largest",
        "weight, one draw a chip; no drift",
    ]


def coverage(result: DriftResult) -> str:
    """What an interval over chips covers: `10 chips and 200 samples in 48 clusters`."""
    several = len(result.chips) > 1
    size = result.sizes().get(result.headline.sample_set)
    if not several or result.headline.statistic is None or size is None or size["clusters"] < 2:
        return chips(len(result.chips)) + (" alone" if several else "")
    clusters = "" if size["clusters"] == size["samples"] else f" in {size['clusters']} clusters"
    return f"{chips(len(result.chips))} and {size['samples']} samples{clusters}"


def warning_lines(result: DriftResult) -> list[str]:
    """The warnings of a result, marked for the console."""
    return console.marked(result.warnings)


def chips(count: int) -> str:
    """Number of chips in words."""
    return "1 chip" if count == 1 else f"{count} chips"


def _caption(result: DriftResult, with_paper: bool) -> list[str]:
    metric, baseline = result.metric, result.baseline.get(result.metric)
    lines = warning_lines(result)
    if len(result.chips) > 1:
        lines.append(f"95 % interval over {coverage(result)}; one training seed")
        if len(result.times) > 1 and result.summary(metric, result.times[0])["ci95"] is not None:
            lines.append("times share chips and samples; ci95_all_times in drift.json covers them together")
    else:
        lines.append("one chip only; std and 95 % interval need at least two")
    lines += [
        *_components(result),
        f"digital: interval over samples; converters only: {len(result.draws)} draws of the output noise",
        *recalibration_lines(result),
        *noise_lines(result),
        f"drop: how much worse than digital, in {result.headline.points}",
        f"{metric}: {result.headline.direction}"
        + ("" if baseline is None else f"; ignoring the input gets {baseline:.1f}"),
    ]
    if with_paper and result.reference is not None:
        lines.append(f"paper: {result.reference['source']}")
    return lines


def spread_text(parts: Mapping[str, float | None]) -> str:
    """Standard deviations by their cause, those that are known: `0.52 between chips, 1.30 from the samples`."""
    return ", ".join(f"{value:.2f} {cause}" for cause, value in parts.items() if value is not None)


def _components(result: DriftResult) -> list[str]:
    """The spread at the last time by its causes."""
    parts = result.summary(result.metric, result.times[-1])["components"]
    between = "between chips" if parts["read"] is not None else "between chips, reads included"
    text = spread_text({between: parts["chip"], "between reads": parts["read"], "from the samples": parts["samples"]})
    return [f"std at {result.times[-1]}: {text}"] if text else []


def _spread(statistics: Statistics) -> list[str]:
    return [number_text(statistics["std"]), interval_text(interval_of(statistics))]
