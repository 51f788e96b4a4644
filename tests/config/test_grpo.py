"""The section of GRPO: what does not fit together is refused with a reason, whatever is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from analog_lora_cli.config.adapt import adaptation_config
from analog_lora_cli.config.load import load_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import ConfigError

GRPO = [
    "task.name=reasoning", "adapter.dropout=0", "train.train_sampling_strategy=random", "objective.kind=grpo",
    "objective.rewards=[format_strict]",
]  # fmt: skip


def test_defaults_are_those_of_trl() -> None:
    trl = pytest.importorskip("trl")
    section = load_config(overrides=GRPO).objective
    for name, value in section.model_dump(exclude={"kind", "rewards"}).items():
        assert trl.GRPOConfig.__dataclass_fields__[name].default == value, name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.use_vllm=true", r"objective\.use_vllm: must be false: vLLM computes with a copy of the weights"),
        ("objective.rewards=[format_strct]", "expected one of format_strict, .*did you mean format_strict"),
        ("objective.rewards=[./mine.py]", r"expected FILE\.py:FUNCTION, such as"),
        ("objective.rewards=[]", r"objective\.rewards: .*at least 1 item"),
        ("objective.reward_weights=[1.0, 2.0]", "reward_weights: 2 weights for 1 rewards"),
        ("objective.num_generation=4", "unknown key; did you mean objective.num_generations"),
        ("train.num_generations=4", "unknown key; did you mean objective.num_generations"),
        ("task.name=squad", "grpo has the model answer prompts, and task squad has none"),
        ("task.name=text", "grpo has the model answer prompts, and task text has none"),
        ("task.packing=true", r"task\.packing: true has no effect with objective grpo"),
        ("task.max_length=512", r"max_completion_length: 512 leaves no room for a prompt within task\.max_length"),
        ("adapter.dropout=0.1", r"adapter\.dropout: 0\.1 with objective grpo"),
        ("adapter.variant=adalora", r"adapter\.variant: adalora needs a term in the model's own loss"),
        ("train.train_sampling_strategy=group_by_length", r"train_sampling_strategy: group_by_length is for samples"),
        ("train.label_smoothing_factor=0.1", r"train\.label_smoothing_factor: objective grpo has no labels"),
    ],
)
def test_what_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=[*GRPO, override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["adapter.variant=vera", "objective.beta=0.1"], r"objective\.beta: .*no copy with variant vera"),
        (["hardware.weight_noise_type=device", "objective.num_iterations=2"], "device takes devices of another age"),
    ],
)
def test_pairs_that_are_refused(overrides: list[str], message: str) -> None:
    """Either alone is accepted."""
    load_config(overrides=[*GRPO, *overrides[:1]])
    load_config(overrides=[*GRPO, *overrides[1:]])
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=[*GRPO, *overrides])


def test_a_trained_base_has_no_reference() -> None:
    trained = ["method=full", *(one for one in GRPO if not one.startswith("adapter."))]
    load_config(overrides=trained)
    with pytest.raises(ConfigError, match=r"objective\.beta: needs the model as it was at the beginning"):
        load_config(overrides=[*trained, "objective.beta=0.1"])


def test_code_that_only_a_checkpoint_names_is_not_run(tmp_path: Path) -> None:
    base = load_config(overrides=[*GRPO, "objective.rewards=[./mine.py:f]"])
    assert isinstance(base, Config)
    with pytest.raises(ConfigError, match=r"mine\.py:f is named by the checkpoint alone, and code is run only where"):
        adaptation_config(base, None, None, ["train.max_steps=3"])
    named = adaptation_config(base, None, None, ["objective.rewards=[./mine.py:f]"])
    assert named.objective == base.objective
    assert adaptation_config(base, None, None, ["objective.kind=supervised"]).objective.own_code == []
