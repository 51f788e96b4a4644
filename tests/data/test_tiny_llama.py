"""The tiny random Llama of the smoke presets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from analog_lora_cli.data import generate_tiny_llama

MODEL = generate_tiny_llama.FOLDER / "tiny-llama"


@pytest.fixture(scope="module")
def generated() -> dict[str, bytes]:
    return generate_tiny_llama.generate()


def test_committed_files_are_what_the_generator_writes(generated: dict[str, bytes]) -> None:
    for name, content in generated.items():
        if not name.endswith(".safetensors"):
            assert (generate_tiny_llama.FOLDER / name).read_bytes() == content, (
                f"{name} is stale: run `python -m analog_lora_cli.data.generate_tiny_llama`"
            )
    drawn = load(generated["tiny-llama/model.safetensors"])
    committed = load_file(MODEL / "model.safetensors")
    assert committed.keys() == drawn.keys()
    for name, tensor in committed.items():
        np.testing.assert_allclose(tensor, drawn[name], rtol=1e-6, atol=1e-7, err_msg=name)
    assert {f"tiny-llama/{path.name}" for path in MODEL.iterdir()} == generated.keys()
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 500_000


def test_generator_writes_into_the_folder_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generated: dict[str, bytes]
) -> None:
    monkeypatch.setattr("sys.argv", ["generate_tiny_llama", str(tmp_path / "new")])
    generate_tiny_llama.main()
    written = {path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*.*")}
    assert written == generated.keys()


def test_loads_with_every_weight_and_a_tied_head() -> None:
    model, info = AutoModelForCausalLM.from_pretrained(MODEL, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_tokenizer_spells_any_text_and_has_a_chat_template() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    text = "Grüße, 7 % of <SOLUTION>\n\t∂x</SOLUTION>"
    assert tokenizer.is_fast and tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert [tokenizer(tag)["input_ids"] for tag in generate_tiny_llama.TAGS] == [[2], [3], [4], [5]]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "3 + 4 ="}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<|im_start|>user\n3 + 4 =<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
