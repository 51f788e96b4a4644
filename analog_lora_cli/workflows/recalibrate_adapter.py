"""One more adapter for a checkpoint in closed form: an adapter of it with the correction of one aged chip added."""

from __future__ import annotations

import time
from dataclasses import asdict

from analog_lora_cli.models.recalibrated_adapter import RecalibratedAdapter
from analog_lora_cli.models.recalibration import Recalibrator
from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.storage.checkpoint import Checkpoint, read_checkpoint
from analog_lora_cli.training.result import TrainingResult
from analog_lora_cli.workflows.adaptation import Adaptation
from analog_lora_cli.workflows.observer import RunObserver
from analog_lora_cli.workflows.store_adapter import NewAdapter, open_adaptation, store_adapter
from analog_lora_cli.workflows.train import parameter_counts, prepare


def recalibrate_adapter(adaptation: Adaptation, observer: RunObserver, resume: bool) -> Checkpoint:
    """Recalibrate the chip of an adaptation, and store the adapter with its correction.

    The checkpoint is left as it was until the adapter is complete.

    Args:
        adaptation: the plan, checked; of an objective with a recalibration, a chip and an adapter to start from.
        observer: watches it.
        resume: as for `train_adapter`.

    Returns:
        the checkpoint with the new adapter.

    Raises:
        UsageError: before anything is written.
        AnaloraError: while running.
    """
    settings, chip, start = adaptation.config.objective.recalibration, adaptation.chip, adaptation.start
    assert settings is not None and chip is not None and start is not None
    observer.stage("reading data and model")
    model = prepare(adaptation.config, adaptation.checkpoint, start).model
    assert model.analog is not None
    observer.built(model)
    with open_adaptation(adaptation, resume):
        processes.wait_for_all()
        if is_main():
            observer.stage(f"recalibrating chip {chip.seed} at {chip.at}")
            started = time.monotonic()
            model.loaded.module.to(processes.own_device())
            recalibrator = Recalibrator(model.analog, settings)
            calibration = recalibrator.calibrate(chip.seed, chip.age)
            variant = adaptation.checkpoint.config_of(start).adapter.variant
            adapter = RecalibratedAdapter.of(model.loaded, variant, calibration.corrections)
            seconds = time.monotonic() - started
            observer.stage(f"writing adapter {adaptation.name}")
            trainable = sum(tensor.numel() for tensor in adapter.tensors.values())
            counts = parameter_counts(model) | {"trainable": trainable, "adapters": adapter.lora_parameters}
            details: dict[str, object] = {"recalibration": {**asdict(settings), "ranks": calibration.ranks,
                                         "explained": calibration.explained}}  # fmt: skip
            new = NewAdapter(adapter.save, counts, details)
            store_adapter(adaptation, model, TrainingResult.untrained(recalibrator.sequences, seconds), new)
        processes.wait_for_all()
    return read_checkpoint(adaptation.checkpoint.folder)
