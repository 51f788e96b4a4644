"""Surroundings that must be set before transformers is imported."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings


def prepare_libraries() -> str | None:
    """Make the libraries quiet, offline where nothing was asked of the network, and safe from a broken torchvision.

    transformers probes for torchvision when it imports its models. Where torch is a CPU build and torchvision a CUDA
    build, that import fails and takes every model with it; this tool needs no images, so torchvision is hidden then.

    Returns:
        why torchvision was hidden, or None if it works or is not installed.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    reason = hide_broken_torchvision()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
    warnings.filterwarnings("ignore", message=".*save_embedding_layers.*")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in ("datasets", "peft", "accelerate", "torch.distributed", "aihwkit"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return reason


def hide_broken_torchvision() -> str | None:
    """Make torchvision invisible if it cannot be imported; returns the reason."""
    if "torchvision" in sys.modules and sys.modules["torchvision"] is None:
        return "it was hidden before"
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # A broken binary can raise anything.
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None
