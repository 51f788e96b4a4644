"""The compiled loops against the same formulas in torch's operations, and whole layers on both ways."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.hardware.kernels import choice
from analog_lora_cli.hardware.kernels import cpu as cpu_kernels
from analog_lora_cli.hardware.kernels.choice import fits_kernels, kernels_in_use
from analog_lora_cli.hardware.kernels.random import PooledNormal, run_array
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.array import TileArray
from analog_lora_cli.hardware.tile.converters import Converters, DigitalScales
from analog_lora_cli.hardware.tile.cpu_mvm import CpuBackend
from analog_lora_cli.hardware.tile.grid import TileGrid
from analog_lora_cli.hardware.tile.input_scale import FixedRange
from analog_lora_cli.hardware.tile.mapping import column_scales
from analog_lora_cli.hardware.tile.mvm import TorchBackend
from analog_lora_cli.hardware.tile.saturation import bytes_of, pack
from analog_lora_cli.hardware.tile.training_noise import LayerNoise, TrainingNoise

CPU = torch.device("cpu")
SPECIAL = [0.0, -0.0, 1e-42, -3e38, float("inf"), float("-inf"), float("nan")]
shapes = st.tuples(st.integers(1, 9), st.integers(1, 3072), st.integers(1, 3072))


def numbers(*shape: int, seed: int, special: bool = False) -> Tensor:
    """Normal numbers; `special` puts zeros, infinities, NaN and a line of zeros among them."""
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    if special:
        flat, generator = made.view(-1), np.random.default_rng(seed)
        flat[generator.integers(0, len(flat), len(SPECIAL))] = torch.tensor(SPECIAL)
        made[generator.integers(0, len(made))] = 0.0
    return made


def numba(**changes: Any) -> HardwareConfig:
    """Hardware whose small layers are computed by the compiled loops too."""
    return HardwareConfig(kernels="numba", **changes)


def same_bits(found: Tensor, expected: Tensor) -> bool:
    """Equal, NaN being equal to NaN."""
    return torch.equal(found.nan_to_num(7.25), expected.nan_to_num(7.25)) and torch.equal(
        found.isnan(), expected.isnan()
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 700), st.sampled_from([0, 2, 3, 8, 12]), st.integers(0, 999), st.booleans())
def test_inputs_are_converted_as_by_torch(tokens: int, width: int, bits: int, seed: int, special: bool) -> None:
    x, start = numbers(tokens, width, seed=seed, special=special), seed % width
    converters = Converters.of(HardwareConfig(dac_bits=bits))
    edges = np.array([0, start, width] if start else [0, width])
    rows = len(edges) - 1
    levels, factor = torch.empty(tokens, width), torch.empty(rows, tokens)
    step, constants = np.float32(converters.dac_step), np.zeros(rows, dtype=np.float32)
    cpu_kernels.convert_inputs(x.numpy(), edges, step, constants, levels.numpy(), factor.numpy())
    for row in range(rows):
        part = slice(edges[row], edges[row + 1])
        magnitude = x[:, part].abs().amax(dim=1)
        assert same_bits(factor[row], magnitude)
        assert same_bits(levels[:, part], converters.convert_input(x[:, part], magnitude[:, None]))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 700), st.sampled_from([0, 2, 8, 12]), st.sampled_from([0.05, 0.7, 9.0]), st.integers(0, 999))
def test_inputs_with_a_range_are_converted_as_by_torch(width: int, bits: int, limit: float, seed: int) -> None:
    x = numbers(5, width, seed=seed, special=seed % 2 == 1)
    converters, scale = Converters.of(HardwareConfig(dac_bits=bits)), FixedRange(torch.tensor([limit]))
    levels, factor, edges = torch.empty(5, width), torch.empty(1, 5), np.array([0, width])
    step, constants = np.float32(converters.dac_step), scale.constants(1).numpy()
    cpu_kernels.convert_inputs(x.numpy(), edges, step, constants, levels.numpy(), factor.numpy())
    clipped, magnitude = scale.scaled(x[None], slice(0, 1))
    assert torch.equal(factor[..., None], magnitude)
    expected = converters.convert_input(clipped, magnitude)[0]
    # An ideal DAC's clipped inputs: limit * (1 / limit) is 1 up to rounding.
    assert same_bits(levels, expected) if bits else torch.allclose(levels, expected, rtol=2e-7, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 700),
    st.booleans(),
    st.sampled_from([0.0, 0.7]),
    st.sampled_from([0.5, 30.0, float("inf")]),
    st.booleans(),
    st.integers(0, 999),
)
def test_outputs_are_converted_as_by_torch(
    tokens: int, columns: int, rounds: bool, noise: float, limit: float, first_row: bool, seed: int
) -> None:
    product = numbers(tokens, columns, seed=seed, special=seed % 2 == 1)
    row, rows = seed % 3, 3
    into, after = (numbers(rows, columns, seed=seed + number).abs() * 9 for number in (1, 2))
    bias, factor, found = numbers(columns, seed=seed + 3), numbers(rows, tokens, seed=seed + 4).abs(), product.clone()
    saturated = torch.full((rows, tokens, bytes_of(columns)), 255, dtype=torch.uint8)
    sums = torch.empty(0, 0) if first_row else numbers(tokens, columns, seed=seed + 5)
    before = bias if first_row else sums.clone()
    count = cpu_kernels.convert_outputs(
        found.numpy(),
        np.uint64(PooledNormal(seed, CPU).reserve(tokens, columns)),
        run_array(),
        np.float32(noise),
        rounds,
        np.float32(limit),
        np.uint64(row),
        *(each.numpy() for each in (into, after, factor, bias, sums, saturated)),
    )
    expected = product * into[row] + np.float32(noise) * PooledNormal(seed, CPU).draw(tokens, columns)
    expected = expected.round() if rounds else expected
    over = expected.abs() > limit
    assert torch.equal(saturated[row], pack(over))
    assert bool((saturated[[other for other in range(rows) if other != row]] == 255).all())
    assert int(over.any(dim=1).sum()) <= count <= int((over | expected.isnan()).any(dim=1).sum())
    outputs = expected.clamp(-limit, limit) * after[row] * factor[row, :, None]
    assert same_bits(found if first_row else sums, before + outputs)


@pytest.mark.parametrize("shape", [(1, 1), (5, 63), (64, 65), (33, 700)])
@pytest.mark.parametrize("tile_rows", [0, 64, 97])
def test_noisy_weights_are_those_of_torch(shape: tuple[int, int], tile_rows: int) -> None:
    weight, grid = numbers(*shape, seed=1), TileGrid.of(*shape, HardwareConfig(tile_rows=tile_rows))
    scales = column_scales(weight, grid)
    expected = PooledNormal(5, CPU).draw(*shape)
    for index, (start, stop) in enumerate(grid.rows):
        expected[:, start:stop] *= (scales[index] * np.float32(0.067))[:, None]
    converters = Converters.of(HardwareConfig())
    digital, noise = DigitalScales.of(scales, None, converters), LayerNoise(0.067, 5)
    tiles = TileArray(weight, grid, converters, digital, scales, noise)
    assert torch.equal(CpuBackend().weight(tiles), expected + weight)
    assert torch.equal(TorchBackend().weight(tiles), expected + weight)


def test_layers_with_ranges() -> None:
    hardware = HardwareConfig(tile_rows=97, adc_bound=3.0, input_range="static", output_noise=0.0)
    layer = AnalogLinear(numbers(60, 250, seed=1), numbers(60, seed=2), hardware, "layer")
    layer.set_input_range(torch.tensor([0.5, 1.0, 5.0]))
    (y, grad), (torch_y, torch_grad) = both_ways(layer, numbers(40, 250, seed=3))
    assert torch.equal((y - torch_y).abs() > 1e-5, torch.zeros_like(y, dtype=torch.bool))
    assert torch.allclose(grad, torch_grad, atol=1e-5)


def both_ways(layer: AnalogLinear, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Output and gradient of the input, from the compiled loops and from torch's operations, with the same noise."""
    results = []
    for kernels in ("numba", "torch"):
        layer.set_hardware(layer.hardware.model_copy(update={"kernels": kernels}))
        given_x = x.clone().requires_grad_(True)
        torch.manual_seed(11)
        if layer.noise is not None:
            layer.noise.begin_step(0)  # Not a second call in one forward pass.
        y = layer(given_x)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        assert given_x.grad is not None
        results.append((y.detach(), given_x.grad))
    return results


