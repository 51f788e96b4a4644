"""What the server of processes imports once, so that a process for a test starts in no time."""

from __future__ import annotations

import analog_lora_cli.cli
import analog_lora_cli.commands.adapt
import analog_lora_cli.commands.evaluate_drift
import analog_lora_cli.commands.export
import analog_lora_cli.commands.train
import analog_lora_cli.engine.export.export
import analog_lora_cli.engine.recovery
import analog_lora_cli.report.adaptation
import analog_lora_cli.report.drift
import analog_lora_cli.report.run  # noqa: F401
from analog_lora_cli.engine.libraries import prepare_libraries

prepare_libraries()
