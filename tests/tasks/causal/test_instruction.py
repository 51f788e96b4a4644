"""Instructions: the forms of data, what counts in the loss, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from analog_lora_cli.config.sections.causal import InstructionSection
from analog_lora_cli.errors import AnaloraError, DataError, UsageError
from analog_lora_cli.tasks.causal.instruction import Instructions, encode
from analog_lora_cli.tasks.causal.samples import Sample
from analog_lora_cli.tasks.data.collator import IGNORED

ALPACA = {"instruction": "slow the tile", "input": "", "output": "noise is good"}
CHAT = [
    {"role": "system", "content": "fast"},
    {"role": "user", "content": "slow"},
    {"role": "assistant", "content": "noise"},
    {"role": "user", "content": "the tile"},
    {"role": "assistant", "content": "is good"},
]


@pytest.fixture
def tokenizer(tiny_decoder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_decoder)


def task(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Instructions:
    file = folder / "train.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    files = {"train_file": str(file), "validation_file": str(file)}
    return Instructions(InstructionSection.model_validate({"max_length": 32, **files, **options}), 0)


def texts(task: Instructions, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """The first training sample as text, and that part of it which counts."""
    row = task.train_features(tokenizer)[0]
    counted = [label for label in row["labels"] if label != IGNORED]
    assert all(label in (IGNORED, token) for label, token in zip(row["labels"], row["input_ids"], strict=True))
    return tokenizer.decode(row["input_ids"]), tokenizer.decode(counted)


@pytest.mark.parametrize(
    ("row", "options", "whole", "counted"),
    [
        (ALPACA, {}, "<user> slow the tile </s> <assistant> noise is good </s>", "noise is good </s>"),
        (
            {**ALPACA, "input": "bad chip"},
            {},
            "<user> slow the tile bad chip </s> <assistant> noise is good </s>",
            "noise is good </s>",
        ),
        (
            {"prompt": "slow the", "completion": "tile"},
            {"template": "chat"},
            "<user> slow the </s> <assistant> tile </s>",
            "tile </s>",
        ),
        ({"prompt": "slow the", "completion": "tile"}, {"template": "plain"}, "slow the tile </s>", "tile </s>"),
        (
            {"messages": CHAT},
            {},
            "<system> fast </s> <user> slow </s> <assistant> noise </s> <user> the tile </s> <assistant> is good </s>",
            "noise </s> is good </s>",
        ),
    ],
)
def test_only_the_answer_counts(
    row: dict[str, Any],
    options: dict[str, Any],
    whole: str,
    counted: str,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    assert texts(task(tmp_path, [row], **options), tokenizer) == (whole, counted)


def test_plain_text_has_headed_paragraphs() -> None:
    class Letters:
        chat_template = None
        eos_token_id = 0

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [ord(letter) for letter in text]}

    from analog_lora_cli.tasks.causal.samples import Alpaca
    from analog_lora_cli.tasks.data.files import Row

    sample = Alpaca().sample(Row("row 1", {**ALPACA, "input": "a chip"}), "it")
    sequence = encode(sample, Letters(), InstructionSection())  # type: ignore[arg-type]
    text = "".join(map(chr, sequence.tokens[:-1]))
    assert text == "### Instruction:\nslow the tile\n\n### Input:\na chip\n\n### Response:\nnoise is good"
    assert sequence.counted == len("noise is good") + 1


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{**ALPACA, "output": " "}], {}, r"train\.jsonl, line 1: the answer is empty"),
        ([ALPACA, {"instruction": "slow"}], {}, r"line 2: the column 'output' is missing"),
        ([{"question": "a", "answer": "b"}], {}, r"line 1: expected columns of one of the forms messages; prompt and"),
        ([{"messages": "slow"}], {}, r"line 1: 'messages' must be a list"),
        ([{"messages": CHAT[:2]}], {}, r"line 1: the last message is of 'user', expected an answer"),
        ([{"messages": [{"role": "user"}]}], {}, r"line 1, message 1: expected an object with 'role' and 'content'"),
        ([{"messages": CHAT}], {"template": "plain"}, r"task\.template: plain, but .*line 1 is a conversation"),
        (
            [{**ALPACA, "output": "good " * 40}],
            {},
            r"line 1: its answer does not fit: 47 tokens, task\.max_length allows 32: raise it, or .*task\.too_long",
        ),
        (
            [{**ALPACA, "instruction": "slow " * 40}],
            {"too_long": "truncate"},
            r"task\.max_length: no train sample fits",
        ),
        ([{**ALPACA, "output": "good " * 40}], {"too_long": "drop"}, r"task\.max_length: no train sample fits"),
    ],
)
def test_bad_data_have_one_clear_error(
    rows: list[dict[str, Any]],
    options: dict[str, Any],
    message: str,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    with pytest.raises(AnaloraError, match=message) as error:
        task(tmp_path, rows, **options).train_features(tokenizer)
    assert isinstance(error.value, (DataError, UsageError))


def test_messages_need_a_chat_template(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tokenizer.chat_template = None
    with pytest.raises(UsageError, match=r"line 1: 'messages' need a chat template, and .* has none"):
        task(tmp_path, [{"messages": CHAT}]).train_features(tokenizer)
    with pytest.raises(UsageError, match=r"task\.template: chat, but .* has no chat template"):
        task(tmp_path, [ALPACA], template="chat").train_features(tokenizer)


def test_a_template_that_rewrites_what_it_wrote_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{{ messages | length }} {% for m in messages %}{{ m['content'] }} {% endfor %}"
    sample = Sample("line 1", CHAT, None)
    with pytest.raises(UsageError, match=r"line 1: the tokenizer's chat template writes a conversation anew"):
        encode(sample, tokenizer, InstructionSection())


def test_long_samples_are_cut_or_left_out(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    rows = [{**ALPACA, "output": "good " * 40}, ALPACA]
    cut = task(tmp_path, rows, too_long="truncate").train_features(tokenizer)
    assert cut["length"] == [32, 10] and cut[0]["labels"][-1] != IGNORED
    assert task(tmp_path, rows, too_long="drop").train_features(tokenizer)["length"] == [10]


def test_a_share_is_kept_for_validation(
    make_config: Callable[..., Any], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    """The same samples for every training seed; none is trained on; the training file is part of the validation's
    identity."""
    section = make_config("instruction", task={"validation_file": None, "validation_share": 0.25}).task
    first, second = Instructions(section, 0), Instructions(section, 1)
    kept = [first.samples("validation"), second.samples("validation")]
    assert kept[0] == kept[1] and len(kept[0]) == 12
    trained = {sample.where for sample in first.samples("train")}
    assert len(trained) == 36 and not trained & {sample.where for sample in kept[0]}
    assert first.data_files()["validation"] == first.data_files()["train"]
    (tmp_path / "one").mkdir()
    alone = task(tmp_path / "one", [ALPACA], validation_file=None)
    with pytest.raises(DataError, match="1 samples are too few to keep 1 apart for validation"):
        alone.samples("train")


def test_training_data_must_be_named() -> None:
    with pytest.raises(UsageError, match=r"task\.train_file: task instruction has no data set of its own"):
        Instructions(InstructionSection(), 0).samples("train")
