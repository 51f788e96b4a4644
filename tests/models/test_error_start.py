"""First value of an adapter in closed form: the best of its rank, what it corrects, and where it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from torch import Tensor

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import UsageError
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.models.adapters import load_adapter
from analog_lora_cli.models.analog_copies import analog_copies, future_layers, in_parts
from analog_lora_cli.models.build import build, load_base, with_adapter
from analog_lora_cli.models.error_fit import token_weights
from analog_lora_cli.models.error_start import TOKENS, ErrorStatistics, begin_with_correction
from analog_lora_cli.models.recalibrated_adapter import adapter_factors
from analog_lora_cli.models.training_inputs import batches_with_tokens, layer_inputs

MakeConfig = Callable[..., Config]
AWARE = {"init": "error-aware", "rank": 2, "dropout": 0.0}
COARSE = {"adc_bits": 5, "dac_bits": 6, "clip_sigma": 1.5, "tile_rows": 24}


def of_one_layer(weight: Tensor, clipped: Tensor, x: Tensor, rank: int) -> Tensor:
    """The correction of a layer with ideal converters, as one matrix."""
    ideal = HardwareConfig(dac_bits=0, adc_bits=0, adc_bound=0, output_noise=0.0, tile_rows=0, tile_columns=0)
    sums = ErrorStatistics(weight, AnalogLinear(clipped, None, ideal, "layer"))
    for part in x.split(100):
        sums.add(part)
    factors = sums.best(rank)
    return factors.after @ factors.before


@pytest.mark.parametrize("rank", [1, 4])
def test_no_matrix_of_the_rank_is_better_on_held_out_inputs(rank: int) -> None:
    """The smallest error is the tail of the singular values of the weighted products that clipping has changed."""
    torch.manual_seed(0)
    spread = torch.randn(20, 20) * torch.linspace(3, 0.1, 20)
    x, held_out = torch.randn(6000, 20) @ spread, torch.randn(6000, 20) @ spread
    weight = torch.randn(16, 20)
    clipped = weight.clamp(-0.8, 0.8)
    matrix = of_one_layer(weight, clipped, x, rank)
    weighted = (held_out * (1 / held_out.abs().amax(dim=1, keepdim=True))).double()
    changed = (weight - clipped).double() @ weighted.T
    smallest = float(torch.linalg.svdvals(changed)[rank:].square().sum())
    remaining = float((changed - matrix.double() @ weighted.T).square().sum())
    assert smallest <= remaining * (1 + 1e-6) and remaining < 1.02 * smallest
    assert smallest < 0.9 * float(changed.square().sum())
    assert torch.linalg.matrix_rank(matrix, rtol=1e-5) == rank


def errors(loaded: Any, scales: tuple[float, ...]) -> list[dict[str, float]]:
    """Weighted energy of the error of each layer's product on training text, with the adapter scaled."""
    hardware = loaded.config.hardware.model_copy(update={"output_noise": 0.0})
    batches = batches_with_tokens(loaded, TOKENS)
    layers = future_layers(loaded, hardware)
    copies = analog_copies(loaded, layers, hardware, batches)
    factors = adapter_factors(loaded, "lora")
    energies: list[dict[str, float]] = [dict.fromkeys(layers, 0.0) for _ in scales]

    def add(name: str, x: Tensor) -> None:
        weight = token_weights(copies[name], x)
        error = x @ layers[name].weight.T - copies[name](x)
        correction = x @ factors[name].before.T @ factors[name].after.T
        for energy, scale in zip(energies, scales, strict=True):
            energy[name] += float(((error - scale * correction) * weight).square().sum())

    layer_inputs(loaded.plain, layers, batches, add)
    return energies


@pytest.mark.parametrize("ranges", ["dynamic", "static"])
@pytest.mark.parametrize("task", ["sst2", "instruction"])
def test_each_layer_of_a_model_begins_with_less_error(task: str, ranges: str, make_config: MakeConfig) -> None:
    """The scale of the adapter is right too: half of it or half as much again leaves more."""
    config = make_config(task, adapter=AWARE, hardware={**COARSE, "input_range": ranges})
    loaded = with_adapter(load_base(config))
    inputs, parameters = batches_with_tokens(loaded, 50)[0], dict(loaded.module.named_parameters())
    before = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    logits = loaded.module.eval()(**inputs).logits
    begin_with_correction(loaded)
    changed = {name for name, tensor in parameters.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in parameters if "lora_" in name}
    assert not torch.allclose(loaded.module(**inputs).logits, logits)
    with loaded.module.disable_adapter():
        nothing, own, half, more = errors(loaded, (0.0, 1.0, 0.5, 1.5))
    assert nothing
    for name in nothing:
        assert own[name] < 0.95 * nothing[name], name
        assert own[name] < half[name] and own[name] < more[name], name


def test_it_is_the_same_each_time_and_whatever_layers_are_measured_together(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(adapter=AWARE, hardware=COARSE)
    first = build(load_base(config)).loaded.module.state_dict()
    monkeypatch.setattr("analog_lora_cli.models.workspace.WORKSPACE", 1)
    base = load_base(config)
    assert all(len(part) == 1 for part in in_parts(future_layers(base, config.hardware), squares=True))
    torch.manual_seed(3)
    second = build(load_base(config)).loaded.module.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first if "lora_" in name)
    default = build(load_base(make_config(adapter={**AWARE, "init": "default"}, hardware=COARSE))).loaded.module
    assert all(not tensor.any() for name, tensor in default.named_parameters() if "lora_B" in name)


def test_plain_peft_loads_it(make_config: MakeConfig, tmp_path: Any) -> None:
    loaded = with_adapter(load_base(make_config(adapter=AWARE, hardware=COARSE)))
    begin_with_correction(loaded)
    loaded.module.save_pretrained(str(tmp_path))
    inputs = batches_with_tokens(loaded, 50)[0]
    base = load_base(make_config())
    theirs = PeftModel.from_pretrained(base.plain, str(tmp_path)).eval()
    with torch.no_grad():
        assert torch.allclose(theirs(**inputs).logits, loaded.module.eval()(**inputs).logits, atol=1e-6)
    assert load_adapter(load_base(make_config()).plain, tmp_path, trainable=True)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"adapter": {"variant": "dora", "init": "error-aware"}}, "adapter.init.*dora, which scales each output"),
        ({"adapter": {"variant": "adalora", "init": "error-aware"}}, "adapter.init.*adalora"),
        ({"adapter": {"variant": "vera", "init": "error-aware"}}, "init"),
        ({"adapter": AWARE, "method": "digital"}, "adapter.init: error-aware with method digital.*nothing to correct"),
        ({"adapter": AWARE, "method": "full"}, "adapter.init: error-aware with method full"),
    ],
)
def test_it_is_refused_where_nothing_can_begin_with_it(
    sections: dict[str, Any], message: str, make_config: MakeConfig
) -> None:
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        make_config(**sections)


def test_it_is_refused_where_tiles_change_nothing(make_config: MakeConfig) -> None:
    exact = {"clip_sigma": 0.0, "dac_bits": 0, "adc_bits": 0}
    with pytest.raises(UsageError, match=r"adapter\.init: error-aware has nothing to correct"):
        build(load_base(make_config(adapter=AWARE, hardware=exact)))
