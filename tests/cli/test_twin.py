"""`iot twin show` where a device keeps a schedule: a moment a line, and nothing that a device makes up breaks it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import one_answer

if TYPE_CHECKING:
    from tests.cli.conftest import Iot

POINTS = [
    {"name": "dim", "time": "2026-11-29T10:18:13+00:00", "params": {"level": 100}},
    {"name": "switch", "time": "2026-11-29T22:57:05+00:00", "params": {"on": False}},
]
KEPT = {"key": "evening", "until": "2026-12-06T06:45:49+00:00", "points": POINTS}


def shown(iot: Iot, reported: Any, *arguments: str) -> str:
    keys = [
        {"key": "interval", "sync": "in_sync", "desired": 60, "reported": 60},
        {"key": "schedule", "sync": "drifted", "desired": KEPT, "reported": reported},
    ]
    body = json.dumps({"device": "sl-1", "version": 2, "reported_version": 2, "keys": keys}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with one_answer(head + body) as (url, _):
        return iot("twin", "show", "sl-1", "--url", url, "--token", "t", *arguments).out


def test_a_schedule_stands_below_the_table_with_a_line_for_each_moment(iot: Iot) -> None:
    lines = [line.strip() for line in shown(iot, KEPT).splitlines()]
    assert "2026-11-29 17:18:13 +07  dim level=100" in lines
    assert "2026-11-30 05:57:05 +07  switch on=false" in lines
    assert sum("evening, 2 moments" in line for line in lines) == 1
    assert json.loads(shown(iot, KEPT, "--output", "json"))["keys"][1]["desired"] == KEPT


@pytest.mark.parametrize(
    "reported", [None, "x", 5, [], {"points": 3}, {"points": [{"time": 1, "name": [], "params": "x"}]}]
)
def test_whatever_a_device_says_it_keeps_is_shown(iot: Iot, reported: Any) -> None:
    assert "17:18:13 +07  dim level=100" in shown(iot, reported)
