"""Where the noise of training comes from: seed, step, forward pass, layer and rank, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.hardware.seeds import derive_seed
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.effective_weights import EffectiveWeights
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise

X = torch.randn(9, 20, generator=torch.Generator().manual_seed(1))
WEIGHT = torch.randn(12, 20, generator=torch.Generator().manual_seed(2))


def output(
    seed: int = 1,
    rank: int = 0,
    step: int = 4,
    forward_pass: int = 2,
    name: str = "layer",
    weight_noise: float = 0.067,
    output_noise: float = 0.04,
) -> Tensor:
    """What a layer in training makes of `X` at one moment."""
    noise = TrainingNoise(seed, rank)
    noise.begin_step(step)
    for _ in range(forward_pass):
        noise.begin_forward()
    hardware = HardwareConfig(weight_noise=weight_noise, output_noise=output_noise, adc_bits=0)
    y: Tensor = AnalogLinear(WEIGHT, None, hardware, name, noise).train()(X)
    return y


def test_repeatable_whatever_else_is_drawn() -> None:
    first = output()
    torch.manual_seed(5)
    torch.randn(100)
    random.seed(1)
    np.random.seed(1)
    assert torch.equal(first, output())


def test_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    output()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("other", [{"seed": 2}, {"step": 5}, {"forward_pass": 3}, {"name": "layer2"}])
@pytest.mark.parametrize("kind", [{"weight_noise": 0.0}, {"output_noise": 0.0}])
def test_depends_on(other: dict[str, int], kind: dict[str, float]) -> None:
    difference = output(**kind) - output(**kind, **other)  # type: ignore[arg-type]
    assert (difference != 0).double().mean() > 0.9


def test_ranks_share_the_weights_and_not_the_outputs() -> None:
    """All ranks simulate one chip, but see different samples."""
    assert torch.equal(output(rank=0, output_noise=0.0), output(rank=1, output_noise=0.0))
    assert (output(rank=0, weight_noise=0.0) != output(rank=1, weight_noise=0.0)).double().mean() > 0.9


def test_a_resumed_run_goes_on_with_the_same_noise() -> None:
    """`begin_step` starts the count of forward passes again, so a step does not depend on those before it."""
    noise = TrainingNoise(1)
    layer = AnalogLinear(WEIGHT, None, HardwareConfig(adc_bits=0), "layer", noise).train()
    for step in range(5):
        noise.begin_step(step)
        for _ in range(2):
            noise.begin_forward()
            y = layer(X)
    assert torch.equal(y, output(step=4, forward_pass=2))


def test_seeds_do_not_collide() -> None:
    seeds = {
        derive_seed(seed, step, forward, stream, layer)
        for seed in range(5)
        for step in range(12)
        for forward in range(12)
        for stream in ("weight", "output")
        for layer in ("a", "b.1", "b")
    }
    assert len(seeds) == 5 * 12 * 12 * 2 * 3
    assert derive_seed(1, 23) != derive_seed(12, 3)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # The first 16 digits of `printf a/1 | sha256sum`: seeds are the same in every version and on every machine.
    assert derive_seed("a", 1) == 0x773232ABE9343F0E // 2


class Network(nn.Module):
    """Two analog layers with a digital adapter beside the first, as LoRA has it."""

    def __init__(self, noise: TrainingNoise, checkpointed: bool) -> None:
        super().__init__()
        hardware = HardwareConfig(tile_rows=8)
        generator = torch.Generator().manual_seed(3)
        self.first = AnalogLinear(torch.randn(16, 20, generator=generator), None, hardware, "first", noise)
        self.second = AnalogLinear(torch.randn(4, 16, generator=generator), None, hardware, "second", noise)
        self.second.requires_grad_(True)
        self.adapter = nn.Linear(20, 16)
        with torch.no_grad():
            self.adapter.weight.copy_(torch.randn(16, 20, generator=generator) / 4)
            self.adapter.bias.zero_()
        self.checkpointed = checkpointed
        self.noise = noise

    def block(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(torch.tanh(self.first(x) + self.adapter(x)))
        return y

    def forward(self, x: Tensor) -> Tensor:
        if not self.checkpointed:
            return self.block(x)
        # Torch's own safeguard is off: the noise must repeat without it.
        options = {"preserve_rng_state": False, "context_fn": self.noise.checkpoint_contexts}
        y: Tensor = checkpoint(self.block, x, use_reentrant=False, **options)
        return y


def weight_of(layer: AnalogLinear) -> Tensor:
    """The weight that a layer computes with now."""
    return EffectiveWeights.now(layer).weight().clone()


def layer_with(noise: TrainingNoise) -> AnalogLinear:
    return AnalogLinear(WEIGHT, None, HardwareConfig(adc_bits=0), "layer", noise).train()


def test_scope_step() -> None:
    """All forward passes of a step see one draw; their output noise differs."""
    noise = TrainingNoise(1, scope="step")
    layer = layer_with(noise)
    weights, outputs = [], []
    for step in range(2):
        noise.begin_step(step)
        for _ in range(2):
            noise.begin_forward()
            weights.append(weight_of(layer))
            outputs.append(layer(X))
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[2], weights[3])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize("training", [True, False])
def test_a_rollout_and_its_scoring_see_one_draw(training: bool) -> None:
    """Generation calls the model once a token, often in evaluation mode; scoring comes a step later."""
    noise = TrainingNoise(1)
    layer = layer_with(noise)
    noise.begin_step(3)
    noise.begin_forward()
    before = weight_of(layer)
    layer.train(training)
    weights, outputs = [], []
    with noise.rollout() as draw:
        for _ in range(3):
            if training:
                noise.begin_forward()
            weights.append(weight_of(layer))
            outputs.append(layer(X))
    layer.train()
    noise.begin_forward()
    after = weight_of(layer)
    noise.begin_step(4)
    noise.strength = 0.1
    with noise.rollout(draw):
        noise.begin_forward()
        weights.append(weight_of(layer))
    assert all(torch.equal(weights[0], other) for other in weights)
    assert not torch.equal(weights[0], WEIGHT)
    assert not torch.equal(outputs[0], outputs[1])
    assert len({tuple(weight.flatten().tolist()) for weight in (before, weights[0], after)}) == 3
    assert torch.equal(weight_of(layer.eval()), WEIGHT)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_what_comes_before_the_backward_changes_no_gradient(checkpointed: bool) -> None:
    """Another forward, step or rollout; and with gradient checkpointing, which computes the layers again."""
    found = []
    for interrupt in (False, True):
        noise = TrainingNoise(1)
        network = Network(noise, checkpointed).train()
        noise.begin_step(5)
        with noise.rollout():
            noise.begin_forward()
            x = X.clone().requires_grad_(True)
            y = network(x)
        if interrupt:
            noise.begin_step(6)
            noise.begin_forward()
            network(2 * X)
            with noise.rollout():
                network(X)
        loss = y.square().sum()
        loss.backward(retain_graph=True)
        loss.backward()  # Computes checkpointed layers once more.
        found.append([x.grad, *(p.grad for p in network.parameters() if p.requires_grad)])
    assert len(found[0]) == 4
    for alone, interrupted in zip(*found, strict=True):
        assert alone is not None and interrupted is not None
        assert torch.equal(alone, interrupted)


@pytest.mark.parametrize("interrupt", [False, True])
def test_gradient_checkpointing_of_transformers(interrupt: bool, make_config: Callable[..., Config]) -> None:
    """The contexts reach torch's checkpoint through transformers' option."""
    from analog_lora_cli.models.build import build, load_base

    inputs = {"input_ids": torch.tensor([[2, 7, 3, 8, 9, 3]]), "attention_mask": torch.ones(1, 6, dtype=torch.long)}
    found = []
    for checkpointed in (False, True):
        built = build(load_base(make_config("sst2", adapter={"dropout": 0.0})))
        assert built.analog is not None and built.analog.noise is not None
        noise, model = built.analog.noise, built.loaded.plain.train()
        if checkpointed:
            options = {"use_reentrant": False, "context_fn": noise.checkpoint_contexts}
            model.gradient_checkpointing_enable(options)  # type: ignore[operator]
        noise.begin_step(1)
        noise.begin_forward()
        loss = model(**inputs).logits.square().sum()
        if interrupt:
            noise.begin_forward()
            with torch.no_grad():
                model(**inputs)
        loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0] and found[0].keys() == found[1].keys()
    assert all(torch.equal(gradient, found[1][name]) for name, gradient in found[0].items())


def test_gradient_checkpointing_changes_nothing() -> None:
    gradients = []
    for checkpointed in (False, True):
        noise = TrainingNoise(1)
        network = Network(noise, checkpointed).train()
        for step in range(2):
            noise.begin_step(step)
            for _ in range(2):
                noise.begin_forward()
                x = X.clone().requires_grad_(True)
                network(x).square().sum().backward()
        gradients.append([x.grad, *(p.grad for p in network.parameters() if p.requires_grad)])
    assert len(gradients[0]) == 4
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain is not None and recomputed is not None
        assert plain.abs().sum() > 0
        assert torch.equal(plain, recomputed)


class Twice(nn.Module):
    """A layer that is called twice in one forward pass, as ALBERT's are."""

    def __init__(self, noise: TrainingNoise) -> None:
        super().__init__()
        square = torch.randn(20, 20, generator=torch.Generator().manual_seed(2))
        self.layer = AnalogLinear(square, None, HardwareConfig(adc_bits=0), "layer", noise).train()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), self.layer(x)


