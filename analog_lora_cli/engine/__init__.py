"""The core that the commands share: build, train, evaluate, store."""

from analog_lora_cli.engine.libraries import hide_broken_torchvision

# Before any module of the engine imports transformers, which a broken torchvision would take down.
hide_broken_torchvision()
