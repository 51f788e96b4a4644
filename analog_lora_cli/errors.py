"""The errors that a user sees, and the exit code of each."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REQUIREMENT = 3
EXIT_INTERRUPTED = 130


class AnaloraError(Exception):
    """Something went wrong while running; the message is meant for the user."""

    exit_code = EXIT_FAILED


class DiskFullError(AnaloraError):
    """There is no room to save a file; what was saved before is intact."""


class UsageError(AnaloraError):
    """Wrong arguments or wrong surroundings: nothing was started, nothing was written."""

    exit_code = EXIT_USAGE


class BusyError(UsageError):
    """Another process is writing to the same folder."""


class ConfigError(UsageError):
    """One or more problems in a configuration, all of them in one report.

    Args:
        problems: one sentence each, beginning with the dotted key or the file.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        head = "the configuration has a problem" if len(problems) == 1 else "the configuration has problems"
        super().__init__(f"{head}:\n" + "\n".join(f"  - {problem}" for problem in problems))


class DataError(UsageError):
    """A data file is missing, malformed, or not what the task needs."""


class HubError(UsageError):
    """A model or data set could not be downloaded, and is not in the cache either."""


class CheckpointError(UsageError):
    """A folder is not a checkpoint, is damaged, or does not fit what was asked."""


class StoppedError(AnaloraError):
    """This process ends because of an error that another one reports: it prints nothing.

    Args:
        reason: message of the other one.
        exit_code: exit code of this process.
    """

    def __init__(self, reason: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class RequirementError(AnaloraError):
    """A `--require` did not hold."""

    exit_code = EXIT_REQUIREMENT
