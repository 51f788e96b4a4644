"""Options of an export. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analog_lora_cli.config.times import time_option
from analog_lora_cli.errors import UsageError
from analog_lora_cli.storage.layout import FIRST_ADAPTER


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """The options of `analora export`."""

    checkpoint: Path
    format: str
    """`peft`, `merged`, `conductances` or `aihwkit`."""
    output: Path
    adapter: str = FIRST_ADAPTER
    chip: int | None = None
    """Seed of a chip to write the conductances of too; only with `conductances`."""
    at: str | None = None
    """Time after programming at which that chip is read, such as `1y`."""
    repository: str | None = None
    """`USER/NAME` on the hub to push to."""
    overwrite: bool = False

    def check(self) -> None:
        """Check that the options fit together.

        Raises:
            UsageError: one is wrong, or needs another.
        """
        options = {"--chip": self.chip, "--at": time_option("--at", self.at)}
        names = [option for option, value in options.items() if value is not None]
        if names and self.format != "conductances":
            raise UsageError(
                f"{names[0]}: only --format conductances can hold a chip's conductances; leave it out with "
                f"{self.format}"
            )
        if self.chip is not None and self.chip < 0:
            raise UsageError(f"--chip {self.chip}: expected a seed of 0 or more")
        if len(names) == 1:
            missing = "--at TIME, for instance --at 0s" if names == ["--chip"] else "--chip SEED, for instance --chip 0"
            raise UsageError(f"{names[0]}: needs {missing} as well: a chip is read at a time")
