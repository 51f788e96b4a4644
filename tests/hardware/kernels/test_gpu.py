"""Triton's kernels of the analog MVM against torch's operations, on a GPU or in Triton's interpreter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton")

from analog_lora_cli.hardware.kernels.counter import normal_pairs
from analog_lora_cli.hardware.kernels.gpu import mvm as gpu
from analog_lora_cli.hardware.kernels.gpu.blocks import INTERPRETED, Blocks, Precision
from analog_lora_cli.hardware.kernels.gpu.input_gradient import input_gradient
from analog_lora_cli.hardware.kernels.gpu.noise import noisy_weights
from analog_lora_cli.hardware.tile.saturation import unpack
from tests.hardware.kernels.gpu_cases import DEVICE, OUTPUT_KEY, WEIGHT_KEY, Case, codes_apart

if not INTERPRETED and DEVICE.type == "cpu":
    pytest.skip("triton was imported without TRITON_INTERPRET=1 and there is no GPU", allow_module_level=True)

SHAPES = [(1, 1, 1), (5, 16, 8), (37, 100, 70), (64, 48, 32), (70, 97, 33), (3, 200, 129)]
"""Tokens, inputs and outputs: not multiples of blocks, several uneven rows of tiles, and exact multiples."""
ONE = (37, 100, 70)
"""The shape on which options are tried that no shape changes: the interpreter takes its time."""
TIPPED = 2e-3
"""Share of outputs in which an ADC may round to the next level: products are summed in another order."""


def run(case: Case, **options: object) -> tuple[torch.Tensor, torch.Tensor | None]:
    return gpu.analog_mvm(case.x, case.tensors, case.conversion, case.bias, OUTPUT_KEY, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("shape", "bias"), [*((shape, True) for shape in SHAPES), (ONE, False)])
def test_without_converters_and_noise(shape: tuple[int, int, int], bias: bool) -> None:
    """What is left is a matrix product."""
    case = Case.of(*shape, bias=bias, dac_bits=0, adc_bits=0, adc_bound=0.0, output_noise=0.0)
    found, saturated = run(case, saturation=True)
    expected = torch.nn.functional.linear(
        case.x.double(), case.weight.double(), None if case.bias is None else case.bias.double()
    )
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
    assert saturated is None


@pytest.mark.parametrize(
    ("shape", "bits"),
    [*((shape, (8, 8)) for shape in SHAPES), *((ONE, bits) for bits in ((0, 4), (4, 0), (12, 12), (5, 10)))],
)
def test_converters(shape: tuple[int, int, int], bits: tuple[int, int]) -> None:
    dac_bits, adc_bits = bits
    case = Case.of(*shape, seed=dac_bits, dac_bits=dac_bits, adc_bits=adc_bits, output_noise=0.0).with_chip()
    found, _ = run(case)
    expected = case.by_torch()[0]
    assert codes_apart(found, expected, case) <= (TIPPED if adc_bits else 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_output_noise(shape: tuple[int, int, int]) -> None:
    """The noise is that of the counter, number by number."""
    case = Case.of(*shape, seed=1, output_noise=0.3, adc_bits=0).with_chip()
    found, _ = run(case)
    expected = case.by_torch()[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    case = replace(case, hardware=case.hardware.model_copy(update={"adc_bits": 8}))
    found, _ = run(case)
    assert codes_apart(found, case.by_torch()[0], case) <= TIPPED


@pytest.mark.parametrize("dac_bits", [0, 6, 8])
def test_static_ranges_and_offsets(dac_bits: int) -> None:
    case = Case.of(33, 100, 45, dac_bits=dac_bits, adc_bits=0, output_noise=0.1)
    rows, outputs = len(case.grid.rows), len(case.weight)
    offset = 0.1 * torch.randn(rows, outputs, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    case = replace(case, range_R=torch.linspace(0.4, 2.5, rows, device=DEVICE), offset=offset)
    found, _ = run(case)
    expected = case.by_torch()[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shape", "adc_bits"), [*((shape, 6) for shape in SHAPES), (ONE, 0)])
def test_saturation(shape: tuple[int, int, int], adc_bits: int) -> None:
    """Bits where an ADC is beyond its bound, in a product with as many as without."""
    case = Case.of(*shape, seed=3, adc_bits=adc_bits, adc_bound=1.0, output_noise=0.0)
    found, bits = run(case, saturation=True)
    expected, masks = case.by_torch(saturation=True)
    assert bits is not None and bits.dtype == torch.uint8
    saturated = torch.zeros_like(found, dtype=torch.bool) if masks is None else unpack(masks, shape[2])
    assert (unpack(bits, shape[2]) != saturated).float().mean() <= TIPPED
    assert codes_apart(found, expected, case) <= TIPPED
    if shape[0] > 16:
        assert 0.1 < saturated.float().mean() < 0.9


@pytest.mark.parametrize("shape", SHAPES)
def test_training_noise_is_drawn_inside(shape: tuple[int, int, int]) -> None:
    case = Case.of(*shape, seed=4, adc_bits=0, output_noise=0.0)
    found, _ = run(case, noise=case.noise(0.2))
    expected = case.by_torch(case.noisy_weight(0.2))[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)
    stored = noisy_weights(case.weight, case.column_scale, case.edges, case.widest, 0.2, WEIGHT_KEY, torch.float32)
    torch.testing.assert_close(stored, case.noisy_weight(0.2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_half_precision(dtype: torch.dtype, noise: float) -> None:
    """Weights, inputs and outputs in half precision; converters, noise and sums in float32."""
    case = Case.of(37, 100, 70, adc_bits=0, output_noise=0.2).in_type(dtype)
    expected, _ = case.by_torch(case.noisy_weight(noise) if noise else None)
    options = {"noise": case.noise(noise) if noise else None}
    found, _ = run(case, **options)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)
    # Levels of 8 bits are exact in both types: without training noise the product is as exact as in float32.
    found, _ = run(case, product=dtype, **options)
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < (torch.finfo(dtype).eps if noise else 1e-5)
    rounded, _ = run(case, product=dtype, dtype=dtype, **options)
    assert rounded.dtype == dtype
    # The interpreter cuts bits off where a GPU rounds.
    torch.testing.assert_close(rounded, found.to(dtype), rtol=torch.finfo(dtype).eps if INTERPRETED else 0, atol=0)


def test_special_inputs() -> None:
    """A token of zeros gives the bias and noise of nothing, NaN stays NaN, and neither touches other tokens."""
    case = Case.of(6, 100, 20, output_noise=0.5)
    case.x[1], case.x[3, 7], case.x[4, 60] = 0.0, float("nan"), float("inf")
    found, _ = run(case)
    expected = case.by_torch()[0]
    assert torch.equal(found[1], case.bias)
    assert found[3].isnan().all() and torch.equal(found.isnan(), expected.isnan())
    torch.testing.assert_close(found[[0, 2, 5]], expected[[0, 2, 5]], rtol=1e-4, atol=2e-4)


def test_blocks_do_not_matter() -> None:
    """The numbers of a weight and an output depend on their place alone."""
    case = Case.of(40, 60, 40, adc_bits=0, output_noise=0.3)
    results = [
        run(case, noise=case.noise(0.1), blocks=Blocks(*sizes, warps=4, stages=2))[0]
        for sizes in ((16, 32, 32), (64, 64, 64))
    ]
    torch.testing.assert_close(*results, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("shape", "noise", "chip"),
    [*((shape, 0.1, True) for shape in SHAPES), (ONE, 0.0, False), (ONE, 0.0, True), (ONE, 0.1, False)],
)
def test_input_gradient(shape: tuple[int, int, int], noise: float, chip: bool) -> None:
    """grad * compensation, 0 where the ADC was beyond its bound, times the weights of the forward pass."""
    case = Case.of(*shape, seed=6, adc_bound=1.0)
    case = case.with_chip() if chip else case
    _, bits = run(case, saturation=True)
    grad = torch.randn(shape[0], shape[2], generator=torch.Generator().manual_seed(1)).to(DEVICE)
    found = input_gradient(
        grad,
        case.weight,
        case.edges,
        case.widest,
        compensation_RO=case.compensation,
        saturated_RTB=bits,
        noise=case.noise(noise) if noise else None,
    )
    assert bits is not None
    expected = torch.empty_like(case.x)
    weight = case.noisy_weight(noise) if noise else case.weight
    for row, (start, stop) in enumerate(case.grid.rows):
        partial = grad if case.compensation is None else grad * case.compensation[row]
        expected[:, start:stop] = partial.masked_fill(unpack(bits, shape[2])[row], 0) @ weight[:, start:stop]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_input_gradient_in_half_precision(dtype: torch.dtype) -> None:
    case = Case.of(37, 100, 70).in_type(dtype)
    grad = torch.randn(37, 70, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype)
    found = input_gradient(grad, case.weight, case.edges, case.widest)
    expected = grad.double() @ case.weight.double()
    assert found.dtype == dtype
    assert (found.double() - expected).abs().max() / expected.abs().max() < 2 * torch.finfo(dtype).eps


def test_gradient_of_a_few_tokens_and_of_none() -> None:
    case = Case.of(1, 100, 70)
    none = replace(case, x=case.x[:0])
    assert run(none)[0].shape == (0, 70)
    assert input_gradient(none.x.new_empty(0, 70), case.weight, case.edges, case.widest).shape == (0, 100)


def test_precision_follows_torch() -> None:
    """float32 products round to TF32 only where torch's own would."""
    assert Precision(torch.float32).dot == "ieee" and not Precision(torch.float32).tensor_cores
    torch.set_float32_matmul_precision("high")
    try:
        assert Precision(torch.float32).dot == "tf32" and Precision(torch.float32).tensor_cores
        assert Precision(torch.bfloat16).dot == "ieee" and Precision(torch.bfloat16).tensor_cores
    finally:
        torch.set_float32_matmul_precision("highest")


