"""Example inputs of language models, for the code in an exported README."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from analog_lora_cli.tasks.base import Example
from analog_lora_cli.tasks.causal.samples import Alpaca
from analog_lora_cli.tasks.data.files import Row


@dataclass(frozen=True)
class Continuation(Example):
    """A text to continue."""

    outputs: str = "tokenizer.decode(outputs[0], skip_special_tokens=True)"
    call: str = "model.generate(**inputs, do_sample=False, max_new_tokens=20)"


@dataclass(frozen=True)
class Instruction(Continuation):
    """An instruction to follow, in the form that the model was tuned with."""

    template: Literal["auto", "chat", "plain"] = "auto"
    """As `task.template`."""

    def inputs(self) -> str:
        (instruction,) = self.texts
        sample = Alpaca().sample(Row("example", {"instruction": instruction, "output": "..."}), "example")
        assert sample.prompt is not None
        plain = Continuation((sample.prompt,)).inputs()
        chat = [
            f'chat = [{{"role": "user", "content": {json.dumps(instruction)}}}]',
            'inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", '
            "return_dict=True)",
        ]
        if self.template == "plain":
            return plain
        if self.template == "chat":
            return "\n".join(chat)
        return "\n".join([plain, "if tokenizer.chat_template is not None:", *(f"    {line}" for line in chat)])
