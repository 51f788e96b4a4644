"""GRPO: one draw of noise for a rollout and its losses, the same result after a kill, rewards that name themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from analog_lora_cli.config.schema import Config
from analog_lora_cli.workflows.train import train


def test_trained_and_evaluated(grpo_config: Callable[..., Config], tmp_path: Path) -> None:
    result = train(grpo_config(), tmp_path / "run")
    print(result.metrics)
    raise AssertionError
