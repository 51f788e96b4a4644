"""A tiny pretrained model and tiny data, made in-process: no test needs a hub or a download."""

from __future__ import annotations

import csv
import gc
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tests run side by side: more threads each would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without a GPU Triton's kernels run in its interpreter. Decided when triton is first imported, as transformers does.
if not Path("/proc/driver/nvidia").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from analog_lora_cli.runtime import console
from analog_lora_cli.runtime.libraries import prepare_libraries

prepare_libraries()

WORDS = "the tile reads drifts fast slow chip noise holds weight a of good bad cold warm is was unit array".split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _not_quiet() -> None:
    """A command with --quiet in one test does not silence the notes of the next."""
    console.set_quiet(False)


@pytest.fixture(scope="session")
def frozen_modules() -> set[str]:
    """Names of the modules whose objects the garbage collector passes over."""
    return set()


@pytest.fixture(autouse=True, scope="module")
def freeze_libraries(frozen_modules: set[str]) -> None:
    """Let the garbage collector pass over libraries, as commands do: a fifth of the time of tests that train.

    Trainers collect garbage at their end, which would go through every class of every library each time.
    """
    if len(sys.modules) > len(frozen_modules):
        frozen_modules.update(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_the_disk() -> Iterator[None]:
    """Leave out `fsync`, which guards against failing machines: no test could see it work. New processes call it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers and hidden size 32 with random weights and a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-model")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: index for index, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).save_pretrained(folder)
    return folder


CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers and hidden size 32 with random weights, a tied head and a chat template."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-decoder")
    special = ["<unk>", "</s>", "<user>", "<assistant>", "<system>"]
    vocabulary = {word: index for index, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"unk_token": "<unk>", "eos_token": "</s>", "additional_special_tokens": special[2:]}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def instruction_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Training and validation JSON in Alpaca's form: the answer repeats the instruction's last word."""
    folder = tmp_path_factory.mktemp("instructions")
    draw = random.Random(2)
    files = (folder / "train.json", folder / "validation.json")
    for file, count in zip(files, (48, 8), strict=True):
        rows = []
        for _ in range(count):
            words = draw.choices(WORDS, k=draw.randint(3, 9))
            rows.append({"instruction": " ".join(words), "input": "", "output": f"{words[-1]} {words[-1]}"})
        file.write_text(json.dumps(rows))
    return files


@pytest.fixture(scope="session")
def sst2_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Training and validation CSV: a sentence is positive if it says `good`."""
    folder = tmp_path_factory.mktemp("sst2")
    draw = random.Random(0)
    files = (folder / "train.csv", folder / "validation.csv")
    for file, rows in zip(files, (96, 24), strict=True):
        with file.open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["sentence", "label"])
            for row in range(rows):
                words = draw.choices([w for w in WORDS if w not in ("good", "bad")], k=draw.randint(3, 12))
                words.insert(draw.randrange(len(words)), "good" if row % 2 else "bad")
                writer.writerow([" ".join(words), row % 2])
    return files


@pytest.fixture(scope="session")
def squad_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Training and validation SQuAD JSON of a few short passages."""
    folder = tmp_path_factory.mktemp("squad")
    draw = random.Random(1)
    files = (folder / "train.json", folder / "validation.json")
    for file, count in zip(files, (24, 8), strict=True):
        paragraphs = []
        for number in range(count):
            words = draw.choices(WORDS, k=20)
            context = " ".join(words)
            at = draw.randrange(10)
            answer = " ".join(words[at : at + 2])
            start = len(" ".join(words[:at])) + (1 if at else 0)
            question = {
                "id": f"q{number}",
                "question": f"the {words[at]}",
                "answers": [{"text": answer, "answer_start": start}],
            }
            paragraphs.append({"context": context, "qas": [question]})
        file.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return files


@pytest.fixture(scope="session")
def make_config(
    tiny_model: Path,
    tiny_decoder: Path,
    sst2_files: tuple[Path, Path],
    squad_files: tuple[Path, Path],
    instruction_files: tuple[Path, Path],
) -> Callable[..., Any]:
    """Builds a configuration of a tiny model on tiny data; sections are merged key by key."""
    from analog_lora_cli.config.schema import Config

    of_decoder = {"instruction": instruction_files}

    def build(name: str = "sst2", **sections: Any) -> Config:
        files = squad_files if name.startswith("squad") else of_decoder.get(name, sst2_files)
        content: dict[str, Any] = {
            "model": {"name": str(tiny_decoder if name in of_decoder else tiny_model)},
            "task": {
                "name": name,
                "train_file": str(files[0]),
                "validation_file": str(files[1]),
                "max_length": 32,
                **({"doc_stride": 8} if name.startswith("squad") else {}),
            },
            "train": {
                "max_steps": 8,
                "per_device_train_batch_size": 8,
                "save_steps": 2,
                "logging_steps": 1,
                "learning_rate": 1e-3,
            },
            "drift": {"times": ["0s", "1y"], "chips": 2},
        }
        for section, values in sections.items():
            content[section] = {**content[section], **values} if isinstance(content.get(section), dict) else values
        return Config.model_validate(content)

    return build