def test_each_call_has_output_noise_of_its_own_and_the_same_weights() -> None:
    noise = TrainingNoise(1)
    model = Twice(noise)
    noise.begin_step(1)
    noise.begin_forward()
    first, second = model(X)
    assert (first != second).double().mean() > 0.9
    model.layer.set_hardware(HardwareConfig(adc_bits=0, output_noise=0.0))
    assert torch.equal(*model(X))
    model.layer.set_hardware(HardwareConfig(adc_bits=0))
    noise.begin_forward()
    again = model(X)
    noise.begin_step(1)
    noise.begin_forward()
    assert torch.equal(model(X)[0], first) and not torch.equal(again[1], second)


def test_calls_are_counted_the_same_in_a_checkpointed_block() -> None:
    """A layer before, inside and after the block: computed again, the block's calls have their own numbers."""
    seen: list[list[Tensor]] = []
    for checkpointed in (False, True):
        noise = TrainingNoise(1)
        model, outputs = Twice(noise), []
        noise.begin_step(1)
        noise.begin_forward()

        def block(x: Tensor, model: Twice = model, outputs: list[Tensor] = outputs) -> Tensor:
            first, second = model(x)
            outputs.append(second.detach())
            return torch.tanh(first * second)

        x = X.clone().requires_grad_(True)
        hidden = model.layer(x)
        options = {"use_reentrant": False, "context_fn": noise.checkpoint_contexts}
        hidden = checkpoint(block, hidden, **options) if checkpointed else block(hidden)
        hidden = model.layer(hidden)
        hidden.square().sum().backward()
        assert len(outputs) == 1 + checkpointed and torch.equal(outputs[0], outputs[-1])
        assert x.grad is not None
        seen.append([hidden.detach(), x.grad])
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))


def test_calls_are_counted_the_same_under_torch_compile() -> None:
    results = []
    for compiled in (False, True):
        noise = TrainingNoise(1)
        model = Twice(noise)
        noise.begin_step(1)
        noise.begin_forward()
        torch._dynamo.reset()
        call = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
        results.append(call(X))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    assert not torch.equal(*results[1])
