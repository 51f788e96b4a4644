"""Environment of the libraries, to be set before transformers is imported."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import logging
import os
import sys
import time
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from analog_lora_cli.runtime import console
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime.cores import share_cores

LOGGERS = (
    "transformers",
    "datasets",
    "peft",
    "accelerate",
    "torch.distributed",
    "aihwkit",
    "trl",
    "lm_eval",
    "evaluate",
)
"""Libraries whose messages are logged."""

HARMLESS = (
    "pin_memory",  # Without a GPU there is nothing to pin.
    "lr_scheduler.step",  # The trainer calls it in the right order; torch does not see that through accelerate.
    "save_embedding_layers",  # PEFT looks for a vocabulary on the hub; no adapter here holds one.
    "rank_pattern keys did not match",  # PEFT's AdaLoRA names its ranks by parameter, PEFT looks for modules.
    "`r` is not used in AdaLora",  # PEFT stores `r` itself and then warns of it when it reads its own file.
    "Using a non-tuple sequence for multidimensional indexing",  # In aihwkit's device `hermes`.
)
"""Parts of warnings that libraries give for what they do themselves; a user can do nothing about them."""

HUB_TIMEOUT = 5.0
"""Time limit for the hub to accept a connection, in seconds."""

_hidden_because: str | None = None


def prepare_libraries() -> str | None:
    """Make the libraries quiet, independent of an unreachable hub, and safe from a broken torchvision.

    transformers probes for torchvision when it imports its models. Where torch is a CPU build and torchvision a CUDA
    build, that import fails and takes every model with it; images are read with Pillow, so torchvision is hidden then.

    Returns:
        why torchvision was hidden, or None if it works or is not installed.
    """
    # Before torch is imported: its network code would print a stack of addresses for each process that is lost.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    reason = hide_broken_torchvision()
    fail_fast_without_hub()
    if run_log.command():  # Warnings and loggers of a Python program are its own.
        _listen()
    return reason


class _Listener(logging.Handler):
    """Handler that sends warnings of libraries to the log of the command, and errors to the screen too."""

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.name.partition('.')[0]}: {record.getMessage()}"
        if record.levelno >= logging.ERROR:
            console.warn(text)
        else:
            run_log.record("library", text)


def _listen() -> None:
    import transformers

    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message=f".*{message}.*")
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.handlers = [_Listener()]
        logger.propagate = False
    warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a Python warning that no filter has silenced in one line, with the library that it comes from."""
    parts = Path(filename).parts
    package = parts[parts.index("site-packages") + 1] if "site-packages" in parts else Path(filename).stem
    console.warn(f"{package}: {' '.join(str(message).split())}")


def imports_done() -> None:
    """Share the cores, and switch the collector on, which commands keep off while libraries are imported."""
    if run_log.command():
        gc.freeze()
        gc.enable()
    share_cores()


def hide_broken_torchvision() -> str | None:
    """Make torchvision invisible if it cannot be imported; returns the reason, also when it is called again."""
    global _hidden_because
    if "torchvision" in sys.modules and sys.modules["torchvision"] is None:
        return _hidden_because or "it was hidden before"
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # A broken binary can raise anything.
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        _hidden_because = f"{type(error).__name__}: {error}".splitlines()[0]
        return _hidden_because
    return None


def fail_fast_without_hub() -> None:
    """Let the first request to the hub find out whether it can be reached, before anything is waited for.

    huggingface_hub repeats each request five times with growing pauses, about 25 seconds for each file, also where
    there is no network at all. With this, an unreachable hub is known after a second or two, and what is in the cache
    is used as with `HF_HUB_OFFLINE=1`. A hub that can be reached is asked with all of the library's own patience.
    Nothing is asked before something is needed from the hub.
    """
    try:
        from huggingface_hub import constants, set_client_factory
        from huggingface_hub.errors import OfflineModeIsEnabled
        from huggingface_hub.utils._http import default_client_factory
    except ImportError:  # Another release: its own behaviour is slower, not wrong.
        return

    def connect() -> Any:  # The HTTP library differs between releases of huggingface_hub.
        client = default_client_factory()
        reason = None if constants.is_offline_mode() else hub_unreachable_reason()
        if reason is not None:
            client.close()
            _say_once(f"{constants.ENDPOINT} cannot be reached ({reason}): taking from the local cache what is there")
            raise OfflineModeIsEnabled(f"Cannot reach {constants.ENDPOINT}: {reason}")
        return client

    set_client_factory(connect)


@lru_cache(maxsize=1)
def _say_once(text: str) -> None:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # It would say so for each file.
    console.warn(text)


@lru_cache(maxsize=1)
def hub_unreachable_reason(timeout: float = HUB_TIMEOUT, attempts: int = 2) -> str | None:
    """Reason why the hub (or the mirror that `HF_ENDPOINT` names) cannot be reached; None if it can. Asked once.

    Args:
        timeout: seconds for one attempt.
        attempts: number of attempts, a second apart.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils._http import default_client_factory

    reason = None
    for attempt in range(attempts):
        if attempt:
            time.sleep(1.0)
        try:
            with default_client_factory() as client:
                client.head(constants.ENDPOINT, timeout=timeout, follow_redirects=False)
            return None
        except Exception as error:  # The HTTP library differs between releases of huggingface_hub.
            if type(error).__name__ == "ReadTimeout":
                return None
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return reason
