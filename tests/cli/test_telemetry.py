"""`iot telemetry get|latest|stats` for a person and for scripts: the level is said, gaps are seen."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Core

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=6)


@pytest.fixture(scope="module")
def lamp(core: Core) -> str:
    """A lamp that spoke in two of the last six hours."""
    secret = core.add("sl-levels")
    for seq, minute in ((1, 0), (2, 20), (3, 40), (5, 200), (6, 220)):
        at = (START + timedelta(minutes=minute)).isoformat()
        core.tell("sl-levels", secret, time=at, power=100.0 + minute, on=True, seq=seq)
    return "sl-levels"


def test_hours_show_average_and_bounds_and_what_is_missing(core: Core, lamp: str) -> None:
    ended = core("telemetry", "get", lamp, "--from", START.isoformat(), "--level", "1h", "--metric", "power")
    assert "By the hour" in ended.err
    assert re.search(r"120 \(100\.\.140\)", ended.out)
    assert re.search(r"nothing for 2 h, until ", ended.out)
    csv_out = core("telemetry", "get", lamp, "--from", START.isoformat(), "--level", "1h", "--output", "csv").out
    rows = list(csv.DictReader(io.StringIO(csv_out)))
    assert [(row["power_count"], row["power_avg"], row["on_avg"]) for row in rows] == [
        ("3", "120.0", "1.0"),
        ("2", "310.0", "1.0"),
    ]


def test_raw_rows_say_the_zone_and_that_some_were_left_out(core: Core, lamp: str) -> None:
    ended = core("telemetry", "get", lamp, "--from", START.isoformat(), "--limit", "2")
    assert "Asia/Ho_Chi_Minh" in ended.err
    assert "newest 2 rows" in ended.err
    assert "iot telemetry export --device sl-levels" in ended.err
    everything = core.json("telemetry", "get", lamp, "--from", START.isoformat())
    assert len(everything) == 5


def test_many_devices_stand_in_one_list(core: Core, lamp: str) -> None:
    said = core("telemetry", "latest", "--class", "streetlight").out
    assert re.search(rf"{lamp} .* power 320", said)
    assert "KEY" in core("telemetry", "latest").err or "--class" in core("telemetry", "latest").err
    assert core("telemetry", "latest", "--class", "no_such").out.startswith("None of these")


def test_aggregates_are_told_by_device(core: Core, lamp: str) -> None:
    (row,) = core.json("telemetry", "stats", lamp, "--from", START.isoformat(), "--metric", "power", "--by", "device")
    assert (row["device"], row["count"], row["min"], row["max"], row["avg"]) == (lamp, 5, 100.0, 320.0, 196.0)
    said = core("telemetry", "stats", lamp, "--from", START.isoformat(), "--lang", "vi")
    assert "Trung bình" in said.out
    assert core("telemetry", "stats").code == 2


def test_completeness_says_the_share_and_where_the_gaps_are(core: Core, lamp: str) -> None:
    said = core("telemetry", "completeness", "--device", lamp, "--day", "0d")
    assert said.code == 0, said.err
    assert lamp in said.out
    found = core.json("telemetry", "completeness", "--device", lamp, "--day", "0d")
    assert found["zone"] == "Asia/Ho_Chi_Minh"
    assert [each["device"] for each in found["items"]] == [lamp]
    assert found["items"][0]["numbers"] == {"expected": 6, "stored": 5, "share": 0.8333}
    assert found["items"][0]["source"] == "interval"
    assert found["numbers"] == found["items"][0]["numbers"]
    assert "83.33 % (5/6)" in said.out
    assert "83.33 %, 5 of 6 came" in said.out
    assert core("telemetry", "completeness", "--area", "nowhere").code == 1


def test_an_implausible_value_is_marked_without_colour(core: Core) -> None:
    secret = core.add("sl-marked")
    core.tell("sl-marked", secret, time=START.isoformat(), power=99_999.0, voltage=230.0)
    said = core("telemetry", "get", "sl-marked", "--from", START.isoformat()).out
    assert re.search(r"99999\(!\)", said)
    assert "230(!)" not in said
