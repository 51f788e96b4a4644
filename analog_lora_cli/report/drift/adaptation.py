"""Result of an adaptation: its tables, and one sentence on the cost."""

from __future__ import annotations

from rich.table import Table

from analog_lora_cli.config.times import duration
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.statistics import interval_of
from analog_lora_cli.report.drift.comparison import signed
from analog_lora_cli.report.drift.groups import group_tables
from analog_lora_cli.report.drift.run import untimed_table
from analog_lora_cli.report.drift.table import chips, condition_names, drift_table, noise_lines, warning_lines
from analog_lora_cli.runtime import console
from analog_lora_cli.workflows.recover import Recovery

RECOVERED = "recovered: gain of after over before on the same chips and samples, ± half its 95 % interval"


def print_adaptation(recovery: Recovery) -> None:
    """Print the results of an adaptation."""
    after, name = recovery.after, recovery.adaptation.name
    folder = after.subject.own_folder
    if after.drift is None:
        console.results().print(untimed_table(name, after.result))
    else:
        if recovery.before is None:
            console.results().print(drift_table(after.drift, f"{name}: {after.metric} over time"))
        else:
            console.results().print(recovery_table(recovery))
            console.results().print(recovery_sentence(recovery), soft_wrap=True)
        for table in group_tables(after.drift, name):
            console.results().print(table)
        console.note(f"written: {folder}/")
    console.note(
        f"trained adapter {name}: {cost_text(recovery)}; the weights on the tiles are those of before; "
        f"checkpoint: {after.subject.checkpoint.folder}"
    )


def recovery_table(recovery: Recovery) -> Table:
    """Before and after at each time; fits 80 columns."""
    if recovery.on_own_chip() is not None:
        return _aged_chip_table(recovery)
    results, metric = recovery.results(), recovery.after.metric
    first = next(iter(results.values()))
    reference = recovery.adaptation.config.reference
    papers = [("paper\nbefore", reference.before), ("paper\nafter", reference.drift)] if reference is not None else []
    papers = [(heading, values) for heading, values in papers if values.get(metric)]
    start = recovery.adaptation.start
    caption = [
        *warning_lines(recovery.after.result),
        f"means over {chips(len(first.chips))}; before: adapter {start}; after: adapter {recovery.adaptation.name}",
        RECOVERED,
    ]
    caption += noise_lines(first)
    if "old hardware" in results:
        caption.append(f"old hardware: adapter {start} on the hardware that it was trained for")
    if papers and reference is not None:
        caption.append(f"paper: {reference.source}")
    table = console.table(
        f"{recovery.adaptation.name}: {metric} over time",
        "", *(name.replace(" ", "\n") for name in results), "recovered", *(heading for heading, _ in papers),
        caption="\n".join(caption),
    )  # fmt: skip
    blank = [""] * len(papers)
    digital = [result.digital[metric] for result in results.values()]
    exact = [result.converters_only[metric] for result in results.values()]
    for row, values in (("digital", digital), ("converters only", exact)):
        table.add_row(
            row, *(f"{value:.2f}" for value in values), f"{recovery.after.headline.gain(*values[-2:]):+.2f}", *blank
        )
    table.add_section()
    for label, name in zip(first.conditions, condition_names(first), strict=True):
        published = [values[metric].get(label) for _, values in papers]
        table.add_row(
            name,
            *(f"{_mean(result, label):.2f}" for result in results.values()),
            signed(recovery.recovered(label)),
            *("" if value is None else f"{value:.2f}" for value in published),
        )
    return table


def _aged_chip_table(recovery: Recovery) -> Table:
    own, chip, results = recovery.on_own_chip(), recovery.adaptation.chip, recovery.results()
    assert own is not None and chip is not None
    before, after = (results[key].without_chip(chip.seed) for key in ("before", "after"))
    others = len(before.chips)
    headings = [f"chip {chip.seed}\nbefore", "\nafter", "\nrecovered"]
    if others:
        headings += [f"{others} other{'s' if others > 1 else ''}\nbefore", "\nafter", "\nrecovered"]
    table = console.table(
        f"{recovery.adaptation.name}: {before.metric} over time, trained on chip {chip.seed} at {chip.at}",
        "", *headings,
        caption="".join(f"{line}\n" for line in warning_lines(recovery.after.result))
        + f"means over the chips; before: adapter {recovery.adaptation.start}\n"
        f"{RECOVERED}\n>: the time of the training",
    )  # fmt: skip
    for label in before.times:
        row = [f"> {label}" if label == chip.at else f"  {label}"]
        row += [f"{_mean(result, label):.2f}" for result in own]
        row.append(signed(recovery.recovered(label)))
        if others:
            row += [f"{_mean(before, label):.2f}", f"{_mean(after, label):.2f}", signed(recovery.elsewhere(label))]
        table.add_row(*row)
    return table


def recovery_sentence(recovery: Recovery) -> str:
    """Sentence on the gain at the headline time, and on the cost of each point."""
    label = recovery.headline_time
    difference, lost = recovery.recovered(label), recovery.lost(label)
    assert difference is not None and lost is not None
    points, metric, chip = difference["mean"], recovery.after.headline, recovery.adaptation.chip
    where = f"at {label}" if chip is None else f"on chip {chip.seed} at {label}"
    if points <= 0:
        return f"Nothing is recovered {where}: {metric.name} {points:+.2f}. Spent: {cost_text(recovery)}."
    interval = interval_of(difference)
    clear = interval is None or interval[0] > 0
    doubt = "" if clear else ", which is not more than chance: the 95 % interval holds 0"
    share = f" of the {lost:.2f} that were lost" if lost > 0 else ""
    per = recovery.cost.per(points)
    return (
        f"Recovered {points:.2f} {metric.points}{share} {where}{doubt}. Spent: {cost_text(recovery)}; for each point "
        f"{per['samples']:.0f} samples, {per['steps']:.1f} steps, {per['seconds']:.1f} s, "
        f"{per['trainable_parameters']:,.0f} parameters."
    )


def cost_text(recovery: Recovery) -> str:
    """Samples, steps, time and trained parameters of the adaptation."""
    cost = recovery.cost
    return (
        f"{cost.samples} samples, {cost.steps} steps, {duration(cost.seconds)}, "
        f"{cost.trainable_parameters:,} trainable parameters"
    )


def _mean(result: DriftResult, label: str) -> float:
    return result.summary(result.metric, label)["mean"]
