"""What `iot device show` advises for each state of a device."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from iot_core.api import shapes
from iot_core.cli.portrait import next_step, wrongs

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PLAIN: dict[str, object] = {
    "key": "sl-1", "name": "sl-1", "class": "streetlight", "area": None, "latitude": None, "longitude": None,
    "lifecycle": "active", "state": "ok", "simulated": False, "profile": None, "address": None,
    "last_received_at": NOW, "last_time": NOW, "online": None, "area_path": [], "area_path_en": [],
    "gateway": None, "labels": [],
    "notes": "", "created_at": NOW, "retired_at": None, "online_changed_at": None, "silent_since": None,
    "stored_once": True, "held": 0, "units": [], "latest": [], "alarms": [],
}  # fmt: skip
ALARM: dict[str, object] = {
    "id": 17, "rule": "streetlight.lamp_failure", "severity": "medium", "state": "unacknowledged",
    "title": {"vi": "Đèn hỏng", "en": "Lamp failure"}, "device": "sl-1", "device_name": "sl-1",
    "class": "streetlight", "area": None, "area_name": None, "latitude": None, "longitude": None,
    "metric": "lamp_failure", "value": True, "threshold": True, "latched": False, "late": False, "simulated": False,
    "raised_at": NOW, "received_at": NOW, "cleared_at": None, "acknowledged_at": None, "acknowledged_by": None,
    "closed_at": None, "version": 1,
}  # fmt: skip
SEEN = ALARM | {"state": "acknowledged", "acknowledged_at": NOW, "acknowledged_by": "lan"}

REVOKED: dict[str, object] = {
    "profile": "native-streetlight", "address": "iot:sl-1", "serial": None, "firmware": None, "has_secret": False,
    "mounted_from": NOW, "mounted_to": None,
}  # fmt: skip


def device(**facts: object) -> shapes.DeviceDetail:
    return msgspec.convert(PLAIN | facts, shapes.DeviceDetail)


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        ({}, "iot telemetry watch sl-1"),
        ({"state": "retired", "alarms": [ALARM]}, "iot device restore sl-1"),
        ({"state": "never", "last_received_at": None}, "iot inbox"),
        ({"state": "alarm", "alarms": [SEEN, ALARM]}, "iot alarm ack 17"),
        ({"state": "alarm", "alarms": [SEEN], "held": 2}, "iot held --device sl-1"),
        ({"state": "silent", "silent_since": NOW, "held": 2}, "power and network"),
        ({"held": 2}, "iot held --device sl-1"),
        ({"state": "silent", "silent_since": NOW, "units": [REVOKED]}, "iot device rotate sl-1 --show"),
        ({"units": [REVOKED | {"mounted_from": NOW + timedelta(minutes=1), "has_secret": True}]}, "iot inbox"),
    ],
)
def test_there_is_one_thing_to_do_next(facts: dict[str, object], advice: str) -> None:
    assert advice in next_step(device(**facts))


def test_everything_that_is_wrong_is_listed_and_nothing_else() -> None:
    assert wrongs(device()) == []
    assert wrongs(device(stored_once=None)) == []
    found = [said for _, said in wrongs(device(alarms=[ALARM], silent_since=NOW, held=3, stored_once=False))]
    assert len(found) == 4
    assert found[0].startswith("medium: Lamp failure, not acknowledged")
    assert found[2].startswith("3 messages")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "Lamp failure,"),
        ({"test": True}, "Lamp failure (test),"),
        ({"suppressed_by": "maintenance:3"}, "Lamp failure (kept quiet),"),
    ],
)
def test_an_alarm_that_is_a_test_or_kept_quiet_is_not_taken_for_a_real_one(facts: dict[str, object], said: str) -> None:
    (wrong,) = wrongs(device(state="alarm", alarms=[ALARM | facts]))
    assert said in wrong[1]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"units": [REVOKED]}, True),
        ({"units": [REVOKED | {"has_secret": True}]}, False),
        ({"units": [REVOKED], "lifecycle": "planned"}, False),
        ({"units": [REVOKED | {"address": "modbus://10.0.3.7:502/12"}]}, False),
        ({"units": [REVOKED | {"mounted_to": NOW}]}, False),
    ],
)
def test_a_device_that_nobody_lets_in_says_so(facts: dict[str, object], said: bool) -> None:
    assert any("no secret" in sentence for _, sentence in wrongs(device(**facts))) is said
