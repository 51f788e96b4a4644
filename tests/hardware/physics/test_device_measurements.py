"""CSV files of measured conductances: what is accepted, and what an error says."""

from __future__ import annotations

from pathlib import Path

import pytest

from analog_lora_cli.errors import DataError
from analog_lora_cli.hardware.physics.device_measurements import read_measurements

HEADER = "device,target_uS,time_s,measured_uS"


def rows(
    levels: tuple[float, ...] = (0, 5, 10, 15, 20), each: int = 20, times: tuple[float, ...] = (20, 60, 200)
) -> list[str]:
    return [
        f"d{level}-{number},{level},{time},{level * 0.9:g}"
        for level in levels
        for number in range(each)
        for time in times
    ]


def write(path: Path, lines: list[str], encoding: str = "utf-8", newline: str = "\n") -> Path:
    path.write_bytes(newline.join(lines).encode(encoding))
    return path


def error(path: Path, lines: list[str]) -> str:
    with pytest.raises(DataError) as caught:
        read_measurements(write(path, lines))
    return str(caught.value)


def test_what_spreadsheets_write(tmp_path: Path) -> None:
    plain = read_measurements(write(tmp_path / "plain.csv", [HEADER, *rows()]))
    assert (len(plain.names), plain.rows, plain.first_read, plain.unused) == (100, 300, 20.0, [])
    assert plain.levels.tolist() == [0, 5, 10, 15, 20]
    shuffled = [",".join([*reversed(row.split(",")), "25 C"]) for row in reversed(rows())]
    lines = ["# lot 7", "Measured_uS, Time_s ,target_us,device,temperature", "", *shuffled, "# end", ",,,,", ""]
    other = read_measurements(write(tmp_path / "excel.csv", lines, "utf-8-sig", "\r\n"))
    assert other.unused == ["temperature"]
    assert sorted(zip(other.names, other.target, other.measured.sum(1), strict=True)) == sorted(
        zip(plain.names, plain.target, plain.measured.sum(1), strict=True)
    )


def test_bad_rows_are_named(tmp_path: Path) -> None:
    lines = [HEADER, "# comment", *rows()]
    lines[3] = "d0-0,0,sixty,0"
    lines[4] = "d0-0,0,200"
    lines[5] = "d0-1,0,0,0"
    lines[6] = "d0-1,3,60,nan"
    lines[7] = ",0,60,-1"
    lines[9] = "d0-2,7,60,1"
    text = error(tmp_path / "m.csv", lines)
    assert "line 4, column time_s: expected a number above 0, got 'sixty'" in text
    assert "line 5: 3 values, expected 4 as in the header" in text
    assert "line 6, column time_s: expected a number above 0, got '0'" in text
    assert "line 7, column measured_uS: expected a number of 0 or more, got 'nan'" in text
    assert "line 8, column device: is empty" in text
    assert "line 8, column measured_uS: expected a number of 0 or more, got '-1'" in text
    assert "line 10, column target_uS: device d0-2 has 7 uS here, 0 uS in line 9" in text


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("device,target_uS,time,measured_uS", "no column time_s; is it what the file calls time?"),
        ("device;target_uS;time_s;measured_uS", "columns are not separated by commas"),
        ("device,device,target_uS,time_s,measured_uS", "column device stands 2 times"),
        ("", "is empty"),
    ],
)
def test_wrong_headers(tmp_path: Path, header: str, expected: str) -> None:
    assert expected in error(tmp_path / "m.csv", [header])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (rows(levels=(0, 5, 10)), "target_uS: 2 levels above 0 uS, 4 are needed"),
        (rows(each=7), "device: 20 devices are needed at each level; too few at 0 uS (7), 5 uS (7)"),
        (rows(times=(20, 200)), "time_s: 3 different times are needed for each device; too few of d0-0 (2)"),
        (rows(times=(20, 20, 200)), "time_s: 3 different times are needed for each device"),
        (rows(times=(20, 60, 199)), "last read must be 10 times later than its first"),
        ([], "0 levels above 0 uS, 4 are needed"),
    ],
)
def test_too_little_says_what_is_missing(tmp_path: Path, lines: list[str], expected: str) -> None:
    assert expected in error(tmp_path / "m.csv", [HEADER, *lines])


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_measurements(write(tmp_path / "m.csv", [HEADER], "utf-16"))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_measurements(tmp_path / "none.csv")
