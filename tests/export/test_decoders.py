"""Exports of language models: each generates, in a process of its own, the tokens that the checkpoint's model does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from analog_lora_cli.config.schema import Config
from analog_lora_cli.export.export import export
from analog_lora_cli.export.request import ExportRequest
from analog_lora_cli.export.source import Source
from analog_lora_cli.models.tiling import put_on_tiles
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training
from tests.conftest import WORDS
from tests.models.decoders import make_decoder

FORMATS = ("peft", "merged", "conductances", "aihwkit")
NUMBER = 8
"""Tokens to generate."""
PROMPTS = ["the tile reads", "noise", "a good chip holds weight"]
HARDWARE = {"tile_rows": 24, "tile_columns": 20, "clip_sigma": 1.5, "dac_bits": 4, "output_noise": 0.0}
"""Several tiles a layer, clipping that one cannot overlook, no noise so that tokens can be compared."""
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-bf16": ("llama", {"model": {"dtype": "bfloat16"}}),
    "gpt2": ("gpt2", {}),
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "gpt2-dora": ("gpt2", {"adapter": {"variant": "dora", "dropout": 0.0}}),
    "gpt2-full": ("gpt2", {"method": "full"}),
    **{kind: (kind, {}) for kind in ("mistral", "qwen2", "qwen3", "gemma", "phi", "phi3", "gpt_neox", "opt")},
}

LOAD = """
import json, sys
from pathlib import Path
try:
    import torchvision
except Exception:
    sys.modules["torchvision"] = None
import torch, transformers
torch.set_num_threads(1)

def load(kind, folder):
    auto = transformers.AutoModelForCausalLM
    if kind == "merged":
        return auto.from_pretrained(folder, dtype=torch.float32)
    if kind == "peft":
        from peft import PeftModel
        return PeftModel.from_pretrained(auto.from_pretrained(folder / "base", dtype=torch.float32), folder)
    if kind == "conductances":
        from analog_lora_cli import load_conductances
        return load_conductances(folder)
    sys.path.insert(0, str(folder))
    sys.modules.pop("load", None)
    from load import load_model
    return load_model(folder)

prompts, number = json.loads(sys.argv[1])
for run in map(Path, sys.argv[2:]):
    tokens = {}
    for kind in ("peft", "merged", "conductances", "aihwkit"):
        if (run / kind).exists():
            model = load(kind, run / kind).eval()
            tokenizer = transformers.AutoTokenizer.from_pretrained(run / kind)
            tokenizer.pad_token = tokenizer.eos_token
            inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
            result = model.generate(**inputs, do_sample=False, max_new_tokens=number)
            tokens[kind] = result[:, -number:].tolist()
    (run / "tokens.json").write_text(json.dumps(tokens))
