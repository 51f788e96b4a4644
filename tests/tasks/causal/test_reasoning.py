"""Questions with a final answer: the forms of data, the prompts, and the model's own answers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from analog_lora_cli.config.sections.causal import InstructionSection
from analog_lora_cli.config.sections.reasoning import ReasoningSection
from analog_lora_cli.data import generate_tiny_llama
from analog_lora_cli.errors import DataError
from analog_lora_cli.tasks.causal.generation import generated_tokens
from analog_lora_cli.tasks.causal.instruction import Instructions
from analog_lora_cli.tasks.causal.reasoning import Reasoning, answer_scorer

GSM8K = {"question": "How many?", "answer": "48/2 = <<48/2=24>>24 clips.\n48+24 = <<48+24=72>>72.\n#### 72"}
CHOICE = {"question": "5 + 91 =", "choices": {"text": ["97", "96"], "label": ["A", "B"]}, "answerKey": "B"}
END = "<|im_end|>"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(generate_tiny_llama.FOLDER / "tiny-llama")


def task(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Reasoning:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    files = {"train_file": str(file), "validation_file": str(file)}
    values = {"max_length": 256, "max_new_tokens": 8, "instruction": "Think.", "template": "plain", **files, **options}
    return Reasoning(ReasoningSection.model_validate(values), 0)


@pytest.mark.parametrize(
    ("row", "prompt", "answer", "final"),
    [
        (
            GSM8K,
            "How many?\n\nThink.\n\n",
            "<start_working_out>48/2 = 24 clips.\n48+24 = 72.<end_working_out><SOLUTION>72</SOLUTION>",
            "72",
        ),
        (CHOICE, "5 + 91 =\n\nThink.\n\n", "<SOLUTION>96</SOLUTION>", "96"),
        ({"question": "a?", "answer": " b "}, "a?\n\nThink.\n\n", "<SOLUTION>b</SOLUTION>", "b"),
        ({"prompt": "a?", "completion": "b"}, "a?\n\nThink.\n\n", "<SOLUTION>b</SOLUTION>", "b"),
    ],
)
def test_forms(
    row: dict[str, Any], prompt: str, answer: str, final: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    """What is asked is the beginning of what is trained on."""
    own = task(tmp_path, [row])
    (asked,) = own.prompts(tokenizer, 8)
    assert (asked["prompt"], asked["answer"]) == (prompt, final)
    (trained,) = own.train_features(tokenizer)
    assert tokenizer.decode(trained["input_ids"]) == f"{prompt}{answer}{END}"
    assert trained["input_ids"][: len(asked["prompt_ids"])] == asked["prompt_ids"]


def test_the_chat_template(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    own = task(tmp_path, [CHOICE], template="auto", instruction="")
    (asked,) = own.prompts(tokenizer, 8)
    assert asked["prompt"] == f"<|im_start|>user\n5 + 91 ={END}\n<|im_start|>assistant\n"
    assert tokenizer.decode(asked["prompt_ids"]) == asked["prompt"]
    (trained,) = own.train_features(tokenizer)
    assert trained["input_ids"][: len(asked["prompt_ids"])] == asked["prompt_ids"]


def test_prompts_of_instructions(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    """A conversation up to its last answer, which is what a user's reward may compare with."""
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    file = tmp_path / "talk.jsonl"
    file.write_text(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}))
    values = {"train_file": str(file), "validation_file": str(file), "max_length": 128}
    (asked,) = Instructions(InstructionSection.model_validate(values), 0).prompts(tokenizer, 8)
    assert asked["answer"] == "d"
    assert asked["prompt"].endswith(f"assistant\nb{END}\n<|im_start|>user\nc{END}\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "a?", "answer": "thought #### "}, "row.*1: the answer is empty, so there is nothing to compare"),
        ({**CHOICE, "answerKey": "C"}, "'choices' must be an object with lists 'text' and 'label'"),
        ({**CHOICE, "choices": ["96"]}, "'choices' must be an object with lists 'text' and 'label'"),
        ({"question": "a?"}, "expected columns of one of the forms question and choices and answerKey"),
        ({"question": 3, "answer": "b"}, "question must be text, not 3"),
    ],
)
def test_bad_rows(row: dict[str, Any], message: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        task(tmp_path, [row]).prompts(tokenizer, 8)


def test_a_prompt_that_leaves_no_room(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    rows = [{"question": text, "answer": "b"} for text in ("a", "a" * 300)]
    with pytest.raises(DataError, match=r"a prompt of 310 tokens and an answer of up to 8 do not fit into task\.max_"):
        task(tmp_path, rows).prompts(tokenizer, 8)
    dropping = task(tmp_path, rows, too_long="drop")
    assert len(dropping.prompts(tokenizer, 8)) == 1
    assert len(dropping.eval_sets(tokenizer)[0].features) == 1
    with pytest.raises(DataError, match=r"no prompt leaves room for 250 tokens within 256; raise task\.max_length"):
        dropping.prompts(tokenizer, 250)


def test_scores_of_generated_texts(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = [
        f"<start_working_out>a<end_working_out><SOLUTION>7</SOLUTION>{END}",
        "<SOLUTION>8</SOLUTION>",
        "<SOLUTION>9 apples",
        "9",
    ]
    outputs = [np.array(tokenizer(text)["input_ids"], dtype=float) for text in texts]
    scores = answer_scorer(["7", "7", "9", "9"], tokenizer)(outputs)
    assert scores.metrics == {"exact_match": 50.0, "well_formed": 25.0}
    assert scores.samples["right"].tolist() == [1, 0, 1, 0]


def test_answers_do_not_depend_on_the_batch(tokenizer: PreTrainedTokenizerBase) -> None:
    """Nor on the padding: each prompt by itself gives the same tokens, up to an end token and no further."""
    model = AutoModelForCausalLM.from_pretrained(generate_tiny_llama.FOLDER / "tiny-llama").eval()
    prompts = [tokenizer(text)["input_ids"] for text in ("3 + 4 =", "a", "twelve and twenty")]
    longest = max(map(len, prompts))
    inputs = {
        "input_ids": torch.tensor([ids + [0] * (longest - len(ids)) for ids in prompts]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in prompts]),
    }
    together = generated_tokens(model, inputs, [len(ids) for ids in prompts], tokenizer, 6)
    for ids, tokens in zip(prompts, together, strict=True):
        alone = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        assert tokens.tolist() == generated_tokens(model, alone, [len(ids)], tokenizer, 6)[0].tolist()
    assert len({tuple(tokens) for tokens in together}) == 3


def test_an_answer_ends_at_the_first_end_token(tokenizer: PreTrainedTokenizerBase) -> None:
    written = torch.tensor([[9, 7, 8, 0, 0], [9, 7, 7, 7, 7]])
    model: Any = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=[0]), generate=lambda **_: written)
    inputs = {"input_ids": torch.tensor([[9], [9]]), "attention_mask": torch.ones(2, 1)}
    tokens = generated_tokens(model, inputs, [1, 1], tokenizer, 4)
    assert [row.tolist() for row in tokens] == [[7, 8, 0], [7, 7, 7, 7]]
