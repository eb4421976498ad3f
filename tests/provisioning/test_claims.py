"""New devices claim themselves over HTTP, CoAP and MQTT, with clients that are not ours."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import aiomqtt
import asyncpg
import pytest

from iot_core.api import inbox, shapes
from iot_core.app import Core
from iot_core.claiming import Claiming
from iot_core.client import Client
from iot_core.counters import Counters
from iot_core.driver import ClaimState
from iot_core.errors import ConflictError, NotFoundError
from iot_core.registry import batches
from iot_core.settings import Store
from iot_core.store.connection import open_pool
from tests.classes import shipped
from tests.conftest import missing
from tests.core import command, core_running, until
from tests.provisioning.reference_claim import claim as claim_over_mqtt

Free = Callable[[int], int]
MODEL = "native-water-meter"


@pytest.fixture(params=["mosquitto", "embedded"])
async def running(
    request: pytest.FixtureRequest, dsn: str, state_path: Path, free_ports: Free
) -> AsyncIterator[tuple[Core, Client]]:
    if request.param == "mosquitto" and not shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin"):
        missing("Mosquitto is not installed: apt-get install --no-install-recommends mosquitto")
    first = free_ports(4)
    async with core_running(
        dsn, state_path, lambda _: first, mqtt={"broker": request.param}, claims={"port": first + 3}
    ) as made:
        yield made


def later(**span: float) -> datetime:
    return datetime.now(UTC) + timedelta(**span)


async def new_batch(client: Client, **more: Any) -> shapes.BatchCreated:
    return await client.new_batch(shapes.BatchNew(**{"count": 5, "until": later(days=1), "profile": MODEL, **more}))


async def post(core: Core, made: shapes.BatchCreated, serial: str, reply: str, **more: Any) -> tuple[int, Any]:
    body = {"batch": made.batch.key, "key": made.secret, "serial": serial, "reply": reply, **more}
    async with aiohttp.ClientSession() as session, session.post(f"{core.url}/v1/claim", json=body) as answer:
        return answer.status, await answer.json(content_type=None)


async def over_coap(core: Core, made: shapes.BatchCreated, serial: str, reply: str) -> dict[str, Any]:
    body = json.dumps({"batch": made.batch.key, "key": made.secret, "serial": serial, "reply": reply})
    host, port = core.coap
    _, out, err = await command(
        "coap-client-notls", "-m", "post", "-t", "50", "-e", body, f"coap://{host}:{port}/v1/claim"
    )
    found: dict[str, Any] = json.loads(out) if out.strip().startswith("{") else {"said": out + err}
    return found


def a_reply() -> str:
    return secrets.token_hex(16)


async def reasons(core: Core) -> list[str]:
    rows = await core.pool.fetch(
        "SELECT after->>'reason' AS reason FROM iot.audit WHERE action = 'claim.refused' ORDER BY id"
    )
    return [row["reason"] for row in rows]


async def speaks(core: Core, device: str, secret: str) -> int:
    where = ("-h", core.broker.host, "-p", str(core.broker.port), "-q", "1", "-u", device, "-P", secret)
    body = json.dumps({"time": datetime.now(UTC).isoformat(), "volume": 12.5})
    code, _, _ = await command("mosquitto_pub", *where, "-t", f"iot/v1/{device}/telemetry", "-m", body)
    return code


async def test_a_claim_waits_for_a_person_then_gets_a_secret_that_opens_the_broker_and_only_once(
    running: tuple[Core, Client],
) -> None:
    core, client = running
    made, reply = await new_batch(client), a_reply()
    assert await post(core, made, "WM-001", reply) == (202, {"state": "waiting", "retry_after": 30})
    (waiting,) = (await client.inbox()).claims
    assert (waiting.serial, waiting.profile, waiting.contested) == ("WM-001", MODEL, 0)
    added = await client.accept(shapes.InboxAccept(address=f"claim:{waiting.id}"))
    assert (added.device.key, added.secret) == ("wm-001", None)
    assert not (await client.inbox()).claims

    status, lost = await post(core, made, "WM-001", reply)  # this answer gets lost on its way
    status, got = await post(core, made, "WM-001", reply)
    assert (status, got["device"]) == (200, "wm-001")
    assert got["secret"] != lost["secret"]
    if core.broker.kind == "mosquitto":
        assert await speaks(core, "wm-001", lost["secret"]) != 0
    assert await speaks(core, "wm-001", got["secret"]) == 0
    await until(lambda: core.counters.total("ingest_stored") == 1)

    assert (await post(core, made, "WM-001", reply))[0] == 403  # replayed
    assert (await post(core, made, "WM-001", a_reply()))[0] == 403  # cloned
    assert await reasons(core) == ["replayed", "cloned"]
    stored = str([dict(row) for row in await core.pool.fetch("SELECT * FROM iot.audit")])
    assert not [secret for secret in (got["secret"], made.secret, reply) if secret in stored]


async def test_a_planned_device_is_found_by_its_serial_over_mqtt_and_coap(
    running: tuple[Core, Client], tmp_path: Path
) -> None:
    core, client = running
    made = await new_batch(client)
    for number in (1, 2):
        planned = await client.add_device(
            shapes.DeviceNew(key=f"wm-{number}", profile=MODEL, serial=f"S-{number}", planned=True)
        )
        assert planned.secret is None
    assert made.mqtt
    host, _, port = made.mqtt.partition(":")
    async with asyncio.timeout(60):
        got = await claim_over_mqtt((host, int(port)), made.batch.key, made.secret, "S-1", tmp_path / "flash")
    assert got["device"] == "wm-1"
    assert await speaks(core, "wm-1", got["secret"]) == 0
    said = await over_coap(core, made, "S-2", a_reply())
    assert (said["state"], said["device"]) == ("accepted", "wm-2")
    assert await speaks(core, "wm-2", said["secret"]) == 0
    await until(lambda: core.counters.total("ingest_stored") == 2)
    assert (await client.batch(made.batch.key)).claimed == 2


async def test_a_claim_over_mqtt_is_answered_while_it_waits_once_a_person_accepts(
    running: tuple[Core, Client], tmp_path: Path
) -> None:
    core, client = running
    made = await new_batch(client)
    assert made.mqtt
    host, _, port = made.mqtt.partition(":")
    asking = asyncio.create_task(
        claim_over_mqtt((host, int(port)), made.batch.key, made.secret, "S-9", tmp_path / "flash")
    )
    await until(lambda: core.counters.total("claims_waiting") == 1)
    (waiting,) = (await client.inbox()).claims
    await client.accept(shapes.InboxAccept(address=f"claim:{waiting.id}", key="meter-9"))
    async with asyncio.timeout(60):
        assert (await asking)["device"] == "meter-9"


async def test_who_waits_over_mqtt_is_asked_again_for_its_own_decision_only(
    running: tuple[Core, Client], tmp_path: Path
) -> None:
    core, client = running
    made = await new_batch(client)
    assert made.mqtt
    host, _, port = made.mqtt.partition(":")
    asking = {
        serial: asyncio.create_task(
            claim_over_mqtt((host, int(port)), made.batch.key, made.secret, serial, tmp_path / serial)
        )
        for serial in ("S-1", "S-2", "S-3")
    }
    await until(lambda: core.counters.total("claims_waiting") == 3)
    numbers = {each.serial: each.id for each in (await client.inbox()).claims}
    await client.accept(shapes.InboxAccept(address=f"claim:{numbers['S-2']}", key="meter-2"))
    async with asyncio.timeout(60):
        assert (await asking["S-2"])["device"] == "meter-2"
        await client.reject(claims=[numbers["S-1"]])
        with pytest.raises(PermissionError):
            await asking["S-1"]
    assert core.counters.total("claims_waiting") == 3
    asking["S-3"].cancel()
    await asyncio.gather(*asking.values(), return_exceptions=True)


async def test_all_that_wait_are_accepted_in_one_operation_and_each_gets_a_secret_of_its_own(
    running: tuple[Core, Client],
) -> None:
    core, client = running
    made = await new_batch(client)
    replies = {f"W-{n}": a_reply() for n in range(4)}
    for serial, reply in replies.items():
        assert (await post(core, made, serial, reply))[0] == 202
    accepted = await client.accept_all(shapes.InboxAcceptAll(driver="claim"))
    assert sorted(each.device.key for each in accepted.items) == sorted(serial.lower() for serial in replies)
    query = "SELECT operation, after->>'serial' AS serial FROM iot.audit WHERE action = 'claim.accept'"
    rows = await core.pool.fetch(query)
    assert sorted(row["serial"] for row in rows) == sorted(replies)
    assert len({row["operation"] for row in rows}) == 1
    answers = [await post(core, made, serial, reply) for serial, reply in replies.items()]
    assert [status for status, _ in answers] == [200] * 4
    secrets = {said["device"]: said["secret"] for _, said in answers}
    assert len(set(secrets.values())) == 4
    for device, secret in secrets.items():
        assert await speaks(core, device, secret) == 0


@pytest.mark.parametrize("running", ["embedded"], indirect=True)
async def test_the_command_line_goes_on_until_nobody_waits_but_who_cannot_be_accepted(
    running: tuple[Core, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    core, client = running
    monkeypatch.setattr(inbox, "_SENDERS", 2)
    for taken in ("w-0", "w-1"):
        await client.add_device(shapes.DeviceNew(key=taken, profile="native-streetlight"))
    made = await new_batch(client, count=7)
    for n in range(7):
        assert (await post(core, made, f"W-{n}", a_reply()))[0] == 202
    where = ("--url", core.url, "--token", core.token, "--output", "json")
    iot = (sys.executable, "-m", "iot_core.cli", "inbox", "accept", "--all", *where)
    code, said, err = await command(*iot, "--dry-run")
    assert (code, json.loads(said)["more"]) == (0, 5), err
    code, said, err = await command(*iot)
    assert code == 0, err
    done = json.loads(said)
    assert sorted(each["device"]["key"] for each in done["items"]) == [f"w-{n}" for n in range(2, 7)]
    assert (len(done["left"]), done["more"]) == (2, 0)


async def test_claims_that_wait_for_each_other_leave_connections_to_everybody_else(dsn: str) -> None:
    async with open_pool(dsn, Store()) as pool, pool.acquire() as other:
        made, secret = await batches.create(other, shipped(), count=50, until=later(days=1), profile=MODEL, by="test")
        claiming = Claiming(pool, shipped(), Counters().count, _nothing)
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock(hashtext('iot.claim'), id) FROM iot.batch")
            asking = [
                asyncio.create_task(
                    claiming(
                        json.dumps({"serial": f"S-{n}", "reply": a_reply()}).encode(),
                        driver="http", came_from="127.0.0.1", login=(made.key, secret),
                    )
                )
                for n in range(40)
            ]  # fmt: skip
            await until(lambda: _waiting_for_a_lock(pool))
            async with asyncio.timeout(60), pool.acquire() as free:
                assert await free.fetchval("SELECT count(*) FROM iot.claim") == 0
        assert {said.state for said in await asyncio.gather(*asking)} == {ClaimState.WAITING}


async def _nothing() -> None: ...


async def _waiting_for_a_lock(pool: asyncpg.Pool) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(await pool.fetchval(query) >= 3)


async def test_exhausted_expired_foreign_and_revoked_claims_get_nothing_and_are_audited(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        small = await new_batch(client, count=1)
        elsewhere = await new_batch(client, networks=("10.20.0.0/16",))
        gone, old = await new_batch(client), await new_batch(client)
        waiting = a_reply()
        assert (await post(core, gone, "G-1", waiting))[0] == 202
        await client.revoke_batch(gone.batch.key)
        await core.pool.execute("UPDATE iot.batch SET until = now() WHERE key = $1", old.batch.key)
        assert (await post(core, small, "A-1", a_reply()))[0] == 202
        refused = [
            (small, "A-2", {}),  # exhausted
            (small, "A-3", {"profile": "native-air-quality"}),
            (small, "A-4", {"profile": "no-such-model"}),
            (elsewhere, "A-5", {}),
            (old, "A-6", {}),
            (gone, "A-7", {}),
            (small, "A-8", {"key": "stolen?"}),
            (small, "A-9", {"batch": "b_nobody22"}),
        ]
        for made, serial, more in refused:
            assert await post(core, made, serial, a_reply(), **more) == (403, {"state": "refused"})
        assert (await post(core, gone, "G-1", waiting))[0] == 403
        assert await reasons(core) == [
            "exhausted", "profile", "profile", "network", "expired", "revoked", "wrong_key", "revoked",
        ]  # fmt: skip
        assert core.counters.total("claims_refused_unknown") == 1
        states = {each.key: each.state for each in (await client.batches()).items}
        assert states == {
            small.batch.key: "exhausted", elsewhere.batch.key: "open", gone.batch.key: "revoked",
            old.batch.key: "expired",
        }  # fmt: skip
        number = (await client.inbox()).claims[0].id
        with pytest.raises(ConflictError, match="claim_revoked"):
            await client.accept(shapes.InboxAccept(address=f"claim:{number}"))
        some = await client.accept_all(shapes.InboxAcceptAll())
        assert ([each.device.key for each in some.items], len(some.left)) == (["a-1"], 1), "who can come, comes"
        await client.reject(claims=[number])
        with pytest.raises(ConflictError, match="claim_decided"):
            await client.accept(shapes.InboxAccept(address=f"claim:{number}"))
        with pytest.raises(NotFoundError):
            await client.revoke_batch("b_nobody22")


async def test_what_is_no_claim_is_told_so(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        made = await new_batch(client)
        for serial, reply in (("", a_reply()), ("S-1", "short"), ("S-1", "x" * 200), ("S\0", a_reply())):
            assert (await post(core, made, serial, reply))[0] == 400
        said = await over_coap(core, made, "S-1", "short")
        assert "4.00" in said["said"]
        assert not await core.pool.fetchval("SELECT count(*) FROM iot.claim")


async def test_a_rejected_claim_is_refused_for_good_and_its_serial_can_be_claimed_anew(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        made, reply = await new_batch(client), a_reply()
        await post(core, made, "S-1", reply)
        assert (await post(core, made, "S-1", a_reply()))[0] == 403
        (seen,) = (await client.inbox()).claims
        assert seen.contested == 1, "a person sees that two devices show one serial number"
        await client.reject(claims=[seen.id])
        assert (await post(core, made, "S-1", reply))[0] == 403
        assert (await post(core, made, "S-1", a_reply()))[0] == 202


async def test_an_accepted_claim_can_be_mounted_at_a_device_that_is_there(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        old = await client.add_device(shapes.DeviceNew(key="wm-7", profile=MODEL))
        made, reply = await new_batch(client), a_reply()
        await post(core, made, "NEW-1", reply)
        (seen,) = (await client.inbox()).claims
        with pytest.raises(ConflictError):
            await client.accept(shapes.InboxAccept(address=f"claim:{seen.id}", key="wm-7"))
        await client.accept(shapes.InboxAccept(address=f"claim:{seen.id}", key="wm-7", replace=True))
        _, got = await post(core, made, "NEW-1", reply)
        assert got["device"] == "wm-7"
        assert old.secret
        assert await speaks(core, "wm-7", old.secret) != 0
        assert await speaks(core, "wm-7", got["secret"]) == 0


async def test_the_claim_listener_gives_a_thief_of_the_batch_key_two_topics_and_no_session(
    running: tuple[Core, Client],
) -> None:
    core, client = running
    added = await client.add_device(shapes.DeviceNew(key="wm-1", profile=MODEL))
    assert added.secret
    made = await new_batch(client)
    assert made.mqtt
    port = int(made.mqtt.partition(":")[2])
    login: dict[str, Any] = {"username": made.batch.key, "password": made.secret}
    own = a_reply()
    async with aiomqtt.Client("127.0.0.1", port, identifier=own, protocol=aiomqtt.ProtocolVersion.V5, **login) as thief:
        for topic in (f"iot/v1/claim/{a_reply()}", "iot/v1/claim/+", "#", "$SYS/#", f"$share/g/iot/v1/claim/{own}"):
            (code,) = await thief.subscribe(topic, qos=1)
            assert code.is_failure, topic  # type: ignore[union-attr]
    for identifier in ("wm-1", "iot-core-ingest", ""):  # a device's session, the core's, anybody's
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client("127.0.0.1", port, identifier=identifier or None, **login):
                pass
    with pytest.raises(aiomqtt.MqttError):
        async with aiomqtt.Client(
            "127.0.0.1", port, identifier=own, will=aiomqtt.Will("iot/v1/wm-1/status", "offline"), **login
        ):
            pass
    for user, password in (("wm-1", "wrong"), (made.batch.key, "wrong"), (made.batch.key, added.secret)):
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client("127.0.0.1", port, identifier=own, username=user, password=password):
                pass
    if core.broker.kind == "mosquitto":  # and the broker knows no batch key at all
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client(core.broker.host, core.broker.port, identifier=own, **login):
                pass
    words = ("mosquitto_pub", "-p", str(port), "-i", own, "-u", made.batch.key, "-P", made.secret, "-q", "1")
    await command(*words, "-t", "iot/v1/wm-1/telemetry", "-m", '{"volume": 1}')
    await command(*words, "-r", "-t", "iot/v1/claim", "-m", json.dumps({"serial": "S-1", "reply": own}))
    assert core.counters.total("claims_topic_refused") == 7
    assert not core.counters.total("ingest_stored")
    assert not (await client.inbox()).claims