"""


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUNS, as `run_and_export` leaves them."""
    return run_and_export(RUNS, tmp_path_factory.mktemp("decoders"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OTHERS, as `run_and_export` leaves them."""
    return run_and_export(OTHERS, tmp_path_factory.mktemp("others"))


def run_and_export(runs: dict[str, tuple[str, dict[str, Any]]], root: Path) -> Path:
    """Train, measure and export models in all formats; `tokens.json` has what one new process generates with them."""
    text = root / "text.txt"
    text.write_text(" ".join(WORDS * 20))
    for name, (kind, changes) in runs.items():
        model = make_decoder(kind, root / name / "model")
        task = {"name": "text", "train_file": str(text), "validation_file": str(text), "max_length": 16}
        sections = {
            "model": {"name": str(model), **changes.get("model", {})},
            "task": {**task, "max_train_samples": 8, "max_eval_samples": 2},
            "hardware": HARDWARE,
            "drift": {"times": ["1y"], "chips": 1},
            "train": {"max_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "save_steps": 4},
            **{key: value for key, value in changes.items() if key != "model"},
        }
        checkpoint = root / name / "checkpoint"
        run_training(Config.model_validate(sections), checkpoint, SilentObserver())
        for form in FORMATS if kind in ("llama", "gpt2") else FORMATS[:3]:
            if form != "peft" or changes.get("method") != "full":
                export(ExportRequest(checkpoint=checkpoint, format=form, output=root / name / form), lambda text: None)
    code = [sys.executable, "-c", LOAD, json.dumps([PROMPTS, NUMBER]), *(str(root / name) for name in runs)]
    done = subprocess.run(code, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return root


def generated(exports: Path, name: str) -> dict[str, list[list[int]]]:
    """Tokens of the checkpoint's model, by whether its layers compute on tiles."""
    loaded = Source.open(exports / name / "checkpoint", "default").build()
    tokenizer = loaded.processor
    assert tokenizer is not None
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    analog = put_on_tiles(loaded, loaded.config.hardware)
    loaded.module.float()  # As exports are computed.

    def tokens() -> list[list[int]]:
        result = loaded.module.generate(**inputs, do_sample=False, max_new_tokens=NUMBER)  # type: ignore[operator]
        return result[:, -NUMBER:].tolist()  # type: ignore[no-any-return]

    on_tiles = tokens()
    with analog.digital():
        return {"analog": on_tiles, "digital": tokens()}


@pytest.mark.parametrize("name", RUNS)
def test_each_export_generates_the_same_tokens(name: str, exports: Path) -> None:
    check_tokens(exports, name)


@pytest.mark.slow
def test_a_trained_gpt2_is_written_in_its_own_layout(others: Path) -> None:
    from safetensors.torch import load_file

    for folder in ("merged", "checkpoint/model"):
        weights = load_file(str(others / "gpt2-full" / folder / "model.safetensors"))
        assert weights["transformer.h.0.mlp.c_fc.weight"].shape == (32, 128), folder


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_each_export_of_other_kinds_generates_the_same_tokens(name: str, others: Path) -> None:
    check_tokens(others, name)
    result = json.loads((others / name / "checkpoint" / "drift" / "default" / "drift.json").read_text())
    assert result["metric"] == "perplexity" and result["times"][0]["metrics"]["perplexity"]["mean"] > 1


def check_tokens(root: Path, name: str) -> None:
    actual = json.loads((root / name / "tokens.json").read_text())
    expected = generated(root, name)
    assert expected["analog"] != expected["digital"], "the converters must be at work"
    if "aihwkit" in actual:  # Sums are rounded in another order.
        assert actual.pop("aihwkit")[0][:2] == expected["analog"][0][:2]
    digital = {form: expected["digital"] for form in actual if form != "conductances"}
    assert actual == {**digital, "conductances": expected["analog"]}
    assert digital.keys() == {"merged"} or digital.keys() == {"merged", "peft"}


def test_gpt2_is_written_in_its_own_layout(exports: Path) -> None:
    from safetensors.torch import load_file

    for folder in ("gpt2/peft/base", "gpt2/merged", "gpt2/aihwkit/base"):
        weight = load_file(str(exports / folder / "model.safetensors"))["transformer.h.0.mlp.c_fc.weight"]
        assert weight.shape == (32, 128), folder
    for form, expected in {"peft": True, "aihwkit/adapter": True, "conductances/adapters/default": False}.items():
        config = json.loads((exports / "gpt2" / form / "adapter_config.json").read_text())
        assert config["fan_in_fan_out"] == expected
    llama = json.loads((exports / "llama-bf16" / "peft" / "adapter_config.json").read_text())
    assert llama["fan_in_fan_out"] is False


def test_the_code_of_each_readme_generates(exports: Path) -> None:
    program = "import os, sys\ntry:\n    import torchvision\nexcept Exception:\n    sys.modules['torchvision'] = None\n"
    for form in FORMATS:
        folder = exports / "gpt2" / form
        (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
        program += f"os.chdir({str(folder)!r})\nsys.path.insert(0, '.')\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The weights lie on tiles, and") == len(FORMATS), done.stdout


def test_the_head_is_neither_copied_nor_trained(exports: Path) -> None:
    from safetensors.torch import load_file

    adapter = load_file(
        str(exports / "llama-bf16" / "checkpoint" / "adapters" / "default" / "adapter_model.safetensors")
    )
    assert adapter and not [name for name in adapter if "lm_head" in name or "embed" in name]
    assert all(torch.isfinite(tensor).all() for tensor in adapter.values())
