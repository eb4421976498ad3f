"""Case folders: a captured message and what it says, two files each and no code.

tests/cases/<name>/case.yaml      model, vendor, source, perhaps traps, and the uplink
tests/cases/<name>/expected.json  samples, held (reasons), online: all that the profile must say, and nothing else
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from iot_core.model import Decoded
from iot_core.profiles import Profiles, uplink_of
from iot_core.profiles.times import parse_time

CASES = Path(__file__).parents[1] / "cases"
TOLERANCE = 1e-6


class Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was on the wire: one of payload, hex, base64 and registers."""

    payload: Any = None
    hex: str | None = None
    base64: str | None = None
    registers: dict[str, list[int]] | None = None
    topic: str = ""
    content_format: int | None = None
    port: int | None = None
    """LoRaWAN: `hex` and `base64` are then the device's own bytes."""
    received_at: str = ""


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One case.yaml."""

    model: str
    vendor: str
    source: str
    """Where the message and its meaning were published."""
    uplink: Sent
    traps: list[str] = []
    """Which of the known traps it stands for: `word order CDAB (M04)`."""


def cases() -> dict[str, Case]:
    """Read all cases, by name."""
    folders = sorted(each for each in CASES.iterdir() if each.is_dir())
    return {each.name: msgspec.yaml.decode((each / "case.yaml").read_bytes(), type=Case) for each in folders}


def said(decoded: Decoded, expected: dict[str, Any]) -> dict[str, Any]:
    """Write a result as expected.json does: a sample's time, seq, run, quality and extra where that one speaks of them."""
    result: dict[str, Any] = {}
    wanted = expected.get("samples", [])
    for index, sample in enumerate(decoded.samples):
        like = wanted[index] if index < len(wanted) else {}
        row: dict[str, Any] = {"values": dict(sample.values)}
        if sample.channel:
            row["channel"] = sample.channel
        if "time" in like:
            row["time"] = None if sample.time is None else sample.time.isoformat().replace("+00:00", "Z")
        row |= {key: getattr(sample, key) for key in ("seq", "run") if key in like}
        if "quality" in like:
            row["quality"] = sample.quality.name.lower()
        if "extra" in like:
            row["extra"] = dict(sample.extra or {})
        result.setdefault("samples", []).append(row)
    if decoded.problems:
        result["held"] = sorted({problem.reason.value for problem in decoded.problems})
    if decoded.online is not None:
        result["online"] = decoded.online
    return result


@pytest.mark.parametrize("name", cases())
def test_a_captured_message_says_what_its_source_says(name: str, profiles: Profiles) -> None:
    case = cases()[name]
    expected = msgspec.json.decode((CASES / name / "expected.json").read_bytes())
    sent = case.uplink
    data = bytes.fromhex(sent.hex) if sent.hex is not None else None
    if sent.base64 is not None:
        data = msgspec.json.decode(f'"{sent.base64}"', type=bytes)
    text = sent.payload if isinstance(sent.payload, str) or sent.payload is None else _json(sent.payload)
    uplink = uplink_of(
        profiles.get(case.model), text=text, data=data, registers=sent.registers,
        topic=sent.topic, content_format=sent.content_format, port=sent.port,
    )  # fmt: skip
    if sent.received_at:
        received = parse_time(sent.received_at)
        assert received is not None
        uplink.received_at = received
    assert said(profiles.get(case.model).decode(uplink), expected) == rounded(expected)


def test_the_cases_are_captures_of_at_least_ten_vendors_and_say_where_they_come_from() -> None:
    assert len({case.vendor for case in cases().values()}) >= 10
    assert [name for name, case in cases().items() if len(case.source) < 20] == []


def test_a_case_is_two_files() -> None:
    for folder in (each for each in CASES.iterdir() if each.is_dir()):
        assert sorted(each.name for each in folder.iterdir()) == ["case.yaml", "expected.json"]


def rounded(expected: Any) -> Any:
    """Let numbers match that differ by what a float32 or a long fraction leaves."""
    if isinstance(expected, dict):
        return {key: rounded(value) for key, value in expected.items()}
    if isinstance(expected, list):
        return [rounded(value) for value in expected]
    if isinstance(expected, float):
        return pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)
    return expected


def _json(payload: object) -> str:
    return msgspec.json.encode(payload).decode()
