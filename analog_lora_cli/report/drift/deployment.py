"""One chip, several tasks: the table of all adapters of a checkpoint, and what they save."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from analog_lora_cli.config.flat import flatten
from analog_lora_cli.runtime import console
from analog_lora_cli.storage.checkpoint import Checkpoint
from analog_lora_cli.storage.files import write_json
from analog_lora_cli.storage.layout import FIRST_ADAPTER
from analog_lora_cli.workflows.evaluate import Assessment


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of one deployment with several adapters, and of separate models for the same tasks."""

    adapters: int
    on_tiles: int
    digital: int
    """Of the base, shared by all adapters: what no tile holds, without heads."""
    trained: int
    """Adapters and trained heads, all together."""
    heads: int

    @property
    def deployment(self) -> int:
        """One set of tiles, one digital rest, all adapters."""
        return self.on_tiles + self.digital + self.trained

    @property
    def separate(self) -> int:
        """A set of tiles and a head for each task, and one digital rest, as the paper counts."""
        return self.adapters * self.on_tiles + self.digital + self.heads


def count_parameters(checkpoint: Checkpoint, adapters: list[str]) -> ParameterCount:
    """The parameter count of a checkpoint's adapters, from its manifest."""
    manifest = checkpoint.manifest
    counts = [
        manifest["parameters"] if name == FIRST_ADAPTER else checkpoint.entry(name)["parameters"] for name in adapters
    ]
    on_tiles = max(count["on_tiles"] for count in counts)
    return ParameterCount(
        adapters=len(adapters),
        on_tiles=on_tiles,
        digital=max(count["total"] - count["head"] for count in counts) - on_tiles,
        trained=sum(count["trainable"] for count in counts),
        heads=sum(count["head"] for count in counts),
    )


def deployment_table(done: list[Assessment]) -> Table:
    """Each adapter with its own metric: digital, and the mean over the chips at each time."""
    first = done[0].drift
    assert first is not None
    count = count_parameters(done[0].subject.checkpoint, [one.subject.adapter for one in done])
    caption = [
        f"mean and standard deviation over the same {len(first.chips)} chips; each adapter with the metric of its task",
        f"{count.deployment / 1e6:.1f} M parameters: {count.on_tiles / 1e6:.1f} M on tiles, "
        f"{count.digital / 1e6:.1f} M digital, {count.trained / 1e6:.2f} M in {count.adapters} adapters with heads",
        f"{count.adapters} separate models with tiles of their own: {count.separate / 1e6:.1f} M",
        *_other_hardware(done),
    ]
    made = console.table(
        f"{done[0].subject.checkpoint.folder.resolve().name}: {len(done)} adapters on one deployment",
        "adapter", "digital", *first.times, caption="\n".join(caption),
    )  # fmt: skip
    for one in done:
        result = one.drift
        assert result is not None
        summaries = [result.summary(one.metric, label) for label in result.times]
        spread = ["" if summary["std"] is None else f"±{summary['std']:.2f}" for summary in summaries]
        task = one.subject.config.task.name
        made.add_row(
            f"{one.subject.adapter}\n [dim]{task} {one.metric}[/dim]",
            f"{one.digital[one.metric]:.2f}",
            *(f"{summary['mean']:.2f}\n[dim]{std}[/dim]" for summary, std in zip(summaries, spread, strict=True)),
        )
    return made


def _other_hardware(done: list[Assessment]) -> list[str]:
    """What is different for adapters that are not run on the first one's hardware."""
    first = flatten(done[0].subject.hardware())
    lines = []
    for one in done[1:]:
        own = flatten(one.subject.hardware())
        changed = [
            f"{key} {own.get(key)}" for key in sorted(first.keys() | own.keys()) if first.get(key) != own.get(key)
        ]
        if changed:
            lines.append(f"{one.subject.adapter} on other hardware: {', '.join(changed)}")
    return lines


def write_deployment(done: list[Assessment], folder: Path) -> None:
    """Write deployment.json: every adapter's result and the parameter count."""
    count = count_parameters(done[0].subject.checkpoint, [one.subject.adapter for one in done])
    content: dict[str, Any] = {
        "format": 1,
        "parameters": {**vars(count), "deployment": count.deployment, "separate": count.separate},
        "adapters": {
            one.subject.adapter: {"task": one.subject.config.task.name, **one.drift.as_json()}
            for one in done
            if one.drift is not None
        },
    }
    write_json(folder / "deployment.json", content)
