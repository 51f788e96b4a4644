"""A model goes onto tiles without a second copy of its weights."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.models.build import load_base, with_adapter
from analog_lora_cli.models.modules import linear_modules
from analog_lora_cli.models.tiling import put_on_tiles, replace_linear_layers

PLACED = """
from pathlib import Path

import torch
from torch import nn

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.models.fingerprints import tensor_sha256, weights_sha256
from analog_lora_cli.models.tiling import replace_linear_layers
from analog_lora_cli.runtime.libraries import prepare_libraries

prepare_libraries()


def peak():
    # Not getrusage, whose maximum a child takes over from its parent.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def place(count, size):
    model = nn.Sequential(*(nn.Linear(size, size, bias=False, device="meta") for _ in range(count)))
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    weight = torch.randn(size, size, dtype=torch.bfloat16)
    for layer in model:
        layer.weight.data.copy_(weight)
    before = peak()
    weights_sha256(model, leave_out=set())
    layers, _ = replace_linear_layers(model, {}, HardwareConfig(clip_sigma=2.0), None)
    for layer in layers.values():
        tensor_sha256(layer.weight)
    return 1024 * (peak() - before) / (2 * count * size**2)


place(1, 512)  # What is imported on the way does not count.
print(place(16, 2048), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the largest resident memory")
def test_clipping_placing_and_hashing_take_no_second_copy() -> None:
    """Sixteen layers: a copy of one is 0.06 of the model, and what a model's own copy would add is 1."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", PLACED], capture_output=True, text=True, check=True, env=environment)
    assert float(done.stdout) < 0.6


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tiles_take_over_the_loaded_tensors(dtype: str, make_config: Callable[..., Config], tiny_model: Path) -> None:
    """By address, through PEFT's wrappers; what is clipped is the loaded weight itself, and never its file."""
    file = tiny_model / "model.safetensors"
    stored = hashlib.sha256(file.read_bytes()).hexdigest()
    config = make_config(hardware={"clip_sigma": 1.0}, model={"name": str(tiny_model), "dtype": dtype})
    loaded = with_adapter(load_base(config))
    before = {
        name: (module.weight.data_ptr(), module.weight.clone()) for name, module in linear_modules(loaded.plain).items()
    }
    model = put_on_tiles(loaded, config.hardware)
    assert model.layers
    for name, layer in model.layers.items():
        address, original = before[name]
        assert layer.weight.data_ptr() == address and layer.weight.dtype == getattr(torch, dtype)
        assert not torch.equal(layer.weight, original)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == stored


def test_replaced_layers_are_released() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    replaced = [weakref.ref(model[0]), weakref.ref(model[2])]
    layers, _ = replace_linear_layers(model, {}, HardwareConfig(), None)
    assert list(layers) == ["0", "2"] and [one() for one in replaced] == [None, None]
