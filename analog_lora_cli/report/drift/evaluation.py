"""The end of `evaluate-drift`: its table, where the files are, and the requirements that do not hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from analog_lora_cli.report.drift.comparison import comparison_table
from analog_lora_cli.report.drift.deployment import deployment_table
from analog_lora_cli.report.drift.groups import group_comparison_tables, group_tables
from analog_lora_cli.report.drift.seeds import seed_comparison_tables, seeds_table
from analog_lora_cli.report.drift.table import chips, drift_table
from analog_lora_cli.runtime import console
from analog_lora_cli.workflows.drift import Check, DriftEvaluation
from analog_lora_cli.workflows.evaluate import Evaluation


def print_evaluation(evaluation: DriftEvaluation, output: Path | None) -> None:
    """Print the table of one result, of a comparison, or of a deployment.

    Args:
        evaluation: the results.
        output: where the files of several together are; None: there are none.
    """
    for one, folder in zip(evaluation.measured, evaluation.folders, strict=True):
        if evaluation.written:
            console.note(f"written: {folder}/drift.json, drift.csv, drift.png, samples.npz{_kept(one)}")
    if evaluation.groups:
        _print_groups(evaluation, output)
        return
    first, *others = evaluation.measured
    if not others:
        assert first.drift is not None
        title = f"{first.subject.name}: {first.metric} over time"
        _print([drift_table(first.drift, title), *group_tables(first.drift, first.subject.name)])
        return
    deployment = evaluation.deployment
    if deployment:
        _print([deployment_table(evaluation.measured)])
    else:
        _print([comparison_table(evaluation.measured), *group_comparison_tables(evaluation.measured)])
    if output is not None and evaluation.written:
        names = "deployment.json" if deployment else "comparison.json, comparison.png"
        console.note(f"written: {output}/{names}")


def _print_groups(evaluation: DriftEvaluation, output: Path | None) -> None:
    groups = evaluation.groups
    if len(groups) == 1:
        _print([seeds_table(groups[0]), *group_tables(groups[0], groups[0].name)])
    else:
        _print(seed_comparison_tables(groups))
    if evaluation.written and len(groups) == 1:
        console.note(f"written: {output or evaluation.measured[0].subject.group}/seeds.json")
    elif evaluation.written and output is not None:
        console.note(f"written: {output}/comparison.json, comparison.png")


def _print(tables: Sequence[Table]) -> None:
    for table in tables:
        console.results().print(table)


def _kept(evaluation: Evaluation) -> str:
    """Remark that the files hold more than what was asked for, if they do."""
    stored, result = evaluation.stored, evaluation.result
    if stored.chips == result.chips and stored.conditions == result.conditions:
        return ""
    return f" (with what was measured before: {chips(len(stored.chips))}, {', '.join(stored.conditions)})"


def print_failed(failed: Sequence[Check]) -> None:
    """Print the requirements that do not hold, with what was measured, as a message."""
    table = console.table("Requirements that do not hold", "checkpoint", "required", "measured", left=2)
    for check in failed:
        unknown = "unknown with one chip" if check.name else "not measured: no such samples"
        table.add_row(check.name, check.rule.text, unknown if check.measured is None else f"{check.measured:.2f}")
    console.messages().print(table)
