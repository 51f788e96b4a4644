"""Sections of the configuration for tests of one task, without a whole configuration."""

from __future__ import annotations

from analog_lora_cli.config.registry import TASKS
from analog_lora_cli.config.sections.task import TaskSection


def task_section(**keys: object) -> TaskSection:
    """The section of the task that `name` says.

    Raises:
        ValidationError: there is no such task, or it does not have one of the keys.
    """
    section = TASKS.validate(keys)
    assert isinstance(section, TaskSection)
    return section
