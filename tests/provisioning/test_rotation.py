"""New secrets that are brought to devices over their own lines, and taken by simulated devices as by anybody's."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from click.testing import CliRunner

from iot_core.api import shapes
from iot_core.app import Core
from iot_core.cli.root import iot as cli
from iot_core.client import Client
from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.model import CommandState
from iot_core.registry import pending
from iot_core.registry import rotation as rotating
from iot_core.store.vault import Vault
from simulators.device import SimDevice
from simulators.faces.coap import CoapFace
from simulators.faces.mqtt import MqttFace
from simulators.ledger import Ledger
from simulators.secret import Secrets
from tests.conftest import missing
from tests.core import core_running, until
from tests.provisioning.test_secrets import over_coap, over_mqtt
from tests.simulators.conftest import device

pytestmark = pytest.mark.timeout(120)
LAMP = "native-streetlight"


@pytest.fixture
async def running(
    dsn: str, state_path: Path, free_ports: Callable[[int], int]
) -> AsyncIterator[tuple[Core, Client, Path]]:
    if not shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin"):
        missing("Mosquitto is not installed: apt-get install --no-install-recommends mosquitto")
    async with core_running(dsn, state_path, free_ports, mqtt={"broker": "mosquitto"}) as (core, client):
        yield core, client, state_path


async def added(client: Client, key: str, profile: str = LAMP) -> str:
    secret = (await client.add_device(shapes.DeviceNew(key=key, profile=profile))).secret
    assert secret
    return secret


def simulated(key: str, secret: str, protocol: str = "mqtt") -> SimDevice:
    like = device("native-water-meter" if protocol == "coap" else LAMP, protocol)
    return SimDevice(replace(like.plan, key=key), f"iot:{key}", Secrets(secret, newest=secret), run="r1")


@asynccontextmanager
async def living(core: Core, *devices: SimDevice) -> AsyncIterator[None]:
    """Let simulated devices speak while the block lasts."""
    mqtt = MqttFace(host=core.broker.host, port=core.broker.port, ledger=Ledger(), every=0.2)
    coap = CoapFace(host=core.coap[0], port=core.coap[1], ledger=Ledger(), every=0.2, ask_s=0.2)
    stop = asyncio.Event()
    faces = {"mqtt": mqtt.run, "coap": coap.run}
    async with asyncio.TaskGroup() as group:
        for each in devices:
            group.create_task(faces[each.plan.voice.protocol](each, stop))
        yield
        stop.set()


async def states(client: Client, order: int) -> dict[str, int]:
    return (await client.command_order(order)).states


def rotation(**facts: Any) -> shapes.SecretsRotate:
    return shapes.SecretsRotate(**facts)


@asynccontextmanager
async def by_hand(core: Core, key: str, secret: str) -> AsyncIterator[tuple[aiomqtt.Client, asyncio.Queue[Any]]]:
    """Be a device whose answers the test writes itself."""
    where = core.broker
    async with aiomqtt.Client(where.host, where.port, username=key, password=secret, identifier=key) as client:
        await client.subscribe(f"iot/v1/{key}/commands", qos=1)
        await client.publish(f"iot/v1/{key}/status", "online", qos=1, retain=True)
        heard: asyncio.Queue[Any] = asyncio.Queue(100)

        async def listen() -> None:
            async for message in client.messages:
                heard.put_nowait(json.loads(bytes(message.payload)))

        listening = asyncio.create_task(listen())
        try:
            yield client, heard
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def said(client: aiomqtt.Client, key: str, **result: Any) -> None:
    await client.publish(f"iot/v1/{key}/commands/result", json.dumps(result), qos=1)


async def everything_kept(core: Core) -> str:
    """Write down every row of our tables that holds text, as somebody with a copy of the database reads it."""
    tables = await core.pool.fetch(
        "SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.tables"
        " WHERE table_schema = 'iot' AND table_type = 'BASE TABLE'"
    )
    rows = [await core.pool.fetchval(f"SELECT string_agg(t::text, ' ') FROM {each['name']} t") for each in tables]
    return " ".join(filter(None, rows))


async def test_simulated_devices_over_mqtt_and_coap_take_new_secrets_and_go_on(
    running: tuple[Core, Client, Path],
) -> None:
    core, client, _ = running
    lamp = simulated("lamp-1", await added(client, "lamp-1"))
    meter = simulated("wm-1", await added(client, "wm-1", "native-water-meter"), "coap")
    old = {each.key: each.secret for each in (lamp, meter)}
    async with living(core, lamp, meter):
        made = await client.rotate_secrets(rotation(devices=("lamp-1", "wm-1")))
        assert (made.name, made.params, made.total) == ("secret", {}, 2)
        await until(lambda: _done(client, made.number or 0, 2))
        heard = core.counters.total("ingest_stored")
        await until(lambda: core.counters.total("ingest_stored") > heard + 4, what="both speak on")
        await until(lambda: not lamp.secrets.other and not meter.secrets.other, what="the old ones are forgotten")
    new = {each.key: each.secret for each in (lamp, meter)}
    assert not set(old.values()) & set(new.values())
    assert not await over_mqtt(core, "lamp-1", old["lamp-1"])
    assert not await over_coap(core, "wm-1", old["wm-1"])
    assert await over_mqtt(core, "lamp-1", new["lamp-1"])
    assert await over_coap(core, "wm-1", new["wm-1"])
    kept = await everything_kept(core)
    assert not [each for each in (*old.values(), *new.values()) if each in kept]
    told = (await client.audit(shapes.AuditQuery(key="lamp-1"))).items
    audit = [each for each in told if each.action == "device.rotate"]
    assert [each.after for each in audit] == [{"secret": "confirmed"}, {"secret": "pending"}]


async def _done(client: Client, order: int, count: int) -> bool:
    return (await states(client, order)) == {"succeeded": count}


async def test_the_old_one_holds_until_the_device_shows_the_new_one_whole(
    running: tuple[Core, Client, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    core, client, state = running
    old = await added(client, "lamp-1")
    await added(client, "lamp-2")
    order = (await client.rotate_secrets(rotation(devices=("lamp-1",)))).number or 0
    assert await states(client, order) == {"queued": 1}, "it is away"
    async with by_hand(core, "lamp-1", old) as (lamp, heard):
        asked = await asyncio.wait_for(heard.get(), 60)
        new = asked["params"]["secret"]
        assert asked["name"] == "secret"
        assert len(new) >= 22, "128 bits and more"
        for wrong in ({}, {"proof": ""}, {"proof": "0" * 64}, {"proof": hashlib.sha256(old.encode()).hexdigest()}):
            await said(lamp, "lamp-1", id=asked["id"], state="succeeded", **wrong)
        await until(lambda: _is(client, order, {"delivered": 1}))
        assert await over_coap(core, "lamp-1", old), "a device that says yes to everything is not locked out"
        assert not await over_mqtt(core, "lamp-1", new)
        # Nobody else's word counts, whatever it knows.
        await core.pool.execute("UPDATE iot.command SET state = 'sent' WHERE order_id = $1", order)
        async with by_hand(core, "lamp-2", (await client.rotate_secret("lamp-2", at_once=True)).secret or "") as (
            other, _,
        ):  # fmt: skip
            proof = hashlib.sha256(new.encode()).hexdigest()
            await said(other, "lamp-2", id=asked["id"], state="succeeded", proof=proof)
            await said(other, "lamp-2", id=asked["id"], state="failed")
        await said(lamp, "lamp-1", id=asked["id"], state="succeeded", proof=proof)
        await until(lambda: _is(client, order, {"succeeded": 1}))
    await until(lambda: over_mqtt(core, "lamp-1", new))
    assert not await over_mqtt(core, "lamp-1", old)
    with pytest.raises(NotFoundError):
        async with core.pool.acquire() as connection:
            await pending.clear(connection, None, "lamp-1")  # type: ignore[arg-type] # it is gone before that
    assert new not in str(await client.commands(shapes.CommandsQuery(order=order)))
    out, err = capfd.readouterr()
    texts = [out, err, await everything_kept(core), *(_text(file) for file in state.rglob("*.log"))]
    assert not any(new in each or old in each for each in texts)


def _text(file: Path) -> str:
    return file.read_text(errors="replace")


async def _is(client: Client, order: int, wanted: dict[str, int]) -> bool:
    return await states(client, order) == wanted


async def test_a_secret_that_was_overtaken_taken_back_or_never_fetched_changes_nothing(
    running: tuple[Core, Client, Path],
) -> None:
    core, client, _ = running
    old = await added(client, "lamp-1")
    first = (await client.rotate_secrets(rotation(devices=("lamp-1",)))).number or 0
    second = (await client.rotate_secrets(rotation(devices=("lamp-1",)))).number or 0
    assert await states(client, first) == {"failed": 1}
    (row,) = (await client.commands(shapes.CommandsQuery(order=first))).items
    assert row.said == "Another new secret was made meanwhile."
    assert await states(client, second) == {"queued": 1}
    await client.rotate_secret("lamp-1")  # by hand
    assert await states(client, second) == {"failed": 1}
    third = (await client.rotate_secrets(rotation(devices=("lamp-1",), within_s=10))).number or 0
    await core.pool.execute("UPDATE iot.command SET expires_at = now(), settle_at = now() WHERE order_id = $1", third)
    await until(lambda: _is(client, third, {"expired": 1}))
    async with core.pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM iot.credential WHERE kind = 'next'") == 1
        await pending.tidy(connection)
        assert not await connection.fetchval("SELECT count(*) FROM iot.credential")
    assert await over_mqtt(core, "lamp-1", old)
    fourth = (await client.rotate_secrets(rotation(devices=("lamp-1",)))).number or 0
    await client.revoke_secret("lamp-1")
    assert await states(client, fourth) == {"failed": 1}
    assert not await core.pool.fetchval("SELECT count(*) FROM iot.credential")
    with pytest.raises(ConflictError, match=r"secret\.no_way_in"):
        await client.rotate_secrets(rotation(devices=("lamp-1",)))


async def test_who_is_revoked_while_secrets_are_made_is_brought_none(
    running: tuple[Core, Client, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    core, client, _ = running
    for key in ("lamp-1", "lamp-2"):
        await added(client, key)
    loop, make = asyncio.get_running_loop(), rotating._make

    def make_late(vault: Vault, units: Sequence[tuple[int, str]]) -> Any:
        asyncio.run_coroutine_threadsafe(client.revoke_secret("lamp-1"), loop).result(60)
        return make(vault, units)

    monkeypatch.setattr(rotating, "_make", make_late)
    made = await client.rotate_secrets(rotation(devices=("lamp-1", "lamp-2")))
    assert (made.total, await states(client, made.number or 0)) == (2, {"failed": 1, "queued": 1})
    assert await core.pool.fetch("SELECT address FROM iot.unit WHERE next_hash IS NOT NULL") == [("iot:lamp-2",)]
    assert await core.pool.fetchval("SELECT count(*) FROM iot.credential WHERE kind = 'next'") == 1
    with pytest.raises(ConflictError, match="no_way_in"):
        await client.rotate_secrets(rotation(devices=("lamp-1",)))


async def test_a_fleet_is_rotated_by_selector_at_a_rate_and_who_cannot_be_told_is_named(
    running: tuple[Core, Client, Path],
) -> None:
    core, client, _ = running
    new = [shapes.DeviceNew(key=f"lamp-{n}", profile=LAMP) for n in range(12)]
    vendor = shapes.DeviceNew(key="vendor-1", profile="tasmota-energy", address="kerb_7")
    there = (await client.add_devices([*new, vendor])).items
    lamps = [simulated(each.device.key, each.secret) for each in there if each.secret and each.device.key != "vendor-1"]
    where = ("--url", core.url, "--token", core.token)

    async def iot(*words: str, code: int = 0) -> tuple[str, str]:
        said = ["device", "rotate", *words, *where, "--lang", "en"]
        ended = await asyncio.to_thread(lambda: CliRunner().invoke(cli, said))
        assert ended.exit_code == code, (words, ended.output)
        return ended.stdout, ended.stderr

    assert (
        "12" in (await iot("--where", "class=streetlight and label!=x and profile=native-streetlight", "--dry-run"))[0]
    )
    assert not await core.pool.fetchval("SELECT count(*) FROM iot.credential"), "a dry run makes nothing"
    assert "--yes" in (await iot("--where", "profile=native-streetlight", code=1))[1]
    for neither in ((), ("lamp-1", "--where", "class=streetlight")):
        await iot(*neither, code=1)
    for words in (("--show",), ("lamp-1", "lamp-2", "--at-once"), ("--where", "class=streetlight", "--confirm")):
        await iot(*words, code=2)
    assert "vendor-1 --show" in (await iot("vendor-1", code=1))[1]
    async with living(core, *lamps):
        out, _ = await iot(
            *(f"lamp-{n}" for n in range(12)), "vendor-1", "--rate", "20", "--yes", "--wait", "60", "--output", "json",
            code=1,
        )  # fmt: skip
    done = json.loads(out)
    assert (done["states"], done["rate"], done["params"]) == ({"succeeded": 12, "failed": 1}, 20.0, {})
    took = await core.pool.fetchval(
        "SELECT max(sent_at) - min(sent_at) FROM iot.command WHERE order_id = $1", done["number"]
    )
    assert took.total_seconds() > 0.1, "at a rate, not all at once"
    (row,) = (await client.commands(shapes.CommandsQuery(order=done["number"], state=CommandState.FAILED))).items
    assert "vendor-1 --show" in (row.said or "")
    by_hand_out, _ = await iot("vendor-1", "--show")
    assert "MQTT password" in by_hand_out
    with pytest.raises(RequestError):
        await client.rotate_secrets(rotation(where="class=fire_detector"))


async def test_nothing_secret_goes_over_a_broker_on_which_everybody_listens(
    dsn: str, state_path: Path, free_ports: Callable[[int], int]
) -> None:
    async with core_running(dsn, state_path, free_ports, mqtt={"broker": "embedded"}) as (core, client):
        lamp = simulated("lamp-1", await added(client, "lamp-1"))
        meter = simulated("wm-1", await added(client, "wm-1", "native-water-meter"), "coap")
        before = lamp.secret, meter.secret
        async with living(core, lamp, meter):
            await until(lambda: core.counters.total("ingest_stored") > 2)
            order = (await client.rotate_secrets(rotation(devices=("lamp-1", "wm-1")))).number or 0
            await until(lambda: _is(client, order, {"failed": 1, "succeeded": 1}))
        (row,) = (await client.commands(shapes.CommandsQuery(order=order, device="lamp-1"))).items
        assert "embedded broker" in (row.said or "")
        assert lamp.secret == before[0]
        assert meter.secret != before[1]


def test_a_device_shows_its_other_secret_when_it_is_refused_and_forgets_the_old_one_last() -> None:
    flash: list[tuple[str, str]] = []
    secrets = Secrets("a", keep=lambda now: flash.append((now.shown, now.other)))
    assert secrets.take("b") == secrets.take("b") == hashlib.sha256(b"b").hexdigest()
    assert flash == [("b", "a")], "heard twice, kept once"
    secrets.refused()
    secrets.opened()
    assert (secrets.shown, secrets.other) == ("a", "b"), "the core has not switched yet"
    secrets.refused()
    secrets.opened()
    assert (secrets.shown, secrets.other, flash[-1]) == ("b", "", ("b", ""))
    secrets.refused()
    assert secrets.shown == "b"
