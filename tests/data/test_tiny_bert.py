"""The tiny random BERT and the classification data of the smoke presets."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, load_file

from analog_lora_cli.data import generate_quickstart, generate_tiny_bert

MODEL = generate_tiny_bert.FOLDER / "tiny-bert"
SMOKE = generate_tiny_bert.FOLDER / "smoke"


def rows(name: str) -> list[dict[str, str]]:
    with (SMOKE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def generated() -> dict[str, bytes]:
    return generate_tiny_bert.generate()


def test_committed_text_files_are_what_the_generator_writes(generated: dict[str, bytes]) -> None:
    for name, content in generated.items():
        if not name.endswith(".safetensors"):
            assert (generate_tiny_bert.FOLDER / name).read_bytes() == content, (
                f"{name} is stale: run `python -m analog_lora_cli.data.generate_tiny_bert`"
            )


def test_committed_weights_are_what_the_generator_draws(generated: dict[str, bytes]) -> None:
    committed = load_file(MODEL / "model.safetensors")
    drawn = load(generated["tiny-bert/model.safetensors"])
    assert committed.keys() == drawn.keys()
    for name, tensor in committed.items():
        np.testing.assert_allclose(tensor, drawn[name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_generator_writes_into_the_folder_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generated: dict[str, bytes]
) -> None:
    monkeypatch.setattr("sys.argv", ["generate_tiny_bert", str(tmp_path / "new")])
    generate_tiny_bert.main()
    written = {
        path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*") if path.is_file()
    }
    assert written == generated.keys()


def test_the_folder_is_small_and_holds_no_other_file(generated: dict[str, bytes]) -> None:
    files = list(MODEL.iterdir())
    assert {f"tiny-bert/{path.name}" for path in files} == {name for name in generated if name.startswith("tiny-bert/")}
    assert sum(path.stat().st_size for path in files) < 700_000
    assert len(generate_tiny_bert.vocabulary()) <= 1500


def test_vocabulary_has_no_repeated_word_and_padding_first() -> None:
    words = generate_tiny_bert.vocabulary()
    assert len(set(words)) == len(words)
    assert words[0] == "[PAD]"


@pytest.mark.parametrize("head", ["AutoModelForQuestionAnswering", "AutoModelForSequenceClassification"])
def test_loads_with_each_head_and_every_encoder_weight(head: str) -> None:
    transformers: Any = pytest.importorskip("transformers")
    model, info = getattr(transformers, head).from_pretrained(MODEL, output_loading_info=True)
    assert {name.split(".")[0] for name in info["missing_keys"]} <= {"qa_outputs", "classifier"}
    assert {name.split(".")[0] for name in info["unexpected_keys"]} <= {"pooler"}
    assert not info["mismatched_keys"]
    committed = load_file(MODEL / "model.safetensors")
    query = model.base_model.encoder.layer[1].attention.self.query.weight
    np.testing.assert_array_equal(query.detach().numpy(), committed["encoder.layer.1.attention.self.query.weight"])


def test_tokenizer_is_fast_lower_cases_and_knows_the_data() -> None:
    transformers: Any = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    assert tokenizer.is_fast
    assert tokenizer.model_max_length == generate_tiny_bert.POSITIONS
    encoded = tokenizer("Who built Falcon?", "Falcon has 8-bit converters.", return_offsets_mapping=True)
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == [
        *("[CLS]", "who", "built", "falcon", "?", "[SEP]"),
        *("falcon", "has", "8", "-", "bit", "converters", ".", "[SEP]"),
    ]
    assert encoded["token_type_ids"] == [0] * 6 + [1] * 8
    assert encoded["offset_mapping"][8] == (11, 12)
    content = json.loads(generate_quickstart.generate()["validation.json"])
    contexts = [paragraph["context"] for paragraph in content["data"][0]["paragraphs"]]
    for text in (*contexts, *(row["sentence"] for row in rows("sst2-train.csv"))):
        assert tokenizer.unk_token not in tokenizer.tokenize(text)


def test_tokenizer_spells_words_that_it_does_not_know() -> None:
    transformers: Any = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    assert tokenizer.tokenize("zyx") == ["z", "##y", "##x"]


def test_classification_data_is_balanced_and_not_shared() -> None:
    train, validation = rows("sst2-train.csv"), rows("sst2-validation.csv")
    assert len(train) == generate_tiny_bert.TRAIN_SENTENCES
    assert len(validation) == generate_tiny_bert.VALIDATION_SENTENCES
    assert not {row["sentence"] for row in train} & {row["sentence"] for row in validation}
    for part in (train, validation):
        assert {row["label"] for row in part} == {"0", "1"}
        assert 0.35 < sum(row["label"] == "1" for row in part) / len(part) < 0.65