def test_distribution_of_the_noise() -> None:
    """Output noise is standard normal, and that of weights has the column scales' deviation; both uncorrelated."""
    from scipy.stats import kstest

    tokens, outputs = 256, 250
    case = Case.of(tokens, 4, outputs, bias=False, adc_bits=0, adc_bound=0.0, output_noise=1.0)
    case = replace(case, x=torch.zeros_like(case.x), range_R=torch.ones(1, device=DEVICE))
    noise = run(case)[0] / case.column_scale
    assert kstest(noise.flatten().cpu().double().numpy(), "norm").pvalue > 1e-3
    weight = torch.zeros(200, 300, device=DEVICE)
    scale = torch.rand(2, 200, generator=torch.Generator().manual_seed(2)).to(DEVICE) + 0.5
    edges = torch.tensor([0, 170, 300], dtype=torch.int32, device=DEVICE)
    drawn = noisy_weights(weight, scale, edges, 170, 0.1, 99, torch.float32)
    xi = torch.cat([drawn[:, :170] / scale[0][:, None], drawn[:, 170:] / scale[1][:, None]], dim=1) / 0.1
    assert kstest(xi.flatten().cpu().double().numpy(), "norm").pvalue > 1e-3
    for numbers in (noise, xi):
        for moved in (numbers.roll(1, 0), numbers.roll(1, 1)):
            assert abs(float((numbers * moved).mean())) < 4.5 / numbers.numel() ** 0.5


def test_normals_are_those_of_the_counter() -> None:
    """To a few units of the last place of sums of size 1; the largest numbers included."""
    outputs = 1000
    case = Case.of(100, 2, outputs, bias=False, dac_bits=0, adc_bits=0, adc_bound=0.0, output_noise=1.0)
    case = replace(
        case, x=torch.zeros_like(case.x), weight=torch.ones_like(case.weight), range_R=torch.ones(1, device=DEVICE)
    )
    expected, _ = normal_pairs(OUTPUT_KEY, (100, outputs), DEVICE)
    assert float((run(case)[0] - expected).abs().max()) < 3e-6
