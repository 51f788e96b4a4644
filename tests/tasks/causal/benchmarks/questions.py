"""Files of benchmarks with a few questions in the columns of the hub, and a tiny model that reads bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LABELS = ["A", "B", "C", "D"]


def _choices(name: str, *texts: str) -> dict[str, Any]:
    return {name: {"text": list(texts), "label": LABELS[: len(texts)]}}


ROWS: dict[str, list[dict[str, Any]]] = {
    "arc_easy": [
        {"question": "What holds a weight?", **_choices("choices", "a tile", "rain"), "answerKey": "A"},
        {"question": "Which is cold?", **_choices("choices", "fire", "the sun", "ice"), "answerKey": "C"},
    ],
    "boolq": [
        {"passage": "Noise is not a signal. " * 9, "question": "is noise a signal", "label": 0},
        {"passage": "Chips drift.", "question": "do chips drift", "label": 1},
    ],
    "copa": [
        {"premise": "Chips age.", "choice1": "They drift.", "choice2": "Birds sing.", "question": "effect", "label": 0},
        {"premise": "It was warm.", "choice1": "It snowed.", "choice2": "Sun shone.", "question": "cause", "label": 1},
    ],
    "gsm8k": [{"question": f"What is {a} plus {a}?", "answer": f"It is {2 * a}.\n#### {2 * a}"} for a in (3, 14, 5)],
    "hellaswag": [
        {
            "activity_label": "Reading",
            "ctx_a": "A man opens a book.",
            "ctx_b": "he",
            "endings": ["reads [title] it.", "eats it.", "is a tile.", "flies away and away."],
            "label": "0",
        },
        {
            "activity_label": "Rowing",
            "ctx_a": "Two boats start.",
            "ctx_b": "one",
            "endings": ["melts.", "wins.", "is green and is blue.", "reads."],
            "label": "1",
        },
    ],
    "lambada_openai": [{"text": "the tile reads the chip"}, {"text": "noise holds a weight"}],
    "openbookqa": [
        {"question_stem": "The sun is", **_choices("choices", "hot", "a very cold stone"), "answerKey": "A"},
        {"question_stem": "Water can", **_choices("choices", "burn", "flow", "think"), "answerKey": "B"},
    ],
    "piqa": [
        {"goal": "To read a chip, ", "sol1": "apply a voltage.", "sol2": "sing to it for an hour.", "label": 0},
        {"goal": "dry a towel", "sol1": "wet it", "sol2": "hang it up", "label": 1},
    ],
    "sciq": [
        {
            "question": "What drifts?",
            "distractor1": "gold",
            "distractor2": "air",
            "distractor3": "light",
            "correct_answer": "conductance",
            "support": " A conductance drifts.",
        },
        {
            "question": "Which one is a metal?",
            "distractor1": "wood",
            "distractor2": "milk",
            "distractor3": "salt",
            "correct_answer": "tin",
            "support": "",
        },
    ],
    "winogrande": [
        {"sentence": "The chip beat the CPU as _ was fast.", "option1": "the chip", "option2": "it", "answer": "1"},
        {"sentence": "Ann met Bo, and _ left early.", "option1": "Ann", "option2": "Bo", "answer": "2"},
    ],
}  # fmt: skip
"""Questions by benchmark."""


def write_questions(folder: Path) -> Path:
    """Write all questions as NAME.jsonl, with the solved examples that gsm8k shows."""
    for name, rows in ROWS.items():
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    shots = [{"question": f"What is {a} plus 1?", "answer": f"One more.\n#### {a + 1}"} for a in range(7)]
    (folder / "gsm8k_train.jsonl").write_text("\n".join(json.dumps(row) for row in shots))
    return folder


def byte_tokenizer() -> Any:
    """A tokenizer with one token for each byte, and for each of a few frequent pairs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("Ġ", "a"), ("i", "s"), ("Ġt", "h"), ("Ġth", "e"), ("Ġ", "y"), ("Ġ", "n")]
    words = ["</s>", *alphabet, *("".join(pair) for pair in merges)]
    model = models.BPE({word: index for index, word in enumerate(words)}, merges)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", padding_side="left")


def byte_model(tokenizer: Any, positions: int = 1024) -> Any:
    """A Llama of 2 layers and hidden size 32 with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=positions,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config).eval()
