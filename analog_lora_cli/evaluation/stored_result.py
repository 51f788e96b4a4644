"""Results as they lie on disk: drift.json of one adapter, seeds.json of one method, read back for a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from analog_lora_cli.errors import CheckpointError
from analog_lora_cli.evaluation.drift_result import FORMAT
from analog_lora_cli.evaluation.measurement import recalibrated_label
from analog_lora_cli.storage.files import read_json
from analog_lora_cli.storage.sealed import read_sealed
from analog_lora_cli.tasks.metric import Metric

SEEDS_FORMAT = 1
"""Format of seeds.json."""
COMPARISON_FORMAT = 2
"""Format of comparison.json."""


@dataclass(frozen=True)
class Row:
    """The headline metric under one condition, in its unit."""

    label: str
    """The condition: a time such as `1y`, `noise 3%`, `1y recalibrated`; `digital`; `converters only`."""
    mean: float
    interval: list[float] | None = None
    """95 % interval of the mean; None: unknown."""
    std: float | None = None
    worst: float | None = None
    values: tuple[float, ...] = ()
    """One for each member: chip or training seed; empty where there are none."""
    members: tuple[int, ...] = ()
    """The chips, or the training seeds, by their seed."""
    components: tuple[tuple[str, float | None], ...] = ()
    """Standard deviations by cause."""
    seconds: float | None = None
    """Time after programming; None where time plays no part."""
    others: tuple[tuple[str, float], ...] = ()
    """Means of the task's other metrics."""


@dataclass(frozen=True)
class StoredResult:
    """One adapter over chips, or one method over training seeds."""

    name: str
    file: Path
    metric: Metric
    member: str
    """What `Row.values` are of: `chip` or `training seed`."""
    chips: tuple[int, ...]
    training_seeds: tuple[int, ...]
    digital: Row
    converters_only: Row
    times: tuple[Row, ...]
    further: tuple[Row, ...]
    """After a recalibration, and with static Gaussian noise."""
    warnings: tuple[str, ...]
    samples: dict[str, dict[str, int]]
    baseline: float | None
    """The metric of answers that ignore the input; None: unknown."""
    reference: dict[str, Any] | None
    hardware: dict[str, Any] | None = None
    """The hardware that was measured; None: unknown."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, those without chips first."""
        return self.digital, self.converters_only, *self.times, *self.further

    @property
    def interval_covers(self) -> str:
        """What a 95 % interval is over, in words."""
        chips = f"{len(self.chips)} chip{'s' if len(self.chips) != 1 else ''}"
        size = self.samples.get(self.metric.sample_set, {})
        parts = [chips, f"{size['samples']} samples"] if size else [chips]
        if len(self.training_seeds) > 1:
            return ", ".join([f"{len(self.training_seeds)} training seeds", *parts])
        return f"{' and '.join(parts)}; one training seed"

    def drop(self, row: Row) -> float:
        """How much worse than digital, in the metric's unit."""
        return self.metric.drop(self.digital.mean, row.mean)

    def published(self, row: Row) -> float | None:
        """The paper's number for a row; None: it gives none."""
        reference = self.reference or {}
        of_times = reference.get("drift", {}).get(self.metric.name, {})
        of_digital = reference.get("digital", {}).get(self.metric.name)
        published: float | None = of_digital if row is self.digital else of_times.get(row.label)
        return published


def read_drift(file: Path, name: str) -> StoredResult:
    """Read a drift.json.

    Args:
        file: the file.
        name: what it is the result of, for headings.

    Raises:
        CheckpointError: it is missing, damaged, or of another format.
    """
    content = read_sealed(file)
    check_format(file, content, FORMAT)
    metric = _metric(content)
    own = metric.name
    draws = content["converters_only_draws"][own]
    digital = content["digital"]
    return StoredResult(
        name=name,
        file=file,
        metric=metric,
        member="chip",
        chips=tuple(content["chips"]),
        training_seeds=tuple(content["training_seeds"]),
        digital=Row("digital", digital[own], content["digital_ci95"][own], others=_without(digital, own)),
        converters_only=Row(
            "converters only", content["converters_only"][own], draws["ci95"] or draws["ci95_draws"], draws["std"],
            others=_without(content["converters_only"], own),
        ),
        times=tuple(_row(one, own, one["label"], tuple(one["chips"])) for one in content["times"]),
        further=tuple(_row(one, own, label, tuple(one["chips"])) for label, one in _further(content)),
        warnings=tuple(content["warnings"]),
        samples=content["samples"],
        baseline=content["baseline"].get(own),
        reference=content["reference"],
        hardware=content["hardware"],
    )  # fmt: skip


def read_seeds(file: Path, name: str) -> StoredResult:
    """Read a seeds.json; errors and arguments as with `read_drift`."""
    content = read_json(file)
    check_format(file, content, SEEDS_FORMAT)
    metric = _metric(content)
    own, seeds = metric.name, tuple(content["training_seeds"])

    def over_seeds(key: str, label: str) -> Row:
        values = content[key][own]
        others = tuple((other, fmean(each)) for other, each in content[key].items() if other != own)
        return Row(label, fmean(values), None, None, metric.worst(values), tuple(values), seeds, others=others)

    return StoredResult(
        name=name,
        file=file,
        metric=metric,
        member="training seed",
        chips=tuple(content["chips"]),
        training_seeds=seeds,
        digital=over_seeds("digital", "digital"),
        converters_only=over_seeds("converters_only", "converters only"),
        times=tuple(_row(one, own, one["label"], seeds) for one in content["times"]),
        further=tuple(_row(one, own, label, seeds) for label, one in _further(content)),
        warnings=tuple(text.removeprefix(f"{file.resolve().parent.name}: ") for text in content["warnings"]),
        samples=content["samples"],
        baseline=content["baseline"].get(own),
        reference=None,
    )


def check_format(file: Path, content: Any, known: int) -> None:
    """Check that a file of results is of the format that this version reads.

    Raises:
        CheckpointError: it is not.
    """
    found = content.get("format") if isinstance(content, dict) else None
    if found != known:
        raise CheckpointError(
            f"{file}: format {found!r}, this version reads format {known}; write it anew with analora evaluate-drift"
        )


def _metric(content: dict[str, Any]) -> Metric:
    name = content.get("sample_set", "validation")  # Earlier results do not say it.
    return Metric(content["metric"], content["unit"], content["higher_is_better"], sample_set=name)


def _further(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries beside those of times, each with the label of its condition."""
    for one in (*(content.get("recalibrated") or ()), *(content.get("recalibrated_before") or ())):
        time = one["seconds"]
        yield recalibrated_label(one["label"], time, one.get("calibrated_seconds", time)), one
    for one in content.get("gaussian") or ():
        yield f"noise {one['label']}", one


def _row(entry: dict[str, Any], metric: str, label: str, members: tuple[int, ...]) -> Row:
    one = entry["metrics"][metric]
    return Row(
        label=label,
        mean=one["mean"],
        interval=one["ci95"] or one.get("ci95_chips") or one.get("ci95_seeds"),
        std=one["std"],
        worst=one["worst"],
        values=tuple(one["values"]),
        members=members,
        components=tuple((cause.replace("_", " "), value) for cause, value in one["components"].items()),
        seconds=entry.get("seconds"),
        others=tuple((name, each["mean"]) for name, each in entry["metrics"].items() if name != metric),
    )


def _without(values: dict[str, float], metric: str) -> tuple[tuple[str, float], ...]:
    return tuple((name, value) for name, value in values.items() if name != metric)
