"""The files of results: drift.json, drift.csv, drift.png, samples.npz; comparisons, deployments and adaptations."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np

from analog_lora_cli.config.noise_levels import noise_level
from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.drift_json import drift_json, recalibrated_rows
from analog_lora_cli.evaluation.drift_result import DriftResult, paired_difference
from analog_lora_cli.evaluation.log import Measurements
from analog_lora_cli.evaluation.measurement import DIGITAL
from analog_lora_cli.evaluation.stored_result import COMPARISON_FORMAT, SEEDS_FORMAT
from analog_lora_cli.evaluation.training_seeds import SeedGroup, SeedStatistics, seed_differences
from analog_lora_cli.figures.drift import comparison_plot, drift_plot, seeds_plot
from analog_lora_cli.storage.checkpoint import Checkpoint
from analog_lora_cli.storage.files import replacing, write_json, write_text
from analog_lora_cli.storage.layout import COMPARISON_JSON, DRIFT_JSON, DRIFT_PLOT, FIRST_ADAPTER, SEEDS_JSON
from analog_lora_cli.storage.sealed import write_sealed
from analog_lora_cli.workflows.evaluate import Evaluation
from analog_lora_cli.workflows.recover import Recovery


def write_drift(result: DriftResult, folder: Path, title: str) -> None:
    """Write drift.json, drift.csv, drift.png and samples.npz; each appears whole or not at all."""
    write_sealed(folder / DRIFT_JSON, drift_json(result))
    write_text(folder / "drift.csv", drift_csv(result))
    with replacing(folder / DRIFT_PLOT) as beside:
        drift_plot(result, beside, title)
    write_samples(result.measured, folder / "samples.npz")


def write_samples(measured: Measurements, path: Path) -> None:
    """Write the score of each sample in each measurement, so that any other statistic can be computed later.

    `measurements` names the rows; `SET.COLUMN` is (measurements, samples), or (samples,) for what all share: labels,
    clusters.

    Args:
        measured: the measurements.
        path: where the file goes; numpy's npz, which needs no pickle.
    """
    names = [one.key() for one in measured.scores]
    first = next(iter(measured.scores.values()))
    arrays: dict[str, Any] = {
        **(measured.truth or {}),
        **{name: np.stack([scores.samples[name] for scores in measured.scores.values()]) for name in first.samples},
    }
    with replacing(path) as beside, ZipFile(beside, "w", ZIP_DEFLATED) as archive:
        for name, array in {"measurements": np.array(names), **arrays}.items():
            # Not savez, which writes the time of day into the file.
            member = ZipInfo(f"{name}.npy")
            member.compress_type = ZIP_DEFLATED
            with archive.open(member, "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def drift_csv(result: DriftResult) -> str:
    """One line for each metric of each measurement; time and that of a recalibration in seconds after programming,
    Gaussian noise relative to the largest weight of each column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["adapter", "measurement", "time", "seconds", "chip", "read", "metric", "value", "unit", "noise", "calibrated"]
    )
    times = {seconds(label): label for label in result.times}
    for measurement in (DIGITAL, *result.draws):
        name, draw = measurement.kind.replace("_", " "), measurement.read if measurement in result.draws else ""
        for metric, value in result.measured.scores[measurement].metrics.items():
            writer.writerow(
                [result.adapter, name, "", "", "", draw, metric, value, result.metrics[metric].unit, "", ""]
            )
    for measurement in result.labels:
        time, noise = ["", ""], str(measurement.level)
        if measurement.ages:
            time, noise = [times[measurement.seconds], f"{measurement.seconds:.17g}"], ""
        calibrated = "" if measurement.recalibration is None else f"{measurement.calibrated:.17g}"
        for metric, value in result.measured.scores[measurement].metrics.items():
            row = [result.adapter, measurement.kind, *time, measurement.chip, measurement.read, metric, value]
            writer.writerow([*row, result.metrics[metric].unit, noise, calibrated])
    return text.getvalue()


def write_comparison(evaluations: Sequence[Evaluation], folder: Path) -> None:
    """Write comparison.json and comparison.png: several adapters on the same chips, differences paired chip by chip."""
    results = {one.subject.name: one.drift for one in evaluations if one.drift is not None}
    (name, first), *others = results.items()
    write_json(
        folder / COMPARISON_JSON,
        {
            "format": COMPARISON_FORMAT,
            "unit_of_comparison": "chip",
            "metric": first.metric,
            "first": name,
            "chips": first.chips,
            "differences": {
                other: {label: paired_difference(first, result, label) for label in first.conditions}
                for other, result in others
            },
            "differences_by_metric": {
                metric: {
                    other: {label: paired_difference(first, result, label, metric) for label in first.conditions}
                    for other, result in others
                }
                for metric in first.digital
            },
        },
    )
    with replacing(folder / "comparison.png") as beside:
        comparison_plot(results, beside, f"{first.metric} on the same {len(first.chips)} chips")


