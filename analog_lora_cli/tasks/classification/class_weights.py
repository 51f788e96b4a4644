"""Weights of classes in the training loss, and warnings about rare ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches

import numpy as np

from analog_lora_cli.config.sections.labelled import ClassWeights
from analog_lora_cli.errors import UsageError
from analog_lora_cli.runtime import console
from analog_lora_cli.tasks.classification.answers import Counts, Weights
from analog_lora_cli.tasks.classification.labels import LABELS_SHOWN, listed

FEW_SAMPLES = 10
"""A class with fewer training samples is hardly learned."""
RARE = 0.02
"""A class with a smaller share of the training samples is named in a warning."""


def check_weights(setting: ClassWeights, names: Sequence[str]) -> None:
    """Check that `task.class_weights` names classes of the task.

    Raises:
        UsageError: it names another.
    """
    if isinstance(setting, str):
        return
    for name in setting:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            some = ", ".join(names[:LABELS_SHOWN]) + (", ..." if names[LABELS_SHOWN:] else "")
            hint = f"; is {near[0]!r} meant?" if near else ""
            raise UsageError(f"task.class_weights: there is no class {name!r}; the classes are {some}{hint}")


def class_weights(setting: ClassWeights, names: Sequence[str], balanced: Callable[[], Weights]) -> Weights | None:
    """Weight of each class, (C,); None: all have the same.

    Args:
        setting: `task.class_weights`.
        names: names of the classes.
        balanced: function that counts the training samples and gives the weights that `balanced` means, (C,).
    """
    if setting == "none":
        return None
    if isinstance(setting, str):
        return balanced()
    return np.array([setting.get(name, 1.0) for name in names], dtype=np.float32)


def show_weights(names: Sequence[str], counts: Counts, weights: Weights) -> None:
    """Print a note with the samples and the weight of each class, the first ones of many."""
    entries = [
        f"{name} {weight:.3g} ({count} samples)"
        for name, count, weight in zip(names, counts.tolist(), weights.tolist(), strict=True)
    ]
    console.note(f"weights of the classes: {listed(entries)}")


def warn_of_rare_classes(names: Sequence[str], counts: Counts, samples: int, weighted: bool) -> None:
    """Warn of classes that few training samples have, unless there are few samples at all.

    Args:
        names: names of the classes.
        counts: (C,) training samples of each.
        samples: number of training samples.
        weighted: whether the loss has weights already.
    """
    rare = [
        f"{name} ({count})"
        for name, count in zip(names, counts.tolist(), strict=True)
        if count < max(FEW_SAMPLES, RARE * samples)
    ]
    if rare and samples >= FEW_SAMPLES * len(names):
        remedy = "" if weighted else "; task.class_weights: balanced gives them more weight"
        console.warn(
            f"task.label_column: few of the {samples} training samples are of {', '.join(rare)}; a metric such as "
            f"f1_macro in task.metrics shows whether such classes are learned{remedy}"
        )
