"""The end of `evaluate-drift`: its table, where the files are, and the requirements that do not hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analog_lora_cli.evaluation.thresholds import Requirement
from analog_lora_cli.report.drift.comparison import comparison_table
from analog_lora_cli.report.drift.deployment import deployment_table
from analog_lora_cli.report.drift.table import drift_table
from analog_lora_cli.runtime import console
from analog_lora_cli.workflows.drift import DriftEvaluation
from analog_lora_cli.workflows.evaluate import Evaluation


def print_evaluation(evaluation: DriftEvaluation, output: Path | None) -> None:
    """Print the table of one result, of a comparison, or of a deployment.

    Args:
        evaluation: the results.
        output: where the files of several together are; None: there are none.
    """
    for folder in evaluation.folders:
        console.note(f"written: {folder}/drift.json, drift.csv, drift.png")
    first, *others = evaluation.measured
    if not others:
        assert first.drift is not None
        title = f"{first.subject.name}: {first.metric} over time"
        console.results().print(drift_table(first.drift, title, first.baseline.get(first.metric)))
        return
    deployment = evaluation.deployment
    console.results().print((deployment_table if deployment else comparison_table)(evaluation.measured))
    if output is not None:
        names = "deployment.json" if deployment else "comparison.json, comparison.png"
        console.note(f"written: {output}/{names}")


def print_failed(failed: Sequence[tuple[Evaluation, Requirement]]) -> None:
    """Print the requirements that do not hold, with what was measured, as a message."""
    table = console.table("Requirements that do not hold", "checkpoint", "required", "measured", left=2)
    for one, rule in failed:
        assert one.drift is not None
        value = rule.measured(one.drift)
        table.add_row(one.subject.name, rule.text, "unknown with one chip" if value is None else f"{value:.2f}")
    console.messages().print(table)
