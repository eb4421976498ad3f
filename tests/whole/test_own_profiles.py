"""A model that is written while the core runs: its topics, its right to publish, its readings, without a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import aiohttp

from iot_core.api.shapes import DeviceNew
from tests.cli.conftest import IOT
from tests.core import command, core_running, mosquitto_pub, until

OWN = """\
model: acme-aq4
vendor: Acme
title: {vi: Trạm AQ4, en: AQ4 station}
source: "AQ4 manual, p. 3"
interval: 60s
address: "mqtt:acme/{address}"
topics: {"acme/{address}/up": {json: {values: {pm25: dust}}}}
examples:
  - {topic: acme/1/up, payload: {dust: 35.2}, values: {pm25: 35.2}}
  - {topic: acme/1/up, payload: "", held: empty}
"""


async def test_a_model_written_while_the_core_runs_is_heard(
    dsn: str, state_path: Path, free_ports: Callable[[int], int], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    (own / "air_quality").mkdir(parents=True)
    async with core_running(dsn, state_path, free_ports, profiles=str(own)) as (core, client):
        (own / "air_quality" / "acme.yaml").write_text(OWN, encoding="utf-8")
        await until(lambda: core.counters.total("profiles_renewed"), what="the new file is seen")
        added = await client.add_device(DeviceNew(key="aq-1", profile="acme-aq4", address="aq-1"))
        assert added.address == "mqtt:acme/aq-1"
        secret = added.secret or ""

        async def heard() -> object:
            await command(*mosquitto_pub(core, "aq-1", secret, "acme/aq-1/up", json.dumps({"dust": 35.2})))
            return (await client.device("aq-1")).latest

        latest = await until(heard, what="the reading is stored")
        assert [(each.metric, each.value) for each in latest] == [("pm25", 35.2)]
        watching = asyncio.create_task(command(
            *IOT, "profile", "try", "acme-aq4", "--folder", own, "--live", "mqtt:acme/aq-1", "--output", "json",
            "--state", state_path,
        ))  # fmt: skip

        async def seen() -> bool:
            await command(*mosquitto_pub(core, "aq-1", secret, "acme/aq-1/up", json.dumps({"dust": 36.5})))
            return watching.done()

        await until(seen, what="the command has seen a message")
        code, out, err = watching.result()
        assert code == 0, err
        assert json.loads(out)["samples"][0]["values"] == {"pm25": 36.5}
        (own / "air_quality" / "acme.yaml").write_text(OWN.replace("dust}", "dust]"), encoding="utf-8")
        await until(lambda: core.profiles.broken, what="the mistake is seen")
        assert core.profiles.get("acme-aq4").vendor == "Acme"
        async with aiohttp.ClientSession() as http, http.get(f"{core.url}/metrics") as response:
            assert "iot_profiles_broken 1.0" in await response.text()
