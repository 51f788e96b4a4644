"""One chip, several tasks: the table of all adapters of a checkpoint, and what they save."""

from __future__ import annotations

from rich.table import Table

from analog_lora_cli.config.flat import flatten
from analog_lora_cli.report.drift.table import chips, condition_names, noise_lines, warning_lines
from analog_lora_cli.runtime import console
from analog_lora_cli.workflows.evaluate import Evaluation
from analog_lora_cli.workflows.results import count_parameters


def deployment_table(evaluations: list[Evaluation]) -> Table:
    """Each adapter with its own metric: digital, and the mean over the chips at each time."""
    first = evaluations[0].drift
    assert first is not None
    count = count_parameters(evaluations[0].subject.checkpoint, [one.subject.adapter for one in evaluations])
    caption = [
        *(f"{one.subject.adapter}: {line}" for one in evaluations for line in warning_lines(one.result)),
        f"mean ± std over the same {chips(len(first.chips))}; each adapter with the metric of its task",
        f"{count.deployment / 1e6:.1f} M parameters: {count.on_tiles / 1e6:.1f} M on tiles, "
        f"{count.digital / 1e6:.1f} M digital, {count.trained / 1e6:.2f} M in {count.adapters} adapters with heads",
        f"{count.adapters} separate models with tiles of their own: {count.separate / 1e6:.1f} M",
        *sorted({f"{one.metric}: lower is better" for one in evaluations if not one.headline.higher_is_better}),
        *noise_lines(first),
        *_other_hardware(evaluations),
    ]
    table = console.table(
        f"{evaluations[0].subject.checkpoint.folder.resolve().name}: {len(evaluations)} adapters on one deployment",
        "adapter", "digital", *condition_names(first), caption="\n".join(caption),
    )  # fmt: skip
    for one in evaluations:
        result = one.drift
        assert result is not None
        summaries = [result.summary(one.metric, label) for label in result.conditions]
        spread = ["" if summary["std"] is None else f"±{summary['std']:.2f}" for summary in summaries]
        task = one.subject.config.task.name
        table.add_row(
            f"{one.subject.adapter}\n [dim]{task} {one.metric}[/dim]",
            f"{one.digital[one.metric]:.2f}",
            *(f"{summary['mean']:.2f}\n[dim]{std}[/dim]" for summary, std in zip(summaries, spread, strict=True)),
        )
    return table


def _other_hardware(evaluations: list[Evaluation]) -> list[str]:
    """Differences of the hardware of adapters that do not run on the first one's."""
    first = flatten(evaluations[0].subject.hardware())
    lines = []
    for one in evaluations[1:]:
        own = flatten(one.subject.hardware())
        changed = [
            f"{key} {own.get(key)}" for key in sorted(first.keys() | own.keys()) if first.get(key) != own.get(key)
        ]
        if changed:
            lines.append(f"{one.subject.adapter} on other hardware: {', '.join(changed)}")
    return lines
