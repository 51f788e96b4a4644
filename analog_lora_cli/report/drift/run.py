"""The end of a training run: its tables and where its files are."""

from __future__ import annotations

from rich.table import Table

from analog_lora_cli.evaluation.log import Metrics
from analog_lora_cli.report.drift.table import drift_table
from analog_lora_cli.report.progress.meter import duration
from analog_lora_cli.runtime import console
from analog_lora_cli.workflows.train import RunResult


def print_run(result: RunResult, title: str) -> None:
    """Print the results of a run."""
    metric = result.task_metric
    guess = result.guess.get(metric)
    if result.drift is not None:
        console.results().print(drift_table(result.drift, f"{title}: {metric} over time", guess))
    else:
        console.results().print(untimed_table(title, metric, result.metrics["digital"], result.metrics["analog"]))
    training = result.metrics["train"]
    loss = "" if training["final_loss"] is None else f", loss {training['final_loss']:.3f}"
    console.note(
        f"trained {training['steps']} steps in {duration(training['seconds'])} "
        f"({training['samples_per_second']:.1f} samples/s{loss}); checkpoint: {result.folder}"
    )


def untimed_table(title: str, metric: str, digital: Metrics, converters_only: Metrics) -> Table:
    """The two measurements that no chip takes part in."""
    made = console.table(f"{title}: {metric}", "", metric, "drop")
    made.add_row("digital", f"{digital[metric]:.2f}", "")
    made.add_row(
        "converters only", f"{converters_only[metric]:.2f}", f"{digital[metric] - converters_only[metric]:.2f}"
    )
    return made
