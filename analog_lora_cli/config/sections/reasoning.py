"""The `task` section of questions that a language model reasons about."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.registry import TASKS
from analog_lora_cli.config.sections.causal import InstructionSection

REASONING_TAGS = ("<start_working_out>", "<end_working_out>")
SOLUTION_TAGS = ("<SOLUTION>", "</SOLUTION>")
"""The tags around reasoning and solution, those of the paper."""


class ReasoningSection(InstructionSection):
    """Questions with a final answer, which the model writes between tags, perhaps after its reasoning."""

    name: Annotated[Literal["reasoning"], Affects("architecture", "score", "training")] = "reasoning"  # type: ignore[assignment]
    """Questions with a final answer: columns `question` and `answer` (as in GSM8K, where `####` stands before the final
    one), `question`, `choices` and `answerKey`, or `prompt` and `completion`. Files are JSON, JSONL or CSV."""

    instruction: Annotated[str, Affects("architecture", "read", "training")] = (
        f"Work out the answer between {REASONING_TAGS[0]} and {REASONING_TAGS[1]}. Then give the answer alone between "
        f"{SOLUTION_TAGS[0]} and {SOLUTION_TAGS[1]}."
    )
    """What the model is told after each question; empty: nothing."""

    max_new_tokens: Annotated[int, Affects("score"), Unit("tokens")] = Field(default=256, ge=1)
    """Longest answer when the model is measured. With the question it must fit into `max_length`."""

    @model_validator(mode="after")
    def _room_for_questions(self) -> ReasoningSection:
        if self.max_new_tokens >= self.max_length:
            raise ValueError(
                f"max_new_tokens ({self.max_new_tokens}) leaves no room for a question within max_length "
                f"({self.max_length})"
            )
        return self


TASKS.register(["reasoning"], ReasoningSection)
