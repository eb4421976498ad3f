"""What devices say of themselves is remembered within bounds that they do not choose."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from drivers.mqtt import discovery
from drivers.mqtt.discovery import Discovery


def heard(memory: Discovery, mac: str, kind: str, said: object) -> bytes | None:
    units: Any = None
    found = memory.heard(f"tasmota/discovery/{mac}/{kind}", json.dumps(said).encode(), units)
    return None if found is None else found[1]


def config(topic: str, **more: str) -> dict[str, object]:
    return {"t": topic, "ft": "%prefix%/%topic%/", "tp": ["cmnd", "stat", "tele"], **more}


@pytest.fixture
def memory() -> Discovery:
    topics: Any = SimpleNamespace(sender=lambda topic, _: (f"mqtt:{topic}", "telemetry"))
    return Discovery(topics)


def test_a_message_that_no_real_device_sends_is_not_remembered(memory: Discovery) -> None:
    assert heard(memory, "A", "config", config("a", dn="x" * 20_000)) is None
    assert heard(memory, "A", "config", config("a", dn="x")) is not None
    big = heard(memory, "A", "sensors", {"sn": {"x": "x" * 20_000}})
    assert big is None
    assert memory._sensors == {}


def test_who_is_known_is_heard_again_without_forgetting_the_others(
    memory: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_REMEMBERED", 2)
    for mac in ("A", "B", "A", "B"):
        heard(memory, mac, "config", config(mac))
    assert set(memory._configs) == {"A", "B"}
    heard(memory, "C", "config", config("C"))
    assert set(memory._configs) == {"C"}


@pytest.mark.parametrize(
    ("full", "topic"),
    [
        ("%prefix%/%topic%/", "tele/den_001/SENSOR"),
        ("%topic%/%prefix%", "den_001/tele/SENSOR"),
        ("city//%prefix%/%id%/#", "city/tele/DC4F22D3B32F/SENSOR"),
        ("%hostname%/%prefix%/", "den-001-4911/tele/SENSOR"),
    ],
)
def test_a_full_topic_is_filled_in_as_tasmota_does(memory: Discovery, full: str, topic: str) -> None:
    said = config("den_001", ft=full, mac="DC4F22D3B32F", hn="den-001-4911")
    units: Any = None
    found = memory.heard("tasmota/discovery/DC4F22D3B32F/config", json.dumps(said).encode(), units)
    assert found is not None
    assert found[0] == f"mqtt:{topic}"
