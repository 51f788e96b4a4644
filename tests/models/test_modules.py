"""The walk through a model's modules, and the hashes of their weights."""

from __future__ import annotations

import hashlib

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from analog_lora_cli.models.fingerprints import tensor_sha256
from analog_lora_cli.models.modules import weight_modules


class TwoLayerHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.head = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def test_a_layer_inside_a_wrapped_head_is_replaced_alone() -> None:
    wrapped = get_peft_model(TwoLayerHead(), LoraConfig(target_modules=["body"], modules_to_save=["head"]))
    plain = wrapped.get_base_model()
    modules = {module.name: module for module in weight_modules(plain)}
    assert list(modules) == ["body", "head.0", "head.2"]
    replacement, last = nn.Linear(4, 3), plain.head.original_module[2]
    modules["head.0"].replace(replacement)
    assert plain.head.original_module[0] is replacement and plain.head.original_module[2] is last


def test_the_hash_of_a_tensor_is_that_of_its_bytes() -> None:
    tensor = torch.tensor([[1.0, -2.5], [0.0, 3.0]])
    assert tensor_sha256(tensor.t()) == hashlib.sha256(tensor.numpy().T.tobytes()).hexdigest()
    assert tensor_sha256(tensor.bfloat16()) == hashlib.sha256(b"\x80\x3f\x20\xc0\x00\x00\x40\x40").hexdigest()
