"""Data sets from the Hugging Face hub or its local cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analog_lora_cli.errors import HubError

if TYPE_CHECKING:
    import datasets


def load_hub_split(dataset: str, subset: str | None, split: str) -> datasets.Dataset:
    """One split of a data set.

    Args:
        dataset: id of the data set, such as `nyu-mll/glue`.
        subset: name of its configuration, such as `cola`; None if it has only one.
        split: name of the split.

    Raises:
        HubError: it is not in the cache and cannot be fetched.
    """
    import datasets

    try:
        return datasets.load_dataset(dataset, subset, split=split)
    # The hub's client raises errors of half a dozen libraries here, which change from release to release.
    except Exception as error:
        name = f"{dataset} ({subset})" if subset else dataset
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HubError(
            f"the data set {name} could not be loaded: {reason}\n"
            "  Without the hub: give local files with task.train_file and task.validation_file; or copy the hub's\n"
            "  cache (HF_HOME) from another machine and set HF_DATASETS_OFFLINE=1; or name a mirror with HF_ENDPOINT."
        ) from error
