"""Pushing an export to the hub."""

from __future__ import annotations

from pathlib import Path

from analog_lora_cli.errors import AnaloraError, HubError, UsageError
from analog_lora_cli.export.manifest import EXPORT
from analog_lora_cli.runtime.libraries import hub_unreachable_reason


def check_repository(name: str, overwrite: bool) -> None:
    """Check that an export may be pushed to a repository, before anything is computed; writes nothing.

    Args:
        name: `USER/NAME`.
        overwrite: an earlier export in the repository may be replaced.

    Raises:
        UsageError: the name has another form, or the repository holds something.
        HubError: the hub is not reachable, or nobody is logged in.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
        well_formed = name.count("/") == 1
    except ValueError:
        well_formed = False
    if not well_formed:
        raise UsageError(f"--push-to-hub {name}: expected USER/NAME of letters, digits, '-', '_' and '.'")
    if constants.is_offline_mode():
        raise HubError("--push-to-hub: HF_HUB_OFFLINE is set, which forbids requests to the hub; unset it to push")
    unreachable = hub_unreachable_reason()
    if unreachable is not None:
        raise HubError(f"--push-to-hub: {constants.ENDPOINT} cannot be reached: {unreachable}; export without it")
    api = HfApi()
    try:
        api.whoami()
    except Exception as error:  # No token, or one that the hub does not know: each release has its own error.
        raise HubError(
            f"--push-to-hub: not logged in to {constants.ENDPOINT}: {_reason(error)}. Log in with hf auth login, "
            "or set HF_TOKEN to a token that may write"
        ) from None
    try:
        present = set(api.list_repo_files(name)) - {".gitattributes"}
    except RepositoryNotFoundError:
        return
    except Exception as error:
        raise HubError(f"--push-to-hub {name}: {_reason(error)}") from None
    if present and not overwrite:
        raise UsageError(f"--push-to-hub {name}: the repository holds files; replace them with --overwrite")
    if present and EXPORT not in present:
        raise UsageError(f"--push-to-hub {name}: the repository holds no export of analora (no {EXPORT}); use another")


def push(folder: Path, name: str, message: str) -> str:
    """Upload an export, in one commit; what an earlier export left there and this one has not goes away.

    Args:
        folder: the export.
        name: repository that `check_repository` has accepted; created, public, if it does not exist.
        message: message of the commit.

    Returns:
        address of the repository.

    Raises:
        AnaloraError: the hub refused, or went away.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(name, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, commit_message=message, delete_patterns="*", ignore_patterns="__pycache__"
        )
    except Exception as error:  # huggingface_hub and the HTTP library below it have many.
        raise AnaloraError(
            f"--push-to-hub {name}: {_reason(error)}. The export is complete in {folder}; "
            f"push it with hf upload {name} {folder}"
        ) from error
    return str(address)


def _reason(error: Exception) -> str:
    """The first lines of an error, as one: huggingface_hub gives the status first and what it means after it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]).rstrip(".") or type(error).__name__
