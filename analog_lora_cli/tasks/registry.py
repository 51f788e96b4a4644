"""The kinds of task, by the names that `task.name` may take."""

from __future__ import annotations

from analog_lora_cli.config.schema import TaskConfig
from analog_lora_cli.tasks.base import Task
from analog_lora_cli.tasks.glue.task import Classification
from analog_lora_cli.tasks.squad.task import QuestionAnswering, QuestionAnsweringV2

_kinds: dict[str, type[Task]] = {}


def register(kind: type[Task]) -> type[Task]:
    """Make a kind of task known under its names; also a class decorator.

    Raises:
        ValueError: another kind has one of the names.
    """
    for name in kind.names:
        if _kinds.setdefault(name, kind) is not kind:
            raise ValueError(f"task {name} is already {_kinds[name].__name__}")
    return kind


def make_task(config: TaskConfig, seed: int) -> Task:
    """The task that `config` describes. Reads no data yet.

    Args:
        config: the `task` section.
        seed: draws the training subset, if the configuration asks for one.
    """
    return _kinds[config.name](config, seed)


register(QuestionAnswering)
register(QuestionAnsweringV2)
register(Classification)
