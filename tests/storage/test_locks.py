from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.storage.checkpoint import check_output
from analog_lora_cli.storage.layout import LOCK
from analog_lora_cli.storage.locks import check_free, locked

HOLD = """
import sys, time
from pathlib import Path
from analog_lora_cli.storage.locks import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_check_writes_nothing(tmp_path: Path) -> None:
    check_free(tmp_path / "not" / "yet")
    check_free(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        pass
    check_free(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {LOCK}


def test_a_lock_ends_with_its_process(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another process is writing to this folder"):
        check_free(tmp_path)
    with pytest.raises(UsageError, match="another process is writing to this folder"), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    check_free(tmp_path)
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written: Not a directory"), locked(tmp_path / "file" / "run"):
        pass


def test_the_lock_of_the_main_process_stops_no_other_process_of_the_run(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="another process is writing to this folder"):
        check_output(tmp_path, Config(), resume=True, overwrite=False)
    monkeypatch.setenv("RANK", "1")
    check_output(tmp_path, Config(), resume=True, overwrite=False)
