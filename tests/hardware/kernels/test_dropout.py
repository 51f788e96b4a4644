"""The fast dropout: its masks, its gradient, its seeds, and attention with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.kernels import dropout
from analog_lora_cli.hardware.kernels.dropout import Dropout, attention, install_fast_dropout

MASKS, WIDTH = 200, 20_000


@pytest.fixture(scope="module")
def dropped() -> Tensor:
    """(MASKS, WIDTH): 1 where a number was dropped, with probability 0.1."""
    torch.manual_seed(1)
    drop = Dropout(0.1)
    return torch.stack([(drop(torch.ones(WIDTH)) == 0).double() for _ in range(MASKS)])


def test_probability(dropped: Tensor) -> None:
    error = (0.1 * 0.9 / dropped.numel()) ** 0.5
    assert abs(dropped.mean() - 0.1) < 4 * error
    spread = dropped.sum(dim=0).var() / (MASKS * 0.1 * 0.9)
    assert spread == pytest.approx(1, abs=5 * (2 / WIDTH) ** 0.5)


def test_masks_are_independent(dropped: Tensor) -> None:
    between = torch.corrcoef(dropped) - torch.eye(MASKS, dtype=torch.float64)
    assert between.abs().max() < 5.5 * WIDTH**-0.5
    flat = dropped.flatten()
    for lag in (1, 2, 3, 4, 16, 64, 768, 1023, 1024, 1025, 2048):
        pair = torch.stack([flat[:-lag], flat[lag:]])
        assert abs(torch.corrcoef(pair)[0, 1]) < 4.5 * len(flat) ** -0.5


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
def test_what_is_kept_is_scaled(p: float) -> None:
    torch.manual_seed(2)
    y = Dropout(p)(torch.ones(300, 301))
    kept = y[y != 0]
    assert torch.equal(kept, torch.full_like(kept, 1 / (1 - p)))
    assert y.mean() == pytest.approx(1, abs=5 * (p / (1 - p) / y.numel()) ** 0.5)


def test_gradient_has_the_same_mask() -> None:
    x = torch.ones(7, 33, 50, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y.detach())
    turned = torch.randn(60, 80, requires_grad=True)
    y = Dropout(0.3)(turned.t())
    y.backward(torch.ones(60, 80).t())
    assert turned.grad is not None and torch.equal(turned.grad.t() == 0, y == 0)


def test_torchs_seed_decides_whatever_the_threads() -> None:
    drop, x, threads = Dropout(0.1), torch.randn(1000, 100), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            torch.manual_seed(3)
            found.append((drop(x), drop(x)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(pair[0], found[0][0]) and torch.equal(pair[1], found[0][1]) for pair in found)
    assert not torch.equal(found[0][0], found[0][1])


def test_gradient_checkpointing_draws_the_same_mask() -> None:
    drop, seen = Dropout(0.5), []

    def work(x: Tensor) -> Any:
        seen.append(drop(x))
        return seen[-1] * x

    x = torch.ones(5000, requires_grad=True)
    checkpoint(work, x, use_reentrant=False).sum().backward()
    assert len(seen) == 2 and torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_all(p: float) -> None:
    assert torch.equal(Dropout(p)(torch.ones(5000)), torch.full((5000,), 1.0 - p))


def test_evaluation_and_other_types() -> None:
    x = torch.ones(5000)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.5)(x.double()).dtype == torch.float64
    assert Dropout(0.5)(x.bfloat16()).dtype == torch.bfloat16


@pytest.fixture
def always() -> Iterator[None]:
    """For few numbers too."""
    with patch.object(dropout, "LEAST_NUMBERS", 0):
        yield


def tiny_bert(attention_dropout: float) -> Any:
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        vocab_size=50,
        attention_probs_dropout_prob=attention_dropout,
        hidden_dropout_prob=0.0 if attention_dropout == 0 else 0.1,
    )
    torch.manual_seed(4)
    return BertModel(config)


@pytest.mark.usefixtures("always")
def test_a_whole_model() -> None:
    """Every dropout is replaced; without dropout, nothing changes; the configuration is saved as it was."""
    ids = torch.arange(20).view(2, 10)
    mask = torch.tensor([[1] * 10, [1] * 6 + [0] * 4])
    plain, fast = tiny_bert(0.1), tiny_bert(0.1)
    install_fast_dropout(fast, HardwareConfig())
    assert not any(type(module) is nn.Dropout for module in fast.modules())
    assert fast.config.to_dict() == plain.config.to_dict()
    exact = plain.eval()(ids, attention_mask=mask).last_hidden_state
    assert torch.equal(fast.eval()(ids, attention_mask=mask).last_hidden_state, exact)
    fast.train()
    with torch.no_grad():
        mean = torch.stack([fast(ids, attention_mask=mask).last_hidden_state for _ in range(400)]).mean(dim=0)
        plain.train()
        other = torch.stack([plain(ids, attention_mask=mask).last_hidden_state for _ in range(400)]).mean(dim=0)
    assert (mean - other).abs().mean() < 0.03 < (exact - other).abs().mean()


def test_torchs_own_dropout_with_kernels_torch() -> None:
    model = tiny_bert(0.1)
    install_fast_dropout(model, HardwareConfig(kernels="torch"))
    assert any(type(module) is nn.Dropout for module in model.modules())
    assert not any(isinstance(module, Dropout) for module in model.modules())
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("kind", ["none", "bool", "added"])
def test_attention_is_torchs(kind: str) -> None:
    """A dropout too rare to happen goes the long way, and must agree with torch's fused attention."""
    module = nn.Module()
    module.is_causal = False  # type: ignore[assignment]
    q, k, v = (torch.randn(2, 30, 11, 8, requires_grad=True) for _ in range(3))
    seen = torch.ones(2, 1, 11, 11, dtype=torch.bool)
    seen[1, :, :, 6:] = False
    added = torch.zeros(2, 1, 11, 11).masked_fill(~seen, -1e30)
    mask = {"none": None, "bool": seen, "added": added}[kind]
    results = []
    for function, p in ((attention, 1e-9), (sdpa_attention_forward, 0.0)):
        y = function(module, q, k, v, mask, p, scaling=0.4)[0]
        results.append([y, *torch.autograd.grad(y.square().sum(), (q, k, v))])
    for found, expected in zip(*results, strict=True):
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_attention_drops_weights_not_keys() -> None:
    module = nn.Module()
    module.is_causal = False  # type: ignore[assignment]
    q = torch.zeros(1, 1, 400, 4)
    v = torch.ones(1, 1, 400, 4)
    torch.manual_seed(5)
    y = attention(module, q, q, v, None, 0.25)[0][0, :, 0]
    assert y.mean() == pytest.approx(1, abs=0.01)
    assert y[:, 0].std() == pytest.approx((0.25 / 0.75 / 400) ** 0.5, rel=0.2)
    assert torch.equal(y[:, 0], y[:, 1])
