"""Keys of the tasks whose metrics are chosen."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated

from pydantic import Field, model_validator

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.metrics import METRICS, Compared, Metrics, ModuleMetric, check_metrics
from analog_lora_cli.config.sections.task import TaskSection


class MeasuredSection(TaskSection):
    """Base of the tasks whose metrics are chosen."""

    metrics: Annotated[list[str | ModuleMetric] | None, Field(min_length=1), Metrics(METRICS), Affects("score")] = None
    """Metrics, the headline first."""

    @property
    @abstractmethod
    def compares(self) -> Compared:
        """What labels and predictions are."""

    @model_validator(mode="after")
    def _metrics_suit(self) -> MeasuredSection:
        if self.metrics is not None:
            try:
                check_metrics(self.metrics, self.compares)
            except ValueError as error:
                raise ValueError(f"metrics: {error}") from error
        return self

    @property
    def own_code(self) -> list[str]:
        return [metric.name for metric in self.metrics or [] if isinstance(metric, ModuleMetric)]
