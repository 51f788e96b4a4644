"""The end of a training run: its tables and where its files are."""

from __future__ import annotations

from rich.table import Table

from analog_lora_cli.evaluation.log import Metrics
from analog_lora_cli.report.drift.table import drift_table
from analog_lora_cli.report.progress.meter import duration
from analog_lora_cli.runtime import console
from analog_lora_cli.tasks import Metric
from analog_lora_cli.workflows.train import RunResult


def print_run(result: RunResult, title: str) -> None:
    """Print the results of a run."""
    metric = result.headline
    baseline = result.baseline.get(metric.name)
    if result.drift is not None:
        console.results().print(drift_table(result.drift, f"{title}: {metric.name} over time", baseline))
    else:
        console.results().print(untimed_table(title, metric, result.metrics["digital"], result.metrics["analog"]))
    training = result.metrics["train"]
    loss = "" if training["final_loss"] is None else f", loss {training['final_loss']:.3f}"
    console.note(
        f"trained {training['steps']} steps in {duration(training['seconds'])} "
        f"({training['samples_per_second']:.1f} samples/s{loss}); checkpoint: {result.folder}"
    )


def untimed_table(title: str, metric: Metric, digital: Metrics, converters_only: Metrics) -> Table:
    """Table of the two measurements that no chip takes part in."""
    reference, value = digital[metric.name], converters_only[metric.name]
    table = console.table(f"{title}: {metric.name}", "", metric.name, "drop")
    table.add_row("digital", f"{reference:.2f}", "")
    table.add_row("converters only", f"{value:.2f}", f"{metric.drop(reference, value):.2f}")
    return table
