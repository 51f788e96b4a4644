"""Tasks: their data, features and metrics. Tasks know nothing of the hardware."""

from __future__ import annotations

from analog_lora_cli.config.sections.task import TaskSection
from analog_lora_cli.tasks.base import EvalSet, Task

__all__ = ["EvalSet", "Task", "make_task"]


def make_task(config: TaskSection, seed: int) -> Task:
    """The task that `config` describes. Reads no data yet.

    Args:
        config: the `task` section.
        seed: draws the training subset, if the configuration asks for one.
    """
    from analog_lora_cli.tasks.glue.task import Classification
    from analog_lora_cli.tasks.squad.task import QuestionAnswering

    kind = QuestionAnswering if config.name.startswith("squad") else Classification
    return kind(config, seed)
