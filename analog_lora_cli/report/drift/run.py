"""The end of a training run: its tables and where its files are."""

from __future__ import annotations

from rich.table import Table

from analog_lora_cli.config.times import duration
from analog_lora_cli.evaluation.drift_result import DriftResult
from analog_lora_cli.evaluation.text import number_text
from analog_lora_cli.report.drift.groups import group_tables
from analog_lora_cli.report.drift.seeds import seeds_table
from analog_lora_cli.report.drift.table import drift_table, warning_lines
from analog_lora_cli.runtime import console
from analog_lora_cli.workflows.seeds import SeedRuns
from analog_lora_cli.workflows.train import RunResult


def print_run(result: RunResult, title: str) -> None:
    """Print the results of a run."""
    for table in [_table(result, title), *group_tables(result.result, title)]:
        console.results().print(table)
    training = result.metrics["train"]
    loss = "" if training["final_loss"] is None else f", loss {training['final_loss']:.3f}"
    console.note(
        f"trained {training['steps']} steps in {duration(training['seconds'])} "
        f"({training['samples_per_second']:.1f} samples/s{loss}); checkpoint: {result.folder}"
    )


def print_seed_runs(result: SeedRuns) -> None:
    """Print the results of several trainings: their table, or which are still going on elsewhere."""
    if result.group is not None:
        console.results().print(seeds_table(result.group))
        console.note(f"written: {result.folder}/seeds.json")
    for run in result.runs if result.group is None else ():
        console.results().print(_table(run, f"{result.folder.name}/{run.folder.name}"))
    for folder in result.busy:
        console.note(f"another process is training {folder}; `analora evaluate-drift {result.folder}` measures all")


def _table(run: RunResult, title: str) -> Table:
    if run.drift is None:
        return untimed_table(title, run.result)
    return drift_table(run.drift, f"{title}: {run.headline.name} over time")


def untimed_table(title: str, result: DriftResult) -> Table:
    """Table of the measurements that no chip takes part in."""
    metric, draws = result.headline, result.over_draws(result.metric).statistics()
    reference, value = result.digital[metric.name], draws["mean"]
    caption = [*warning_lines(result), f"std: over {len(result.draws)} draws of the output noise"]
    table = console.table(f"{title}: {metric.name}", "", metric.name, "std", "drop", caption="\n".join(caption))
    table.add_row("digital", f"{reference:.2f}", "", "")
    table.add_row("converters only", f"{value:.2f}", number_text(draws["std"]), f"{metric.drop(reference, value):.2f}")
    return table
