"""Runs that break off near their end: at the last steps, and when the last state is saved but nothing is stored yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analog_lora_cli.config.schema import Config
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training
from tests.workflows.test_train import Interrupted, adapter, interrupt_after, same


class BreaksOffAtTheEnd(SilentObserver):
    def stage(self, text: str) -> None:
        if text == "writing the checkpoint":
            raise Interrupted


@pytest.mark.parametrize("variant", ["lora", "adalora"])
def test_a_resume_at_the_end_takes_no_step_too_many(
    variant: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """15 steps of 12 an epoch; with a learning rate that does not end at 0, a 16th step would show."""
    train = {"max_steps": 15, "save_steps": 3, "lr_scheduler_type": "constant"}
    config = make_config(adapter={"variant": variant, "dropout": 0.0}, train=train)
    run_training(config, tmp_path / "whole", SilentObserver(), drift=False)
    with pytest.raises(Interrupted):
        run_training(config, tmp_path / "stored", BreaksOffAtTheEnd(), drift=False)
    interrupt_after(config, tmp_path / "step", steps=14)
    for name in ("stored", "step"):
        done = run_training(config, tmp_path / name, SilentObserver(), resume=True, drift=False)
        assert done.metrics["train"]["steps"] == 15
        assert same(adapter(tmp_path / "whole"), adapter(tmp_path / name)), name
        written = [tmp_path / run / "adapters/default/adapter_config.json" for run in ("whole", name)]
        assert written[0].read_text() == written[1].read_text(), "AdaLoRA's final ranks come back"
