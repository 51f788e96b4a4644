"""A correction joined with an adapter: what plain PEFT loads adds both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from analog_lora_cli.config.schema import Config
from analog_lora_cli.models.adapter_variants import VARIANTS
from analog_lora_cli.models.build import load_base, with_adapter
from analog_lora_cli.models.error_fit import Correction
from analog_lora_cli.models.modules import linear_modules
from analog_lora_cli.models.recalibrated_adapter import RecalibratedAdapter, adapter_factors

BATCH = {"input_ids": torch.tensor([[2, 7, 3, 8, 9, 3]]), "attention_mask": torch.ones(1, 6, dtype=torch.long)}


@pytest.mark.parametrize("variant", ["lora", "rslora", "lora+", "adalora"])
def test_plain_peft_adds_the_adapter_and_the_correction(
    variant: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(adapter={"variant": variant, "rank": 3, "targets": ["query", "dense"]})
    loaded = with_adapter(load_base(config))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in loaded.module.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    loaded.module.eval()
    layers = linear_modules(load_base(config).plain)
    corrections = {
        name: Correction(
            torch.randn(rank, layers[name].in_features), 0.1 * torch.randn(layers[name].out_features, rank)
        )
        for name, rank in (
            ("bert.encoder.layer.0.attention.self.query", 2),
            ("bert.encoder.layer.1.attention.self.key", 5),
        )
    }
    adapter = RecalibratedAdapter.of(loaded, variant, corrections)
    adapter.save(tmp_path / "a")
    handles = []
    for name, correction in corrections.items():
        module = loaded.plain.get_submodule(name)
        handles.append(module.register_forward_hook(lambda _, x, y, own=correction: y + own.of(x[0])))
    theirs = PeftModel.from_pretrained(load_base(config).plain, str(tmp_path / "a")).eval()
    with torch.no_grad():
        expected, result = loaded.module(**BATCH).logits, theirs(**BATCH).logits
        for handle in handles:
            handle.remove()
        without = loaded.module(**BATCH).logits
    assert torch.allclose(result, expected, atol=1e-5) and not torch.allclose(result, without, atol=1e-3)
    ranks = adapter.config.rank_pattern
    assert ranks["bert.encoder.layer.1.attention.self.key"] == 5, "the old adapter has nothing there"
    old = len(adapter_factors(loaded, variant)["bert.encoder.layer.0.attention.self.query"].before)
    assert ranks["bert.encoder.layer.0.attention.self.query"] == old + 2
    assert adapter.lora_parameters == sum(
        tensor.numel() for name, tensor in adapter.tensors.items() if ".lora_" in name
    )


def test_a_layer_that_adalora_has_cut_is_left_out(make_config: Callable[..., Config]) -> None:
    loaded = with_adapter(load_base(make_config(adapter={"variant": "adalora", "rank": 3, "targets": ["query"]})))
    cut, kept = (f"bert.encoder.layer.{number}.attention.self.query" for number in (0, 1))
    with torch.no_grad():
        for name, parameter in loaded.plain.named_parameters():
            if "lora_E" in name:
                parameter.fill_(0.0 if cut in name else 1.0)
    adapter = RecalibratedAdapter.of(loaded, "adalora", {kept: Correction(torch.randn(2, 32), torch.randn(32, 2))})
    assert set(adapter.config.target_modules or []) == set(adapter.config.rank_pattern) == {kept}
    assert not [name for name in adapter.tensors if cut in name]


def test_every_variant_has_factors_or_a_reason() -> None:
    assert all((variant.factors is None) == bool(variant.no_sum) for variant in VARIANTS.values())
