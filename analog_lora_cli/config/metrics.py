"""The metrics that `task.metrics` can name: those that come along, and modules of `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.registry import OneOf, Registry
from analog_lora_cli.config.section import Section

Compared = Literal["classes", "sets of classes", "tags", "numbers"]
"""What the labels and the predictions of samples are."""


@dataclass(frozen=True)
class BuiltInMetric:
    """A metric that comes with this package."""

    unit: str = "%"
    higher_is_better: bool = True
    compares: tuple[Compared, ...] = ("classes", "sets of classes")
    """What it can compare."""

    @property
    def description(self) -> str:
        """What it compares, its unit and its direction."""
        unit = f"in {self.unit}" if self.unit else "in the label's unit, or its square"
        better = "higher" if self.higher_is_better else "lower"
        return f"of {' or '.join(self.compares)}, {unit}, {better} is better"


METRICS: Registry[BuiltInMetric] = Registry("metric")
"""Metrics by name; each is also a module of `evaluate` in this package's folder `data/metrics`."""

_OF_TAGS_TOO = BuiltInMetric(compares=("classes", "sets of classes", "tags"))
METRICS.register(["accuracy", "f1"], _OF_TAGS_TOO)
METRICS.register(["f1_micro", "f1_macro", "f1_weighted"], BuiltInMetric())
METRICS.register(["precision", "recall"], _OF_TAGS_TOO)
METRICS.register(["matthews_correlation"], BuiltInMetric(compares=("classes",)))
METRICS.register(["pearson", "spearman", "r2"], BuiltInMetric(compares=("numbers",)))
METRICS.register(
    ["mean_absolute_error", "mean_squared_error", "root_mean_squared_error"],
    BuiltInMetric(unit="", higher_is_better=False, compares=("numbers",)),
)


class Metrics(OneOf):
    """Metadata of a field that lists metrics; `check_metrics` checks them together."""

    @property
    def allowed(self) -> str:
        return f"list of {super().allowed}, {{name: FOLDER or hub id, higher_is_better: true or false}}; null"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)


class ModuleMetric(Section):
    """A metric computed by a module of `evaluate`: a local folder, or an id of the hub."""

    name: Annotated[str, Affects("score")]
    """Local folder with `FOLDER/FOLDER.py`, or an id of the hub. Its code is run."""

    higher_is_better: Annotated[bool, Affects("score")]
    """Direction of the metric, which a module does not say itself."""

    unit: Annotated[str, Affects("score")] = ""
    """Unit of the values."""

    value: Annotated[str | None, Affects("score")] = None
    """Entry of the module's result; null: its only one, or the one of the module's name."""

    scale: Annotated[float, Affects("score")] = 1.0
    """Factor by which the entry is multiplied, such as 100 for a percentage."""

    options: Annotated[dict[str, Any], Affects("score")] = Field(default={})
    """Further arguments of the module's `compute`."""

    @property
    def key(self) -> str:
        """Name in tables and drift.json."""
        own = self.name.rstrip("/").rpartition("/")[2].removesuffix(".py")
        return own if self.value is None or self.value == own else f"{own}_{self.value}"


def check_metrics(metrics: list[str | ModuleMetric], compared: Compared) -> list[str | ModuleMetric]:
    """The metrics themselves.

    Args:
        metrics: names of metrics that come along, and modules.
        compared: what labels and predictions of the task are.

    Raises:
        ValueError: a name is not known, does not suit the task, or stands there twice.
    """
    for metric in metrics:
        if isinstance(metric, str):
            _check_name(metric, compared)
    keys = [metric if isinstance(metric, str) else metric.key for metric in metrics]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise ValueError(f"{twice[0]} stands there twice")
    return metrics


def _check_name(name: str, compared: Compared) -> None:
    known = METRICS.get(name)
    if known is None and "/" in name:
        raise ValueError(
            f"{name}: a module of evaluate does not say which direction is better: give "
            f"{{name: {name}, higher_is_better: true}}, or false"
        )
    if known is None:
        raise ValueError(f"{METRICS.unknown(name)}; any other module of evaluate: {{name: ..., higher_is_better: ...}}")
    if compared not in known.compares:
        fitting = [one for one in METRICS.names() if compared in METRICS[one].compares]
        own = " or ".join(known.compares)
        raise ValueError(f"{name} compares {own}, this task has {compared}: use one of {', '.join(fitting)}")
