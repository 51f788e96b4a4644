"""The content of drift.json, and the grid of measurements that it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from analog_lora_cli.config.noise_levels import noise_level
from analog_lora_cli.config.recalibration import Recalibration
from analog_lora_cli.config.times import seconds
from analog_lora_cli.evaluation.drift_result import FORMAT, DriftResult
from analog_lora_cli.evaluation.measurement import Measurement


def drift_json(result: DriftResult) -> dict[str, object]:
    """The content of drift.json."""
    return {
        "format": FORMAT,
        "metric": result.metric,
        "higher_is_better": result.headline.higher_is_better,
        "unit": result.headline.unit,
        "sample_set": result.headline.sample_set,
        "adapter": result.adapter,
        "warnings": result.warnings,
        "samples": result.sizes(),
        "baseline": result.baseline,
        "digital": result.digital,
        "digital_ci95": {name: result.digital_interval(name) for name in result.digital},
        "converters_only": result.converters_only,
        "converters_only_draws": {name: _over_draws(result, name) for name in result.digital},
        "hardware": result.hardware.model_dump(mode="json"),
        "chips": result.chips,
        "training_seeds": result.training_seeds,
        "times": [{"label": label, "seconds": seconds(label), **_row(result, label)} for label in result.times],
        **recalibrated_rows(result, lambda label: _row(result, label)),
        "recalibration": _recalibration(result),
        "gaussian": [{"label": label, "level": noise_level(label), **_row(result, label)} for label in result.levels]
        or None,
        "reference": result.reference,
    }


def recalibrated_rows(
    result: DriftResult, row: Callable[[str], Mapping[str, object]]
) -> dict[str, list[dict[str, object]] | None]:
    """Rows of the times after a recalibration, by key: of the same time, and of an earlier one; None without any.

    Args:
        result: the result.
        row: the numbers under the label of a condition.
    """
    times = {seconds(label): label for label in result.times}
    examples = {label: one for one, label in result.labels.items()}
    now: list[dict[str, object]] = []
    before: list[dict[str, object]] = []
    for label in result.recalibrated:
        one = examples[label]
        head = {"label": times[one.seconds], "seconds": one.seconds}
        if one.calibrated == one.seconds:
            now.append({**head, **row(label)})
        else:
            before.append({**head, "calibrated_seconds": one.calibrated, **row(label)})
    return {"recalibrated": now or None, "recalibrated_before": before or None}


def _recalibration(result: DriftResult) -> dict[str, object] | None:
    """Settings of the recalibrations, and what each took and gave in the mean; None without any."""
    settings, costs = result.recalibration, result.calibrations
    if settings is None or not costs:
        return None
    names = sorted({name for cost in costs for name in cost.ranks})
    return {
        **asdict(settings),
        "parameters": float(np.mean([cost.parameters for cost in costs])),
        "seconds": float(np.mean([cost.seconds for cost in costs])),
        "explained": float(np.mean([cost.explained for cost in costs])),
        "ranks": {name: float(np.mean([cost.ranks.get(name, 0) for cost in costs])) for name in names},
    }


def _over_draws(result: DriftResult, metric: str) -> dict[str, object]:
    statistics = result.over_draws(metric).statistics()
    return {"ci95_draws" if key == "ci95_chips" else key: value for key, value in statistics.items()}


def _row(result: DriftResult, label: str) -> dict[str, object]:
    return {
        "chips": result.chips_at(label),
        "reads": result.reads_at(label),
        "metrics": {name: result.summary(name, label) for name in result.digital},
    }


def measured_grid(content: Mapping[str, Any]) -> dict[Measurement, str]:
    """The measurements over chips that a drift.json was made from, each with the label of its time or noise.

    Args:
        content: the content of a drift.json.
    """
    if content.get("format") != FORMAT:
        return {}
    over_drift = {
        Measurement("chip", chip, float(time["seconds"]), read): time["label"]
        for time in content["times"]
        for chip, reads in zip(time.get("chips", ()), time.get("reads", ()), strict=True)
        for read in range(reads)
    }
    with_noise = {
        Measurement("gaussian", chip, level=float(row["level"])): row["label"]
        for row in content.get("gaussian") or ()
        for chip in row["chips"]
    }
    return over_drift | _recalibrated_grid(content) | with_noise


def _recalibrated_grid(content: Mapping[str, Any]) -> dict[Measurement, str]:
    own = content.get("recalibration")
    if own is None:
        return {}
    settings = Recalibration(own["rank"], own["tokens"], own["reads"])
    rows = [*(content.get("recalibrated") or ()), *(content.get("recalibrated_before") or ())]
    return {
        Measurement(
            "recalibrated", chip, float(row["seconds"]), read, recalibration=settings,
            calibrated=float(row.get("calibrated_seconds", row["seconds"])),
        ): row["label"]
        for row in rows
        for chip, reads in zip(row["chips"], row["reads"], strict=True)
        for read in range(reads)
    }  # fmt: skip
