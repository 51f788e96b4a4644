"""The core that the commands share: build, train, evaluate, store."""

import os

from analog_lora_cli.engine.libraries import hide_broken_torchvision

# Before torch is imported: its network code would print a stack of addresses for each process that is lost.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
# Before any module of the engine imports transformers, which a broken torchvision would take down.
hide_broken_torchvision()
