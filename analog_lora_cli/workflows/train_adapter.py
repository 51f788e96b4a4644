"""One more adapter for a checkpoint: trained on the weights that its chip holds, stored beside the others."""

from __future__ import annotations

from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.storage.checkpoint import Checkpoint, read_checkpoint, saved_by_peft
from analog_lora_cli.storage.workspace import remove_left_overs
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.train import train
from analog_lora_cli.workflows.adaptation import Adaptation, check_adaptation
from analog_lora_cli.workflows.observer import RunObserver
from analog_lora_cli.workflows.recalibrate_adapter import recalibrate_adapter
from analog_lora_cli.workflows.store_adapter import NewAdapter, open_adaptation, store_adapter
from analog_lora_cli.workflows.train import parameter_counts, prepare


def train_adapter(
    adaptation: Adaptation, observer: RunObserver, resume: bool = False, overwrite: bool = False
) -> Checkpoint:
    """Train the adapter and store it; an adapter that is complete is not trained again.

    The checkpoint is left as it was until the adapter is complete.

    Args:
        adaptation: the plan.
        observer: watches it.
        resume: continue where an interrupted adaptation stopped.
        overwrite: replace an adapter of the same name.

    Returns:
        the checkpoint with the new adapter.

    Raises:
        UsageError: before anything is written.
        AnaloraError: while running.
    """
    check_adaptation(adaptation, resume, overwrite)
    processes.wait_for_all()  # The main process must not write before the others have looked at the folder.
    if is_main():
        remove_left_overs(adaptation.checkpoint.folder)
    if resume and adaptation.finished and not adaptation.unfinished:
        return adaptation.checkpoint
    if adaptation.config.objective.recalibration is not None:
        return recalibrate_adapter(adaptation, observer, resume)
    observer.stage("reading data and model")
    arguments = training_arguments(adaptation.config, adaptation.trainer_folder)
    setup = prepare(adaptation.config, adaptation.checkpoint, adaptation.start)
    observer.built(setup.model)
    chip = None if adaptation.chip is None else (adaptation.chip.seed, adaptation.chip.age)
    with open_adaptation(adaptation, resume):
        processes.wait_for_all()
        training = train(setup.model, setup.features, arguments, resume, observer.training, chip)
        if is_main():
            observer.stage(f"writing adapter {adaptation.name}")
            loaded = setup.model.loaded
            new = NewAdapter(saved_by_peft(loaded.module), parameter_counts(setup.model))
            store_adapter(adaptation, setup.model, training, new)
        processes.wait_for_all()
    return read_checkpoint(adaptation.checkpoint.folder)