@settings(max_examples=25, deadline=None)
@given(shapes, st.sampled_from([0, 97, 512]), st.sampled_from([0, 6, 8]), st.booleans(), st.integers(0, 999))
def test_whole_layers(shape: tuple[int, int, int], tile: int, bits: int, training: bool, seed: int) -> None:
    """Sums in another order end in other last bits; where they decide about a level, the output is one level off."""
    tokens, inputs, outputs = shape
    hardware = HardwareConfig(tile_rows=tile, tile_columns=tile, dac_bits=bits, adc_bits=bits, adc_bound=3.0)
    noise = TrainingNoise(seed)
    layer = AnalogLinear(numbers(outputs, inputs, seed=seed), numbers(outputs, seed=seed), hardware, "layer", noise)
    (y, grad), (torch_y, torch_grad) = both_ways(layer.train(training), numbers(tokens, inputs, seed=seed + 1))
    scale = torch_y.abs().max() + 1e-6
    off = (y - torch_y).abs() > 1e-5 * scale
    assert off.float().mean() <= (0.002 + 2 / off.numel() if bits else 0)
    # An output at its bound in one order and one level below it in the other has a gradient in one only.
    far = (grad - torch_grad).norm() / (torch_grad.norm() + 1e-6)
    assert far < (0.2 if off.any() else 1e-4)


