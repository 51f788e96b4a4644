"""The walk through a model's modules, and the hashes of their weights."""

from __future__ import annotations

import hashlib

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from analog_lora_cli.models import fingerprints
from analog_lora_cli.models.fingerprints import tensor_sha256, weights_sha256
from analog_lora_cli.models.modules import module_facts, weight_modules


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


@pytest.mark.parametrize("block", [1, 9, 1 << 24])
def test_hashes_are_of_all_bytes_however_few_are_read_at_a_time(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_BLOCK", block)
    matrix = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    for tensor in (
        matrix,
        matrix.t(),
        matrix[:, ::2],
        matrix[0],
        matrix[1, 2],
        matrix[:0],
        matrix.reshape(2, 3, 4) > 5,
    ):
        assert tensor_sha256(tensor) == hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    model = nn.Linear(3, 2)
    parts = [b"bias (2,) torch.float32;", model.bias.detach().numpy().tobytes()]
    weight = [b"weight (2, 3) torch.float32;", model.weight.detach().numpy().tobytes()]
    assert weights_sha256(model, set()) == hashlib.sha256(b"".join(parts + weight)).hexdigest()
    assert weights_sha256(model, {"bias"}) == hashlib.sha256(b"".join(weight)).hexdigest()


def test_tied_weights_count_once() -> None:
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4), nn.Linear(4, 10))
    model[2].weight = model[0].weight
    facts = module_facts(model)
    assert [fact.parameters for fact in facts] == [40, 20, 10]
    assert [fact.shared for fact in facts] == [True, False, True]
    assert sum(fact.parameters for fact in facts) == sum(p.numel() for p in model.parameters())
