"""`iot telemetry export` and `import`: a file that a spreadsheet opens, there and back."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Core

DAY = (datetime.now(UTC) - timedelta(days=9)).date()


def test_a_file_goes_out_and_comes_back(core: Core, tmp_path: Path) -> None:
    secret = core.add("sl-file", "native-streetlight", "--name", "Đèn Hồng Bàng")
    for minute in range(3):
        core.tell("sl-file", secret, time=f"{DAY}T08:0{minute}:00+07:00", power=80.5 + minute, on=minute > 0)
    file = tmp_path / "june.csv"
    done = core("telemetry", "export", str(file), "--device", "sl-file")
    assert (done.code, done.err) == (0, f"3 rows written to {file}.\n")
    data = file.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(data.decode("utf-8-sig").splitlines()))
    assert [(row["name"], row["power"], row["on"]) for row in rows][1:] == [
        ("Đèn Hồng Bàng", "81.5", "true"),
        ("Đèn Hồng Bàng", "82.5", "true"),
    ]
    assert core("telemetry", "import", str(file)).out == f"3 rows of {file} are in the store.\n"
    packed = tmp_path / "june.ndjson.gz"
    assert core("telemetry", "export", str(packed), "--device", "sl-file").code == 0
    assert len(gzip.decompress(packed.read_bytes()).splitlines()) == 3
    assert core("telemetry", "import", str(packed)).code == 0
    assert core("area", "add", "ward-file", "--name", "Phường").code == 0
    assert core("device", "edit", "sl-file", "--area", "ward-file").code == 0
    refused = core("telemetry", "export", "sl-file")
    assert (refused.code, "sl-file.csv --device sl-file" in refused.err) == (1, True), refused
    columns = core("telemetry", "export", "--area", "ward-file").out.splitlines()[0].split(",")
    assert "power" in columns
    assert "pm25" not in columns, "nobody in the area measures that"
    piped = core("telemetry", "export", "--device", "sl-file", "--format", "ndjson").out
    assert [json.loads(line)["values"]["power"] for line in piped.splitlines()] == [80.5, 81.5, 82.5]


def test_what_is_wrong_is_said_by_line_and_kept_aside_to_be_mended(core: Core, tmp_path: Path) -> None:
    core.add("sl-aside")
    file = tmp_path / "old.csv"
    file.write_text(
        "device;time;power\nsl-aside;2026-11-20T01:00:00Z;10\nsl-aside;yesterday;11\nsl-gone;2026-11-20T02:00:00Z;12\n",
        encoding="utf-8",
    )
    done = core("telemetry", "import", str(file))
    assert done.code == 1
    assert done.out == f"1 row of {file} is in the store.\n"
    assert f"{file}:3: " in done.err
    assert f"{file}:4: No device has the key sl-gone" in done.err
    aside = tmp_path / "old.csv.rejected.csv"
    assert str(aside) in done.err
    mended = (
        aside.read_text(encoding="utf-8-sig")
        .replace("yesterday", "2026-11-20T03:00:00Z")
        .replace("sl-gone", "sl-aside")
    )
    aside.write_text(mended, encoding="utf-8-sig")
    assert core("telemetry", "import", str(aside)).code == 0
    rows = core.json("telemetry", "get", "sl-aside", "--from", "2026-11-20", "--to", "2026-11-21")
    assert [row["values"]["power"] for row in rows] == [10.0, 12.0, 11.0]


def test_a_file_that_is_no_file_of_ours_is_refused_with_the_next_step(core: Core, tmp_path: Path) -> None:
    file = tmp_path / "sheet.csv"
    file.write_bytes("device,time\nđèn\n".encode("utf-16"))
    done = core("telemetry", "import", str(file))
    assert done.code == 2
    assert "CSV UTF-8" in done.err
    assert core("telemetry", "export", str(tmp_path / "no" / "x.csv"), "--device", "sl-aside").code == 2


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("", "device, time is missing"),
        ("sl-aside,2026-11-20T01:00:00Z,10", "device, time is missing"),
        ("device,power", "time is missing"),
        ("device,time,power,power", "twice: power"),
    ],
)
def test_a_file_whose_first_line_names_no_columns_is_refused_whole(
    core: Core, tmp_path: Path, head: str, said: str
) -> None:
    file = tmp_path / "old.csv"
    file.write_text(f"{head}\nsl-aside,2026-11-20T01:00:00Z,10,11\n" if head else "", encoding="utf-8")
    done = core("telemetry", "import", str(file))
    assert (done.code, said in done.err, "pm25" in done.err or "once" in done.err) == (2, True, True)


def test_kinds_of_rows_kept_aside_in_one_file_come_back_each_under_its_own_columns(core: Core, tmp_path: Path) -> None:
    core.add("sl-kinds")
    file = tmp_path / "old.csv"
    file.write_text(
        "device\ttime\tpower\tvoltage\nsl-kinds\tmonday 8:00\t10\t\nsl-kinds\t2026-11-20T02:00:00\t\t 230 \n",
        encoding="utf-8",
    )
    done = core("telemetry", "import", str(file))
    assert done.code == 1
    assert f"{file}:2: “monday 8:00” is no time with its zone" in done.err
    assert done.err.count("monday 8:00") == 1
    aside = tmp_path / "old.csv.rejected.csv"
    mended = aside.read_text(encoding="utf-8-sig").replace("monday 8:00", "2026-11-20T01:00:00Z")
    aside.write_text(mended.replace("02:00:00,", "02:00:00Z,"), encoding="utf-8")
    assert core("telemetry", "import", str(aside)).code == 0
    rows = core.json("telemetry", "get", "sl-kinds", "--from", "2026-11-20", "--to", "2026-11-21")
    assert [row["values"] for row in rows] == [{"power": 10.0}, {"voltage": 230.0}]
