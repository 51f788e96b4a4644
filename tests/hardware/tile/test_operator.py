"""Under torch.compile: no graph break at an analog layer, the same numbers, nothing compiled twice."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.physics.chip import Chip
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


class Network(nn.Module):
    """Two analog layers, one with several rows of tiles, and a trained digital one beside the first."""

    def __init__(self, noise: TrainingNoise | None = None, **hardware: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        chosen = HardwareConfig(**{"tile_rows": 16, "adc_bound": 2.0, **hardware})
        self.first = AnalogLinear(torch.randn(20, 32), torch.randn(20), chosen, "first", noise)
        self.second = AnalogLinear(torch.randn(4, 20), None, chosen, "second", noise)
        self.adapter = nn.Linear(32, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x) + self.adapter(x)))  # type: ignore[no-any-return]


X = torch.randn(7, 32, generator=torch.Generator().manual_seed(1))


def gradients(call: Callable[[Tensor], Tensor], network: Network, autocast: bool = False) -> list[Tensor]:
    network.zero_grad()
    x = X.clone().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = call(x)
    y.float().square().sum().backward()
    assert x.grad is not None and network.adapter.weight.grad is not None
    return [y.detach(), x.grad, network.adapter.weight.grad.clone()]


@pytest.mark.parametrize("autocast", [False, True])
def test_training_gives_the_same_numbers_at_every_step(autocast: bool) -> None:
    noise = TrainingNoise(1)
    network = Network(noise).train()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    before = None
    for step in range(3):
        noise.begin_step(step)
        noise.begin_forward()
        plain = gradients(network, network, autocast)
        noise.begin_step(step)
        noise.begin_forward()
        fast = gradients(compiled, network, autocast)
        assert all(torch.equal(one, other) for one, other in zip(plain, fast, strict=True))
        assert before is None or not torch.equal(before, plain[0]), "each step has noise of its own"
        before = plain[0]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("hardware", [{}, {"tile_columns": 3, "bound_management": "iterative", "adc_bound": 0.5}])
@pytest.mark.parametrize("on_chip", [False, True])
def test_trained_weights(hardware: dict[str, Any], on_chip: bool) -> None:
    noise = TrainingNoise(1)
    network = Network(noise, **hardware).train()
    network.requires_grad_(True)
    if on_chip:
        Chip(0, {"first": network.first, "second": network.second}, network.first.hardware).age(1000.0)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    found = []
    for call in (network, compiled):
        noise.begin_step(1)
        gradients(call, network)
        found.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
    assert len(found[0]) == 5 and found[0].keys() == found[1].keys()
    for name, expected in found[0].items():
        assert expected.abs().sum() > 0
        assert torch.equal(found[1][name], expected), name


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", ["static", "learned"])
@pytest.mark.parametrize("hardware", [{}, {"tile_columns": 3, "bound_management": "iterative", "adc_bound": 0.5}])
def test_input_ranges(kind: str, hardware: dict[str, Any], autocast: bool) -> None:
    noise = TrainingNoise(1)
    network = Network(noise, **hardware, input_range=kind, input_range_decay=0.1).train()
    network.first.set_input_range(torch.tensor([0.5, 3.5]))
    network.second.set_input_range(torch.tensor([0.4, 0.8]))
    ranges = [layer.input_range for layer in (network.first, network.second)]
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    found = []
    for call in (network, compiled):
        noise.begin_step(1)
        noise.begin_forward()
        results = gradients(call, network, autocast)
        found.append([*results, *(one.grad for one in ranges if one is not None and one.grad is not None)])
    assert len(found[0]) == (5 if kind == "learned" else 3)
    for plain, fast in zip(*found, strict=True):
        assert torch.equal(plain, fast) and plain.abs().sum() > 0


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("between", ["forward", "step", "chip"])
def test_another_forward_before_the_backward_changes_no_gradient(trained: bool, between: str) -> None:
    """The backward pass computes with the noise and the chip of its own forward pass."""
    layers: dict[str, AnalogLinear] = {}
    found = []
    for compile_it in (False, True):
        for interrupt in (False, True):
            noise = TrainingNoise(1)
            network = Network(noise).train()
            network.requires_grad_(trained)
            call = torch.compile(network, backend="aot_eager", fullgraph=True) if compile_it else network
            layers = {"first": network.first, "second": network.second}
            Chip(0, layers, network.first.hardware).age(1000.0)
            noise.begin_step(1)
            noise.begin_forward()
            x = X.clone().requires_grad_(True)
            y = call(x)
            if interrupt and between == "chip":
                Chip(1, layers, network.first.hardware).age(1e7)
            elif interrupt and between == "step":
                noise.begin_step(2)
                noise.strength = 0.5
            if interrupt:
                noise.begin_forward()
                call(2 * x.detach())
            y.square().sum().backward()
            assert x.grad is not None
            found.append([x.grad, *(p.grad for p in network.parameters() if p.grad is not None)])
    assert len(found[0]) == (6 if trained else 1)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_chips_are_seen_without_compiling_again() -> None:
    network = Network(output_noise=0.0).eval()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    layers = {"first": network.first, "second": network.second}
    results = []
    with torch.no_grad():
        for seed in (0, 1):
            Chip(seed, layers, network.first.hardware).age(1000.0)
            results.append(compiled(X))
            assert torch.equal(results[-1], network(X))
    assert not torch.equal(*results)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_a_copy_is_a_layer_of_its_own() -> None:
    network = Network(output_noise=0.0).eval()
    copied = copy.deepcopy(network)
    with torch.no_grad():
        copied.first.weight.mul_(0.5)
        copied.first.refresh_scales()
        expected = copied(X)
        assert torch.equal(torch.compile(copied, backend="aot_eager", fullgraph=True)(X), expected)
        assert not torch.equal(network(X), expected)


def test_a_whole_adapted_model_has_no_graph_break(make_config: Callable[..., Config]) -> None:
    from analog_lora_cli.workflows.train import prepare

    analog = prepare(make_config("sst2", adapter={"dropout": 0.0})).model.analog
    assert analog is not None and analog.noise is not None
    analog.noise.begin_step(1)
    inputs = {"input_ids": torch.tensor([[2, 7, 3, 8, 9, 3]]), "attention_mask": torch.ones(1, 6, dtype=torch.long)}
    model = analog.loaded.plain.train()
    expected = model(**inputs).logits
    analog.noise.begin_step(1)
    found = torch.compile(model, backend="aot_eager", fullgraph=True)(**inputs).logits
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.gpu
def test_inductor_on_a_gpu() -> None:
    noise = TrainingNoise(1)
    network = Network(noise).cuda().train()
    x, found = X.cuda(), []
    for call in (torch.compile(network, fullgraph=True), network):
        noise.begin_step(1)
        found.append(call(x))
    assert torch.allclose(*found, atol=1e-3)
