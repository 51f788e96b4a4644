"""Layers that fused kernels compute past their tiles, and experts that are no linear layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.errors import UsageError
from analog_lora_cli.models.modules import linear_modules, module_facts
from analog_lora_cli.models.placement import require_tiles, unsupported_share
from analog_lora_cli.models.raw_weights import handed_on
from tests.models.decoders import LAYERS

FUSED: dict[str, dict[str, Any]] = {
    "mamba": {"hidden_size": 32, "num_hidden_layers": LAYERS, "state_size": 4},
    "mamba2": {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_heads": 8, "head_dim": 8, "state_size": 4},
    "jamba": {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
              "intermediate_size": 48, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1},
    "falcon_h1": {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
                  "intermediate_size": 48, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8},
}  # fmt: skip
PLAIN = ("BertModel", "DebertaModel", "DebertaV2Model", "MobileBertModel", "LlamaForCausalLM", "BloomForCausalLM",
         "GPTNeoXForCausalLM", "OPTForCausalLM", "GemmaForCausalLM", "T5ForConditionalGeneration")  # fmt: skip
EXPERTS: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 8},
    "qwen2_moe": {"num_experts": 8, "moe_intermediate_size": 48, "shared_expert_intermediate_size": 16},
    "qwen3_moe": {"num_experts": 8, "moe_intermediate_size": 48, "head_dim": 8},
    "gpt_oss": {"num_local_experts": 8, "head_dim": 8},
}


def shapes(kind: str, sizes: dict[str, Any]) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=64, **sizes))


class Kernel(nn.Module):
    """Some layers that are called, and some whose weights are taken."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("called", "taken", "multiplied", "asked", "sliced"):
            setattr(self, name, nn.Linear(4, 4))
        self.called.weight = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.called(x).to(self.asked.weight.dtype)
        if isinstance(self.asked.weight, Tensor):
            x = self.asked(x)
        x = nn.functional.linear(x, self.sliced.weight[:2]) @ torch.ones(2, 4)
        return torch.nn.functional.linear(x @ self.multiplied.weight, weight=self.taken.weight)


def test_weights_that_go_past_their_layer_are_seen_in_the_code() -> None:
    assert handed_on(Kernel) == {"taken", "multiplied"}
    facts = {fact.name: fact.unsupported_reason for fact in module_facts(nn.Sequential(Kernel()))}
    assert [name for name, reason in facts.items() if reason] == ["0.taken", "0.multiplied"]


@pytest.mark.parametrize("kind", FUSED)
def test_hybrids_with_fused_kernels_are_refused_with_the_reason(kind: str) -> None:
    facts = module_facts(shapes(kind, FUSED[kind]))
    with pytest.raises(UsageError, match="Mixer hands its weights to a fused kernel, .* name the layers"):
        require_tiles(facts, HardwareConfig())
    require_tiles(facts, HardwareConfig(layers=["in_proj"], max_unsupported_share=1.0))


@pytest.mark.parametrize("name", PLAIN)
def test_no_layer_of_other_architectures_is_refused(name: str) -> None:
    import transformers

    with torch.device("meta"):
        kind = getattr(transformers, name)
        model = kind(kind.config_class(num_hidden_layers=1, num_layers=1))
    facts = module_facts(model)
    assert not [fact.name for fact in facts if fact.kind == "Linear" and fact.unsupported_reason]
    require_tiles(facts, HardwareConfig())
    assert linear_modules(model)


@pytest.mark.parametrize("kind", EXPERTS)
def test_experts_stay_digital_and_count(kind: str) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = shapes(kind, {**sizes, "intermediate_size": 48, **EXPERTS[kind]})
    facts = module_facts(model)
    experts = [fact for fact in facts if "experts in one 3-D parameter" in (fact.unsupported_reason or "")]
    assert len(experts) == LAYERS and all(len(fact.shape) == 3 and fact.shape[0] == 8 for fact in experts)
    share = unsupported_share(facts)
    assert 0.5 < share < 1 and share > sum(f.parameters for f in experts) / sum(p.numel() for p in model.parameters())
    with pytest.raises(UsageError, match=rf"{share:.1%} of the weights .*max_unsupported_share .50%.: raise it"):
        require_tiles(facts, HardwareConfig())
    require_tiles(facts, HardwareConfig(max_unsupported_share=share))


def test_a_training_refuses_before_it_begins(tmp_path: Path) -> None:
    from analog_lora_cli.config.schema import Config
    from analog_lora_cli.models.build import load_base
    from tests.models.decoders import SIZES, make_decoder

    folder = make_decoder("mixtral", tmp_path / "mixtral", {**SIZES["llama"], **EXPERTS["mixtral"]})
    sections = {"model": {"name": str(folder)}, "task": {"name": "text", "max_length": 16}}
    with pytest.raises(UsageError, match="model.name: .* cannot lie on tiles"):
        load_base(Config.model_validate(sections))
    load_base(Config.model_validate({**sections, "method": "digital"}))
