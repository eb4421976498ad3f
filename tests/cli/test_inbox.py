"""`iot inbox` when somebody is there: who, how often, what was said, and how to accept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli.conftest import one_answer

if TYPE_CHECKING:
    from tests.cli.conftest import Ended, Iot

SENDER = {
    "address": "mqtt:tele/0071",
    "driver": "mqtt",
    "messages": 12,
    "first_at": "2026-06-01T05:00:00Z",
    "last_at": "2026-06-01T05:11:00Z",
    "topic": "tele/0071",
    "payload": '{"a":\n 1}\x1b[31m' + "x" * 200,
    "registers": None,
}
POLLED = SENDER | {"address": "modbus://10.0.0.1:502/\x1b[2J3", "payload": "", "registers": {"holding:4": [352, 12]}}


def inbox(iot: Iot, *arguments: str) -> Ended:
    body = json.dumps({"items": [SENDER, POLLED]}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with one_answer(head + body) as (url, _):
        return iot("inbox", "--url", url, "--token", "t", *arguments)


def test_a_sender_stands_with_what_it_said_and_how_to_accept_it(iot: Iot) -> None:
    said = inbox(iot).out
    assert "mqtt:tele/0071" in said
    assert "2026-06-01 12:00:00 +07" in said
    assert "holding:4 [352, 12]" in said
    assert "iot inbox accept mqtt:tele/0071" in said


def test_what_a_stranger_sends_never_reaches_the_terminal_as_control_codes(iot: Iot) -> None:
    said = inbox(iot).out
    assert "\x1b" not in said
    assert '{"a": 1}·[31mxxx' in said
    assert "x" * 100 not in said


def test_scripts_get_all_of_it(iot: Iot) -> None:
    assert json.loads(inbox(iot, "--output", "json").out) == [
        {**each, "guess": [], "says": {}} for each in (SENDER, POLLED)
    ]
