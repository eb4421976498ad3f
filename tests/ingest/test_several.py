"""One uplink feeds several devices and several times: panels with zones, gateways with channels, memories."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from iot_core.alarms.lifecycle import acknowledge
from iot_core.model import Reason
from tests.ingest.harness import Path, running

NOW = datetime(2026, 11, 20, 1, 0, 5, tzinfo=UTC)
FIRE = 0x0C10
NORMAL = 0x1400


async def feed(path: Path, gateway: str, **channels: int) -> None:
    """Let channels of a gateway's unit feed devices."""
    for channel, device in channels.items():
        await path.pool.execute(
            "INSERT INTO iot.channel (unit_id, channel, device_id)"
            " SELECT u.id, $2, $3 FROM iot.unit u JOIN iot.device d ON d.id = u.device_id WHERE d.key = $1",
            gateway,
            channel.removeprefix("_"),
            device,
        )
    await path.reload()


def chirpstack(data: bytes, eui: str, **more: Any) -> str:
    said = {"time": "2026-11-20T01:00:00Z", "deviceInfo": {"devEui": eui}, "fCnt": 7, **more}
    return json.dumps(said | {"data": base64.b64encode(data).decode()})


async def test_a_panel_says_in_one_answer_which_zones_burn(any_shipped_dsn: str) -> None:
    async with running(any_shipped_dsn) as path:
        address = "modbus://10.0.3.7:502/1"
        await path.add("panel", "fire_detector", "notifier-modbus-gw", address)
        first, third = [await path.add(key, "fire_detector", address=f"iot:{key}") for key in ("zone-1", "zone-3")]
        await feed(path, "panel", _1=first, _3=third)
        outcome = await path.say(
            "panel", b"", driver="modbus", address=address, received_at=NOW,
            registers={"holding:0": [FIRE, NORMAL, NORMAL]},
        )  # fmt: skip
        rows = await path.rows("fire_detector")
        assert {row["device_id"]: row["alarm"] for row in rows} == {first: True, third: False}
        assert {row["time"] for row in rows} == {NOW}
        assert outcome.stored == 2
        assert [problem.reason for problem in outcome.problems] == [Reason.UNKNOWN_ADDRESS]  # nobody mapped detector 2
        alarms = await path.pool.fetch("SELECT device_id, rule FROM iot.alarm")
        assert [(row["device_id"], row["rule"]) for row in alarms] == [(first, "fire_detector.alarm")]


async def test_eight_switches_in_one_byte_are_eight_lamps_beside_their_controller(dsn: str) -> None:
    async with running(dsn) as path:
        address = "lorawan:24e124756b123456"
        whole = await path.add("controller", "streetlight", "milesight-ws558", address)
        lamps = [await path.add(f"lamp-{n}", "streetlight", address=f"iot:lamp-{n}") for n in range(1, 9)]
        await feed(path, "controller", **{f"_{n}": lamp for n, lamp in enumerate(lamps, 1)})
        data = bytes.fromhex("083100A5048032000000")
        outcome = await path.say(
            "controller", chirpstack(data, "24e124756b123456", fPort=85), address=address, received_at=NOW,
            topic="application/1/device/24e124756b123456/event/up",
        )  # fmt: skip
        rows = {row["device_id"]: row for row in await path.rows("streetlight")}
        assert outcome.stored == 9
        assert [rows[lamp]["on"] for lamp in lamps] == [True, False, True, False, False, True, False, True]
        assert (rows[whole]["power"], rows[whole]["on"]) == (50.0, None)
        assert {row["time"] for row in rows.values()} == {datetime(2026, 11, 20, 1, 0, tzinfo=UTC)}


async def test_a_memory_brings_its_own_times_and_is_stored_once(dsn: str) -> None:
    async with running(dsn) as path:
        address = "lorawan:24e124713b123456"
        await path.add("gauge", "flood_gauge", "milesight-em500-udl", address)
        earlier = datetime(2026, 11, 19, 20, 0, tzinfo=UTC)
        memory = b"".join(
            b"\x20\xce" + int((earlier + timedelta(minutes=10 * n)).timestamp()).to_bytes(4, "little")
            + (2500 + n).to_bytes(2, "little")
            for n in range(3)
        )  # fmt: skip
        message = chirpstack(bytes.fromhex("01756403821E00") + memory, "24e124713b123456", fPort=85)
        for _ in range(2):
            outcome = await path.say("gauge", message, address=address, received_at=NOW)
            assert (outcome.stored, list(outcome.problems)) == (4, [])
        rows = await path.rows("flood_gauge")
        assert [row["distance"] for row in rows] == pytest.approx([2.5, 2.501, 2.502, 0.03])
        assert [row["time"] for row in rows[:3]] == [earlier + timedelta(minutes=10 * n) for n in range(3)]
        assert [row["battery"] for row in rows] == [None, None, None, 100.0]


async def test_what_a_channel_says_that_nobody_mapped_is_held(dsn: str) -> None:
    async with running(dsn) as path:
        address = "lorawan:a84041000181d4a8"
        await path.add("four", "flood_gauge", "dragino-ldds04", address)
        bin_2 = await path.add("bin-2", "flood_gauge", address="iot:bin-2")
        await feed(path, "four", _2=bin_2)
        data = bytes.fromhex("0D4A03160318031A031501")
        outcome = await path.say(
            "four", chirpstack(data, "a84041000181d4a8", fPort=2), address=address, received_at=NOW
        )
        rows = {row["device_id"]: row["distance"] for row in await path.rows("flood_gauge")}
        assert rows[bin_2] == pytest.approx(0.792)
        assert len(rows) == 2
        # What the other two channels say is held, not lost, until somebody says whose it is.
        assert [reason for reason, _ in await path.held()] == ["unknown_address", "unknown_address"]
        assert outcome.stored == 2


async def test_each_press_of_a_button_that_says_no_release_rings_anew(dsn: str) -> None:
    async with running(dsn) as path:
        address = "lorawan:24e124535b123456"
        await path.add("panic", "panic_button", "milesight-ws101", address)

        async def press(minute: int) -> None:
            at = NOW + timedelta(minutes=minute)
            message = chirpstack(bytes.fromhex("017510FF2E02"), "24e124535b123456", fPort=85, time=at.isoformat())
            await path.say("panic", message, address=address, received_at=at)

        async def alarms() -> list[tuple[str, bool]]:
            found = await path.pool.fetch("SELECT rule, closed_at FROM iot.alarm ORDER BY id")
            return [(row["rule"], row["closed_at"] is not None) for row in found]

        await press(0)
        assert await alarms() == [("panic_button.pressed", False)]
        async with path.pool.acquire() as connection:
            alarm = await connection.fetchval("SELECT id FROM iot.alarm")
            await acknowledge(connection, alarm, by="operator")
        assert await alarms() == [("panic_button.pressed", True)]
        await press(5)
        assert await alarms() == [("panic_button.pressed", True), ("panic_button.pressed", False)]
