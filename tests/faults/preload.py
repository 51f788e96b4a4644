"""What the server of processes imports once, so that a process for a test starts in no time.

All that the commands import, but no compiled loop: those start threads, which a forked process does not have.
"""

from __future__ import annotations

import importlib
import sys

from analog_lora_cli.runtime.libraries import prepare_libraries

prepare_libraries()
for name in (
    *(f"workflows.{module}" for module in ("adapt", "drift", "evaluate", "results", "train")),
    "export.export",
    "figures.drift",
):
    importlib.import_module(f"analog_lora_cli.{name}")
for name in ("aihwkit.inference", "datasets", "matplotlib.pyplot", "numba", "scipy.stats", "transformers.trainer"):
    importlib.import_module(name)
importlib.import_module("transformers.models.bert.modeling_bert")
assert "analog_lora_cli.hardware.kernels.compiler" not in sys.modules
