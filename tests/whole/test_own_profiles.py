"""A model that is written while the core runs: its topics, its right to publish, its readings, without a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from iot_core.api.shapes import DeviceNew
from iot_core.client import Client
from tests.cli.conftest import IOT
from tests.core import command, core_running, mosquitto_pub, until
from tests.profiles.making import put

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
        put(own / "air_quality" / "acme.yaml", OWN)
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
        put(own / "air_quality" / "acme.yaml", OWN.replace("dust}", "dust]"))
        await until(lambda: core.profiles.broken, what="the mistake is seen")
        assert core.profiles.get("acme-aq4").vendor == "Acme"
        async with aiohttp.ClientSession() as http, http.get(f"{core.url}/metrics") as response:
            assert "iot_profiles_broken 1.0" in await response.text()


async def test_a_core_starts_with_a_broken_profile_holds_what_its_devices_say_and_replays_it(
    dsn: str, state_path: Path, free_ports: Callable[[int], int], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    (own / "air_quality").mkdir(parents=True)
    file = own / "air_quality" / "acme.yaml"
    put(file, OWN)
    async with core_running(dsn, state_path, free_ports, profiles=str(own)) as (core, client):
        secret = (await client.add_device(DeviceNew(key="aq-1", profile="acme-aq4", address="aq-1"))).secret or ""
        other = (await client.add_device(DeviceNew(key="aq-2", profile="native-air-quality"))).secret or ""
    # Not even YAML: nothing of the file can be read but its model.
    put(file, OWN.replace("dust}", "dust]"))
    said: list[str] = []
    async with core_running(dsn, state_path, free_ports, say=said.append, profiles=str(own)) as (core, client):
        assert any("acme.yaml, line 7" in line for line in said)
        body = json.dumps({"dust": 35.2})
        await command(*mosquitto_pub(core, "aq-1", secret, "acme/aq-1/up", body))
        await command(*mosquitto_pub(core, "aq-2", other, "iot/v1/aq-2/telemetry", json.dumps({"pm25": 12.5})))

        async def held() -> object:
            return await core.pool.fetch("SELECT reason, detail FROM iot.held_uplink")

        ((reason, detail),) = [tuple(row) for row in await until(held, what="the uplink is held")]
        assert reason == "profile"
        assert detail.startswith("acme.yaml:7")
        await until(lambda: _latest(client, "aq-2"), what="the other device is served")
        code, out, _ = await command(*IOT, "profile", "check", "--folder", own, "--output", "json")
        assert code != 0
        assert [row["model"] for row in json.loads(out) if not row["ok"]] == ["acme-aq4"]
        put(file, OWN)
        await until(lambda: not core.profiles.broken, what="the file is seen to be mended")
        replay = (*IOT, "held", "replay", "--reason", "profile", "--yes", "--state", state_path)
        code, _, err = await command(*replay)
        assert code == 0, err
        assert await _latest(client, "aq-1") == [("pm25", 35.2)]


TRIAL = "title: {vi: Thử, en: Trial}\nmetrics:\n  dust: {title: {vi: Bụi, en: Dust}, ucum: ug/m3, type: TYPE}\n"
MORE = """\
  soot: {title: {vi: Muội, en: Soot}, ucum: ug/m3}
rules:
  sooty: {title: {vi: Muội, en: Soot}, severity: high, when: {metric: soot, above: 50}, source: x}
"""


@pytest.mark.parametrize("any_dsn", ["postgres", "timescaledb"], indirect=True)
async def test_a_class_written_while_the_core_runs_has_its_table_at_once_and_one_that_cannot_stops_no_start(
    any_dsn: str, state_path: Path, free_ports: Callable[[int], int], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    async with core_running(any_dsn, state_path, free_ports, profiles=str(own)) as (core, client):
        (own / "trial").mkdir()
        put(own / "trial" / "acme.yaml", OWN.replace("pm25", "dust"))
        put(own / "trial" / "class.yaml", TRIAL.replace("TYPE", "float"))
        await until(lambda: "trial" in core.profiles.classes, what="the new class is seen")
        secret = (await client.add_device(DeviceNew(key="t-1", profile="acme-aq4", address="t-1"))).secret or ""

        async def heard() -> object:
            await command(*mosquitto_pub(core, "t-1", secret, "acme/t-1/up", json.dumps({"dust": 35.2})))
            return await _latest(client, "t-1")

        assert await until(heard, what="the reading is stored") == [("dust", 35.2)]
        assert await core.pool.fetchval("SELECT count(*) FROM telemetry.latest WHERE metric = 'dust'") == 1
        # The class gets another metric and a rule, and the model says it: nothing is started anew.
        put(own / "trial" / "class.yaml", TRIAL.replace("TYPE", "float") + MORE)
        both = OWN.replace("pm25: dust", "dust: dust, soot: soot").replace("pm25", "dust")
        put(own / "trial" / "acme.yaml", both)
        await until(lambda: core.profiles.classes["trial"].metric("soot"), what="the changed class is seen")
        await until(lambda: "soot" in core.profiles.get("acme-aq4").metrics, what="and the model that says it")
        body = json.dumps({"dust": 36.5, "soot": 80})
        assert (await command(*mosquitto_pub(core, "t-1", secret, "acme/t-1/up", body)))[0] == 0

        async def said() -> bool:
            return await _latest(client, "t-1") == [("dust", 36.5), ("soot", 80.0)]

        await until(said, what="the new metric is stored")
        alarm = "SELECT value FROM iot.alarm WHERE rule = 'trial.sooty'"
        assert await until(lambda: core.pool.fetchval(alarm), what="its rule rang") == 80
        assert await core.pool.fetchval("SELECT count(*) FROM telemetry.latest WHERE metric = 'soot'") == 1
        assert await core.pool.fetchval("SELECT count(soot_avg) FROM telemetry.trial_1h") is not None
        assert await core.pool.fetch("SELECT reason, detail FROM iot.held_uplink") == []
        # A type that the column cannot have is said at once, and what was good goes on.
        put(own / "trial" / "class.yaml", TRIAL.replace("TYPE", "int") + MORE)
        await until(lambda: core.profiles.broken, what="the mistake is seen")
        assert [each.error.code for each in core.profiles.broken] == ["store.metric_type"]
        assert (await command(*mosquitto_pub(core, "t-1", secret, "acme/t-1/up", json.dumps({"dust": 37.5}))))[0] == 0

        async def goes_on() -> bool:
            return ("dust", 37.5) in await _latest(client, "t-1")

        await until(goes_on, what="the last good version goes on")
    async with core_running(any_dsn, state_path, free_ports, profiles=str(own)) as (core, client):
        assert [each.error.code for each in core.profiles.broken] == ["store.metric_type", "profile.class_broken"]
        await command(*mosquitto_pub(core, "t-1", secret, "acme/t-1/up", json.dumps({"dust": 36.2})))

        async def held() -> object:
            return await core.pool.fetchval("SELECT reason FROM iot.held_uplink")

        assert await until(held, what="the uplink is held") == "profile"


async def _latest(client: Client, key: str) -> list[tuple[str, object]]:
    return [(each.metric, each.value) for each in (await client.device(key)).latest]