@pytest.mark.parametrize("changes", [{}, {"tile_rows": 50, "adc_bound": 0.5}])
def test_threads_do_not_matter(changes: dict[str, Any]) -> None:
    """One token's product must not depend on them either, so the layer is narrow enough for one block of it."""
    noise = TrainingNoise(3)
    layer = AnalogLinear(numbers(40, 90, seed=1), None, numba(**changes), "layer", noise).train()
    x, threads = numbers(200, 90, seed=2), torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            noise.begin_step(0)
            found.append(layer(x))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_masks_of_saturation() -> None:
    """In training the gradient is cut where an ADC saturates, and nowhere else."""
    hardware = numba(dac_bits=0, adc_bits=0, adc_bound=1.5, output_noise=0.0, weight_noise=0.0)
    layer = AnalogLinear(torch.tensor([[1.0, 1.0], [1.0, 0.0]]), None, hardware, "layer").train()
    x = torch.tensor([[3.0, 3.0], [3.0, 0.0]], requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.tensor([[1.0, 0.0], [2.0, 1.0]]))


def test_which_layers_they_are_for() -> None:
    auto, never, always = HardwareConfig(), HardwareConfig(kernels="torch"), HardwareConfig(kernels="numba")
    assert fits_kernels(torch.empty(128, 128), auto) and fits_kernels(torch.empty(1, 1), always)
    assert not fits_kernels(torch.empty(127, 128), auto)
    assert not fits_kernels(torch.empty(128, 128), never)
    assert not any(fits_kernels(torch.empty(128, 128, dtype=torch.float64), each) for each in (auto, never, always))
    if not torch.cuda.is_available():
        assert [kernels_in_use(each, torch.device("cpu")) for each in (auto, never, always)] == [
            "numba",
            "torch",
            "numba",
        ]


def test_each_layer_asks_its_own_hardware() -> None:
    """With `torch` the compiled loops are not even called; with `numba` a small layer calls them too."""
    calls: list[str] = []
    convert = cpu_kernels.convert_inputs

    def spy(*arguments: Any) -> None:
        calls.append("called")
        convert(*arguments)

    with patch.object(cpu_kernels, "convert_inputs", spy):
        for kernels, size, expected in (("torch", 200, 0), ("auto", 200, 1), ("auto", 20, 0), ("numba", 20, 1)):
            hardware = HardwareConfig(kernels=kernels)  # type: ignore[arg-type]
            calls.clear()
            AnalogLinear(numbers(size, size, seed=1), None, hardware, "layer").eval()(numbers(3, size, seed=2))
            assert len(calls) == expected


def test_nothing_to_read() -> None:
    layer = AnalogLinear(numbers(3, 4, seed=1), None, numba(), "layer")
    assert layer(torch.zeros(0, 4)).shape == (0, 3)


def test_a_slice_and_a_transposed_input() -> None:
    layer = AnalogLinear(numbers(6, 4, seed=1), None, numba(output_noise=0.0), "layer").eval()
    x = numbers(4, 10, seed=2)
    assert torch.equal(layer(x.t()), layer(x.t().contiguous()))
    assert torch.equal(layer(x.view(5, 8)[:, 2:6]), layer(x.view(5, 8)[:, 2:6].contiguous()))


def test_torch_keeps_its_threads() -> None:
    """numba starts its threads once in a process, so this needs one of its own."""
    code = (
        "import os, torch; from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear, HardwareConfig; "
        "layer = AnalogLinear(torch.randn(200, 200), None, HardwareConfig(), 'layer'); "
        "before = torch.get_num_threads(); layer(torch.randn(5, 200)); print(before, torch.get_num_threads())"
    )
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [threads, threads]


@pytest.mark.parametrize("make", [Tensor.double, Tensor.bfloat16, lambda bias: bias[:1].expand(200)])
def test_any_bias(make: Any) -> None:
    layer = AnalogLinear(numbers(200, 100, seed=1), torch.ones(200), HardwareConfig(), "layer").eval()
    expected = layer(torch.zeros(3, 100))
    layer.bias = torch.nn.Parameter(make(torch.ones(200)), requires_grad=False)
    assert torch.equal(layer(torch.zeros(3, 100)), expected)


def test_without_numbas_threads() -> None:
    """Where the system has no OpenMP library, torch's operations take over."""
    layer, x = AnalogLinear(numbers(200, 100, seed=1), None, HardwareConfig(), "layer").eval(), numbers(9, 100, seed=2)
    torch.manual_seed(1)
    expected = layer(x)
    with without_numba():
        assert not fits_kernels(layer.weight, layer.hardware)
        assert kernels_in_use(layer.hardware, torch.device("cpu")) == "torch"
        torch.manual_seed(1)
        assert ((layer(x) - expected).abs() < 1e-4).float().mean() > 0.99
        with pytest.raises(ConfigError, match=r"hardware\.kernels: numba cannot be loaded here .*use auto or torch"):
            AnalogLinear(numbers(2, 2, seed=1), None, numba(), "layer")
    assert fits_kernels(layer.weight, layer.hardware)


@contextmanager
def without_numba() -> Iterator[None]:
    """As where `kernels.cpu` cannot be imported."""
    with patch.dict(sys.modules, {"analog_lora_cli.hardware.kernels.cpu": None}):
        choice.load_error.cache_clear()
        yield
    choice.load_error.cache_clear()