def write_seeds(group: SeedGroup, folder: Path) -> None:
    """Write seeds.json: one method over several training seeds."""
    first = group.first
    write_json(
        folder / SEEDS_JSON,
        {
            "format": SEEDS_FORMAT,
            "metric": first.metric,
            "unit": first.headline.unit,
            "sample_set": first.headline.sample_set,
            "higher_is_better": first.headline.higher_is_better,
            "training_seeds": group.training_seeds,
            "chips": first.chips,
            "samples": first.sizes(),
            "warnings": group.warnings,
            "baseline": first.baseline,
            "digital": {name: group.values(name, None) for name in first.digital},
            "converters_only": {name: [one.converters_only[name] for one in group.results] for name in first.digital},
            "times": [
                {"label": label, "seconds": seconds(label), "metrics": _of_all_metrics(group, label)}
                for label in group.times
            ],
            **recalibrated_rows(first, lambda label: {"metrics": _of_all_metrics(group, label)}),
            "gaussian": [
                {"label": label, "level": noise_level(label), "metrics": _of_all_metrics(group, label)}
                for label in group.levels
            ]
            or None,
        },
    )


def _of_all_metrics(group: SeedGroup, label: str) -> dict[str, SeedStatistics]:
    return {name: group.summary(name, label) for name in group.first.digital}


def write_seed_comparison(groups: Sequence[SeedGroup], folder: Path) -> None:
    """Write comparison.json and comparison.png: several methods, the training seed as the unit."""
    first, *others = groups
    metric = first.first.metric
    write_json(
        folder / COMPARISON_JSON,
        {
            "format": COMPARISON_FORMAT,
            "unit_of_comparison": "training seed",
            "metric": metric,
            "first": first.name,
            "chips": first.first.chips,
            "training_seeds": {group.name: group.training_seeds for group in groups},
            "values": {
                group.name: {label: group.values(metric, label) for label in first.conditions} for group in groups
            },
            "differences": {other.name: seed_differences(first, other) for other in others},
        },
    )
    with replacing(folder / "comparison.png") as beside:
        seeds_plot(groups, beside, f"{metric}, one line a training seed, on the same {len(first.first.chips)} chips")


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of one deployment with several adapters, and of separate models for the same tasks."""

    adapters: int
    on_tiles: int
    digital: int
    """Parameters of the base that no tile holds, without heads; all adapters share them."""
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


def write_deployment(evaluations: Sequence[Evaluation], folder: Path) -> None:
    """Write deployment.json: every adapter's result and the parameter count."""
    count = count_parameters(evaluations[0].subject.checkpoint, [one.subject.adapter for one in evaluations])
    content: dict[str, Any] = {
        "format": 1,
        "parameters": {**vars(count), "deployment": count.deployment, "separate": count.separate},
        "adapters": {
            one.subject.adapter: {"task": one.subject.config.task.name, **drift_json(one.drift)}
            for one in evaluations
            if one.drift is not None
        },
    }
    write_json(folder / "deployment.json", content)


def write_recovery(recovery: Recovery, folder: Path) -> None:
    """Write the new adapter's drift files, and with an adapter that it started from adaptation.json and .png."""
    write_drift(recovery.after.stored, folder, recovery.after.subject.name)
    if recovery.before is None:
        return
    write_drift(recovery.before.stored, folder / "before", recovery.before.subject.name)
    write_json(folder / "adaptation.json", recovery.as_json())
    lines, title = _recovery_lines(recovery)
    with replacing(folder / "adaptation.png") as beside:
        comparison_plot(lines, beside, title)


def _recovery_lines(recovery: Recovery) -> tuple[dict[str, DriftResult], str]:
    """The results to draw by their name in the legend, and the title."""
    title = f"{recovery.after.metric}: {recovery.adaptation.name}"
    own, chip = recovery.on_own_chip(), recovery.adaptation.chip
    if own is None or chip is None:
        return recovery.results(), title
    lines = {f"chip {chip.seed}, before": own[0], f"chip {chip.seed}, after": own[1]}
    others = {f"other chips, {key}": value.without_chip(chip.seed) for key, value in recovery.results().items()}
    lines |= {key: value for key, value in others.items() if value.chips}
    return lines, f"{title}, trained on chip {chip.seed} at {chip.at}"
