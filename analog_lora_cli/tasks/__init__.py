"""Tasks: their data, features and metrics. Tasks know nothing of the hardware."""

from __future__ import annotations

from analog_lora_cli.tasks.base import EvalSet, Task
from analog_lora_cli.tasks.metric import Metric
from analog_lora_cli.tasks.registry import make_task, register
from analog_lora_cli.tasks.scores import Scores

__all__ = ["EvalSet", "Metric", "Scores", "Task", "make_task", "register"]
