"""What the server of processes imports once, so that a process for a test starts in no time."""

from __future__ import annotations

from analog_lora_cli.runtime.libraries import prepare_libraries

prepare_libraries()
