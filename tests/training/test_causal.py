"""Training of a causal language model: the loss is weighted by tokens, the head stays as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from analog_lora_cli.config.load import dump_config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.storage.checkpoint import read_checkpoint
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import prepare
from analog_lora_cli.workflows.train import train as run_training

TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node"]
EXACT = {"hardware": {"output_noise": 0.0, "weight_noise": 0.0, "dac_bits": 0, "adc_bits": 0}}
ADAPTER = {"adapter": {"dropout": 0.0}}


def trained(config: Any, folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    run_training(config, folder, SilentObserver(), drift=False)
    return stored(folder)


def stored(folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    log = read_checkpoint(folder).manifest["training"]["log"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    return losses, load_file(str(folder / "adapters/default/adapter_model.safetensors"))


def test_accumulation_equals_one_batch(make_config: Callable[..., Any], tmp_path: Path) -> None:
    """Answers of different lengths: each token weighs the same, not each batch."""
    runs = []
    for batch, accumulated in ((8, 1), (2, 4)):
        train = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated, "max_steps": 4}
        task = {"packing": False}
        config = make_config("instruction", **EXACT, **ADAPTER, task=task, train=train)
        runs.append(trained(config, tmp_path / str(batch)))
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-5)
    for name, tensor in runs[0][1].items():
        assert torch.allclose(tensor, runs[1][1][name], atol=1e-5), name


@pytest.mark.slow
def test_two_processes_equal_one_batch(make_config: Callable[..., Any], tmp_path: Path) -> None:
    """The ranks' answers differ in length: each token weighs the same, not each rank."""

    def config(batch: int) -> Any:
        train = {"per_device_train_batch_size": batch, "max_steps": 4}
        return make_config("instruction", **EXACT, **ADAPTER, train=train)

    losses, expected = trained(config(8), tmp_path / "one")
    (tmp_path / "two.yaml").write_text(dump_config(config(4)))
    command = [sys.executable, *TORCHRUN, "2", "-m", "analog_lora_cli", "train", "--no-drift"]
    command += ["--config", str(tmp_path / "two.yaml"), "--output", str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    found_losses, found = stored(tmp_path / "two")
    assert found_losses == pytest.approx(losses, rel=1e-5)
    for name, tensor in expected.items():
        assert torch.allclose(tensor, found[name], atol=1e-5), name


def test_a_benchmark_that_does_not_fit_stops_before_the_training(
    make_config: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval")
    rows = [{"goal": "the", "sol1": "good", "sol2": " ".join(["good"] * words), "label": 0} for words in (3, 70)]
    (tmp_path / "piqa.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    task = {"benchmarks": ["piqa"], "benchmark_folder": str(tmp_path)}
    message = r"task\.benchmarks: piqa, question 2: an answer has 70 tokens, and the model takes 64"
    with pytest.raises(UsageError, match=message):
        run_training(make_config("instruction", task=task), tmp_path / "run", SilentObserver(), drift=False)
    assert not (tmp_path / "run" / "trainer").exists()


def test_the_head_is_the_pretrained_one(make_config: Callable[..., Any]) -> None:
    model = prepare(make_config("instruction")).model
    plain = model.loaded.plain
    assert list(model.loaded.digital_heads) == ["lm_head"] and model.analog is not None
    assert plain.lm_head.weight is plain.model.embed_tokens.weight
    assert not any(p.requires_grad for name, p in model.loaded.module.named_parameters() if "lora_" not in name)
    names = {layer.name.rpartition(".")[2] for layer in model.analog.placement.analog}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize("value", [True, False])
def test_the_head_of_a_language_model_is_not_trained(value: bool, make_config: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"adapter\.train_head: the head of a language model .* is pretrained"):
        make_config("instruction", adapter={"train_head": value})


def test_packing_trains(make_config: Callable[..., Any], tmp_path: Path) -> None:
    config = make_config(
        "instruction", task={"packing": True, "max_length": 48}, train={"max_steps": 30, "learning_rate": 1e-2}
    )
    losses, _ = trained(config, tmp_path / "packed")
    assert losses[-1] < losses[0] - 0.2
