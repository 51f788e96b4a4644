"""What a report shows: the stored results of each run, and what its checkpoint says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analog_lora_cli.evaluation.stored_result import StoredResult
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.storage.checkpoint import Checkpoint


@dataclass(frozen=True)
class ConfigDifference:
    """A key of a run's configuration that is not as in its preset."""

    key: str
    preset: Any
    here: Any


@dataclass(frozen=True)
class LayerError:
    """Measured error of one layer's product, relative."""

    layer: str
    effects: tuple[tuple[str, float], ...]
    """The error with each effect and all those before it."""


@dataclass(frozen=True)
class StoredErrors:
    """What `inspect-tiles --errors` wrote beside a checkpoint."""

    inputs: str
    chips: tuple[int, ...]
    effects: tuple[str, ...]
    layers: tuple[LayerError, ...]
    """The worst first."""


@dataclass(frozen=True)
class RunContent:
    """One run: a checkpoint, one of the trainings of a folder of `train --seeds`, or results alone."""

    name: str
    folder: Path
    results: tuple[StoredResult, ...]
    """By adapter; of a folder of `train --seeds` also those of each training after that of the method."""
    checkpoint: Checkpoint | None
    """None where the folder holds results alone."""
    trainings: tuple[Checkpoint, ...] = ()
    """All checkpoints of a folder of `train --seeds`."""
    preset: str | None = None
    """The preset that the configuration came from, by its description; None: not known."""
    differences: tuple[ConfigDifference, ...] = ()
    inspection: Inspection | None = None
    errors: StoredErrors | None = None

    @property
    def main(self) -> StoredResult:
        """The result that stands for the run."""
        return self.results[0]

    def renamed(self, name: str) -> RunContent:
        """The same run under another name."""
        results = (replace(one, name=name + one.name.removeprefix(self.name)) for one in self.results)
        return replace(self, name=name, results=tuple(results))

    @property
    def curves(self) -> list[tuple[str, list[dict[str, float]]]]:
        """The logged steps of each training by its name."""
        logs = [(one.folder.name, list(one.manifest["training"].get("log", ()))) for one in self.trainings]
        return [(name, log) for name, log in logs if len(log) > 1]


@dataclass(frozen=True)
class StoredComparison:
    """comparison.json of `evaluate-drift A B --output`."""

    file: Path
    metric: str
    first: str
    unit: str
    """What the comparison is over: `chip` or `training seed`."""
    differences: dict[str, dict[str, dict[str, Any]]]
    """Statistics of other minus first, by the other's name and the condition."""


@dataclass(frozen=True)
class Report:
    """Everything that a report shows."""

    runs: tuple[RunContent, ...]
    comparisons: tuple[StoredComparison, ...]
    title: str
    version: str
    written: str
    """Day of the report, in UTC."""

    @property
    def by_metric(self) -> dict[str, list[StoredResult]]:
        """The result that stands for each run, by the metric; those of one metric can be compared."""
        found: dict[str, list[StoredResult]] = {}
        for run in self.runs:
            found.setdefault(run.main.metric.label, []).append(run.main)
        return found
