"""The kinds of task, by the names that `task.name` may take."""

from __future__ import annotations

from analog_lora_cli.config.registry import TASKS, Registry
from analog_lora_cli.config.sections.task import TaskSection
from analog_lora_cli.tasks.base import Task
from analog_lora_cli.tasks.causal.instruction import Instructions
from analog_lora_cli.tasks.causal.reasoning import Reasoning
from analog_lora_cli.tasks.causal.text import NextToken
from analog_lora_cli.tasks.classification.task import TextClassification, TextRegression
from analog_lora_cli.tasks.glue.task import Classification
from analog_lora_cli.tasks.image_classification.task import ImageClassification
from analog_lora_cli.tasks.multiple_choice.task import MultipleChoice
from analog_lora_cli.tasks.squad.task import QuestionAnswering, QuestionAnsweringV2
from analog_lora_cli.tasks.token_classification.task import TokenClassification

_kinds: Registry[type[Task]] = Registry("task")


def register(kind: type[Task]) -> type[Task]:
    """Register a kind of task, with its section, under the names that the section's `name` may take.

    Also a class decorator.

    Raises:
        ValueError: another kind has one of the names.
    """
    return TASKS.register_kind(kind.section, _kinds, kind)


def make_task(config: TaskSection, seed: int) -> Task:
    """The task that `config` describes. Reads no data yet.

    Args:
        config: the `task` section.
        seed: draws the training subset, if the configuration asks for one.
    """
    return _kinds[config.name](config, seed)


register(QuestionAnswering)
register(QuestionAnsweringV2)
register(Classification)
register(TextClassification)
register(TextRegression)
register(TokenClassification)
register(ImageClassification)
register(MultipleChoice)
register(Instructions)
register(Reasoning)
register(NextToken)
