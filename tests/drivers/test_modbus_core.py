"""A whole core with Modbus devices behind it: polled into tables, asked at once, from a person's command line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iot_core.api.shapes import DeviceNew
from iot_core.client import Client
from iot_core.errors import CommandRejected, DeviceUnreachable, NotFoundError
from tests.core import command, core_running, until
from tests.drivers.modbus_peer import TABLES, Asked, Memory, Writer, peer

IOT = (sys.executable, "-m", "iot_core.cli")
FLOW = [0x0000, 0x3FC0]  # 1.5 m3/h, low word first


async def meter(asked: Asked, writer: Writer) -> None:
    """A TUF-2000M: flow in registers 0 and 1, volume from 8 on, temperature at 32."""
    words = dict(enumerate(FLOW)) | {8: 0x86A0, 9: 0x0001, 10: 0x0000, 11: 0x3E80, 32: 0x806B, 33: 0x4212}
    assert TABLES[asked.function] == "holding"
    await asyncio.sleep(0.01)
    writer.write(asked.words([words.get(asked.address + at, 0) for at in range(asked.count)]))


async def test_a_device_is_read_now_while_500_others_are_polled(
    dsn: str, state_path: Path, free_ports: Callable[[int], int], free_port: Callable[[], int]
) -> None:
    async with (
        peer(free_port(), dict.fromkeys(range(1, 248), meter)) as one,
        peer(free_port(), dict.fromkeys(range(1, 248), meter)) as two,
        core_running(dsn, state_path, free_ports) as (core, client),
    ):
        new = [
            DeviceNew(key=f"wm-{at.port}-{number}", profile="tuf-2000m", address=f"127.0.0.1:{at.port}/{number}")
            for at in (one, two)
            for number in range(1, 247)
        ]
        await client.add_devices(new)
        last = new[-1].key
        await until(lambda: len(one.asked) + len(two.asked) > 100, what="polls are under way")
        began = asyncio.get_running_loop().time()
        asked = await client.read_now(last)
        assert asyncio.get_running_loop().time() - began < 1
        assert {item.metric: item.value for item in asked.items} == {
            "flow": 1.5, "volume": 100000.25, "temperature": 36.62541,
        }  # fmt: skip
        assert asked.stored
        stored = await client.telemetry(last, limit=10)
        assert asked.time in [row.time for row in stored.items]
        where = ("--url", core.url, "--token", core.token, "--lang", "en")
        code, out, err = await command(*IOT, "device", "read", last, "--now", *where)
        assert (code, err) == (0, ""), err
        assert f"{last} answered" in out
        assert "36.6" in out
        code, out, _ = await command(*IOT, "device", "read", last, "--now", "--output", "json", *where)
        assert json.loads(out)["items"][0]["metric"] == "volume"


async def test_what_cannot_be_asked_says_why(
    dsn: str, state_path: Path, free_ports: Callable[[int], int], free_port: Callable[[], int]
) -> None:
    async with peer(free_port(), {}) as at, core_running(dsn, state_path, free_ports) as (core, client):
        await client.add_device(DeviceNew(key="wm-1", profile="tuf-2000m", address=f"127.0.0.1:{at.port}/9"))
        await client.add_device(DeviceNew(key="aq-1", profile="native-air-quality"))
        await until(lambda: at.asked, what="it is polled")
        with pytest.raises(DeviceUnreachable) as silent:
            await client.read_now("wm-1")
        assert silent.value.facts["reason"] == "timeout"
        with pytest.raises(CommandRejected, match="no_read"):
            await client.read_now("aq-1")
        with pytest.raises(NotFoundError):
            await client.read_now("aq-2")
        await client.remove_device("aq-1")
        with pytest.raises(NotFoundError, match="not_mounted"):
            await until(lambda: client.read_now("aq-1"))
        where = ("--url", core.url, "--token", core.token, "--lang", "vi")
        code, out, err = await command(*IOT, "device", "read", "wm-1", "--now", *where)
        assert (code, out) == (3, "")
        assert "không trả lời (hết thời gian chờ)" in err


async def test_a_command_from_a_person_is_in_the_devices_registers(
    dsn: str, state_path: Path, free_ports: Callable[[int], int], free_port: Callable[[], int]
) -> None:
    panel = Memory(words=dict.fromkeys([*range(2000, 2006), *range(4000, 4012)], 0))
    locked = Memory(words=dict(panel.words), functions=frozenset({3}))
    async with (
        peer(free_port(), {9: panel, 10: locked}) as at,
        core_running(dsn, state_path, free_ports) as (_, client),
    ):
        for key, unit_id in (("lc-1", 9), ("lc-2", 10)):
            address = f"127.0.0.1:{at.port}/{unit_id}"
            await client.add_device(DeviceNew(key=key, profile="ge-a-series", address=address))
        await until(lambda: {asked.unit_id for asked in at.asked} == {9, 10}, what="both are polled")
        await client.command("lc-1", "switch", {"on": True})
        assert panel.words[2001] == 1, "the manual counts from 1"
        with pytest.raises(CommandRejected) as refused:
            await client.command("lc-2", "switch", {"on": True})
        assert refused.value.facts["exception"] == 1


OWN = """\
model: acme-meter
vendor: Acme
title: {vi: Đồng hồ Acme, en: Acme meter}
source: "Acme manual, p. 3"
interval: 1s
modbus: {points: {flow: {table: holding, address: 0, type: float32, order: CDAB}}}
"""


async def test_an_own_model_that_is_broken_at_the_start_is_polled_once_it_is_mended(
    dsn: str, state_path: Path, free_ports: Callable[[int], int], free_port: Callable[[], int], tmp_path: Path
) -> None:
    file = tmp_path / "own" / "water_meter" / "acme.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(OWN, encoding="utf-8")
    own = str(tmp_path / "own")
    async with peer(free_port(), {9: meter}) as at:
        async with core_running(dsn, state_path, free_ports, profiles=own) as (_, client):
            await client.add_device(DeviceNew(key="wm-1", profile="acme-meter", address=f"127.0.0.1:{at.port}/9"))
            await until(lambda: at.asked, what="it is polled")
        file.write_text(OWN.replace("float32", "float23"), encoding="utf-8")
        at.asked.clear()
        async with core_running(dsn, state_path, free_ports, profiles=own) as (core, client):
            assert [each.model for each in core.profiles.broken] == ["acme-meter"]
            with pytest.raises(DeviceUnreachable, match="not_polled"):
                await client.read_now("wm-1")
            assert not at.asked, "nobody knows what to ask"
            file.write_text(OWN, encoding="utf-8")
            await until(lambda: at.asked, what="it is polled again, without a restart")
            assert {item.metric: item.value for item in (await client.read_now("wm-1")).items} == {"flow": 1.5}
            # And one whose class is broken: the class is mended, and its models with it.
            folder = tmp_path / "own" / "trial"
            folder.mkdir()
            (folder / "class.yaml").write_text(TRIAL.replace("float", "flaot"), encoding="utf-8")
            (folder / "trial.yaml").write_text(OWN.replace("acme-meter", "acme-trial"), encoding="utf-8")
            await until(lambda: len(core.profiles.broken) == 2, what="the class and its model are broken")
            (folder / "class.yaml").write_text(TRIAL, encoding="utf-8")
            await until(lambda: not core.profiles.broken, what="both are mended")
            new = DeviceNew(key="trial-1", profile="acme-trial", address=f"127.0.0.1:{at.port}/9")
            await client.remove_device("wm-1")
            await client.add_device(new)
            await until(lambda: _said(client, "trial-1"), what="it is polled")


TRIAL = "title: {vi: Thử, en: Trial}\nmetrics:\n  flow: {title: {vi: Lưu lượng, en: Flow}, ucum: m3/h, type: float}\n"


async def _said(client: Client, key: str) -> object:
    return (await client.device(key)).latest
