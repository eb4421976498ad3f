"""The database dies, is away, is slow, or has no room for us."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from tests import servers
from tests.core import until
from tests.faults.city import City, city, sending
from tests.faults.ledger import Ledger, connect, locked
from tests.faults.proxy import Line
from tests.faults.result import Recorder
from tests.faults.senders import publish_all

COPYING = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query ILIKE 'COPY%' AND pid <> pg_backend_pid()"
BURST = 20_000
MORE_THAN_PACKET_IDS = 100_000


@pytest.mark.faults(
    "SIGKILL of PostgreSQL in mid-COPY, 3 times",
    "Recovery throws the half batch away; the core starts the server anew, waits, and writes the same batch again",
)
async def test_killing_postgresql_in_mid_copy_costs_nothing(state_path: Path, ports: int, record: Recorder) -> None:
    async with city(state_path, ports) as town:
        sender = await town.mqtt("aq-1")
        burst = await town.add("burst")
        ledger = town.ledger()
        back = 0.0
        async with sending(sender):
            for kill in range(3):
                publishing = asyncio.create_task(publish_all(ports + 1, "burst", burst, kill * BURST, BURST))
                if kill < 2:
                    os.kill(await _copying(town), signal.SIGKILL)  # PostgreSQL then ends all its sessions and recovers
                else:
                    await _copying(town)
                    os.kill(town.up.postmaster(), signal.SIGKILL)
                back = max(back, await town.stored_again([sender]))
                ledger.note("burst", await publishing)
        ledger.note(sender.key, sender.said)
        verdict = await town.verdict(ledger)
        record(verdict, town.up, back_s=back)
        assert verdict.sound, verdict


async def _copying(town: City) -> int:
    """Wait for the moment in which a batch is copied; give the process that does."""
    connection = await connect(town.dsn)
    try:
        deadline = time.monotonic() + 30
        while not (found := await connection.fetchval(COPYING)):
            assert time.monotonic() < deadline, "no COPY seen"
        return int(found)
    finally:
        await connection.close()


@pytest.mark.faults(
    "Database away (10 s in CI, longer by --fault-minutes) under MQTT, CoAP and Modbus",
    "Nothing is acknowledged. The MQTT connection is closed after half a keep-alive, and the broker keeps what comes; "
    "CoAP answers 5.03; polls go to the spool on disk. All of it comes when the database answers",
)
async def test_a_database_that_is_away_costs_nothing_on_any_protocol(
    state_path: Path, ports: int, line: Line, away_s: float, record: Recorder
) -> None:
    async with city(
        state_path, ports, modbus=ports + 3, direct=line.direct, STORE_DSN=line.dsn, MQTT_KEEPALIVE_S="5"
    ) as town:
        timed, numbered = await town.mqtt("timed"), await town.mqtt("numbered", timed=False)
        coap = await town.coap("coap")
        assert town.meter
        async with sending(timed, numbered, coap):
            await town.stored_again()
            await line.wire.refuse()
            before = len(timed.said), len(coap.said), len(town.meter.answered)
            await asyncio.sleep(away_s)
            assert not await town.up.ready()
            assert len(timed.said) > before[0], "the broker still takes what devices say"
            assert len(coap.said) <= before[1] + 1, "2.04 means stored"
            assert len(town.meter.answered) > before[2] + away_s / 2, "polling goes on"
            await line.wire.listen()
            back = await town.stored_again()
        assert coap.refused
        assert await town.up.counter("modbus_spooled")
        verdict = await town.verdict()
        record(verdict, town.up, back_s=back)
        assert verdict.sound, verdict


@pytest.mark.faults(
    "SIGKILL of the core while the database is away and Modbus polls wait in the spool",
    "The spool is a file (SQLite, WAL): the next start brings it to the database, oldest first. A poll that was "
    "answered at the very moment of the kill is not counted",
)
async def test_polls_in_the_spool_survive_a_kill_of_the_core(
    state_path: Path, ports: int, line: Line, record: Recorder
) -> None:
    async with city(state_path, ports, modbus=ports + 3, direct=line.direct, STORE_DSN=line.dsn) as town:
        meter = town.meter
        assert meter is not None
        await until(lambda: len(meter.answered) >= 2, what="it is polled")
        await line.wire.refuse()
        spooled = len(meter.answered) + 5
        await until(lambda: len(meter.answered) >= spooled, what="polling goes on")
        await town.up.kill()
        ledger = Ledger()
        ledger.note(meter.key, range(len(meter.answered) - 1))
        await line.wire.listen()
        await town.up.start()
        verdict = await town.verdict(ledger)
        record(verdict, town.up)
        assert verdict.sound, verdict
        assert verdict.acknowledged >= spooled - 1


@pytest.mark.faults(
    "The network to the database goes silent, half open, for 10 s",
    "Statements have a deadline; past it the batch is tried again on a new connection, and the dead one is dropped",
)
async def test_a_silent_line_to_the_database_is_noticed_and_costs_nothing(
    state_path: Path, ports: int, line: Line, away_s: float, record: Recorder
) -> None:
    async with city(
        state_path, ports, direct=line.direct, STORE_DSN=line.dsn, STORE_STATEMENT_TIMEOUT_S="2", MQTT_KEEPALIVE_S="5"
    ) as town:
        senders = await town.mqtt("timed"), await town.mqtt("numbered", timed=False), await town.coap("coap")
        async with sending(*senders):
            await town.stored_again()
            line.wire.silence()
            await asyncio.sleep(away_s)
            assert not await town.up.ready()
            line.wire.speak()
            back = await town.stored_again()
            line.wire.silence(forget=True)  # what stands stays dead for ever, as behind a router that was replaced
            back = max(back, await town.stored_again())
        verdict = await town.verdict()
        record(verdict, town.up, back_s=back)
        assert verdict.sound, verdict


SLOW_COMMIT = """
CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('faults.slept', true) IS DISTINCT FROM txid_current()::text THEN
        PERFORM set_config('faults.slept', txid_current()::text, true);
        PERFORM pg_sleep(0.2);
    END IF;
    RETURN NULL;
END $$
"""


@pytest.mark.faults(
    "Database that takes 200 ms a commit, behind Mosquitto 2.0.11 at full publisher speed",
    "This Mosquitto does not hold its window towards a slow reader, and past 65,535 packet ids are in use twice; the "
    "core's own bounded queues make TCP push back long before",
)
async def test_a_slow_database_at_full_publisher_speed_loses_nothing(
    state_path: Path, ports: int, database: str, record: Recorder
) -> None:
    async with city(state_path, ports, STORE_DSN=database) as town:
        secret = await town.add("burst")
        await town.sql(
            SLOW_COMMIT,
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON telemetry.air_quality DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION slow_commit()",
        )
        ledger = town.ledger()
        ledger.note("burst", await publish_all(ports + 1, "burst", secret, 0, MORE_THAN_PACKET_IDS))
        verdict = await town.verdict(ledger, within_s=90)
        twice = await town.up.counter("mqtt_packet_id_twice")
        record(verdict, town.up)
        assert verdict.sound, verdict
        assert not twice


@pytest.mark.faults(
    "Every connection of the database server taken by others",
    "The core waits as for a database that is away, and goes on when there is room",
)
async def test_a_server_without_a_free_connection_is_away(state_path: Path, ports: int, record: Recorder) -> None:
    with servers.postgres(max_connections="25") as server, server.database() as dsn:
        async with city(state_path, ports, STORE_DSN=dsn, MQTT_KEEPALIVE_S="5") as town:
            senders = await town.mqtt("timed"), await town.coap("coap")
            async with sending(*senders):
                await town.stored_again()
                admin = await asyncpg.connect(dsn)
                taken = [admin, *await _take_all(dsn)]
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'iot-core'"
                )
                taken += await _take_all(dsn)
                await asyncio.sleep(3)
                assert not await town.up.ready()
                for connection in taken:
                    await connection.close()
                back = await town.stored_again()
            verdict = await town.verdict()
            record(verdict, town.up, back_s=back)
            assert verdict.sound, verdict


async def _take_all(dsn: str) -> list[asyncpg.Connection]:
    """Connect as long as the server lets us in."""
    taken = []
    with suppress(asyncpg.TooManyConnectionsError):
        while True:
            taken.append(await asyncpg.connect(dsn))
    return taken


WAITING = "SELECT count(*) >= 10 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.mark.faults(
    "Pool exhausted: 40 requests of readers wait for a locked table",
    "Readers and the ingest path do not share connections: telemetry is stored meanwhile",
)
async def test_readers_that_hang_do_not_hold_up_telemetry(
    state_path: Path, ports: int, database: str, record: Recorder
) -> None:
    async with city(state_path, ports, STORE_DSN=database) as town:
        senders = await town.mqtt("timed"), await town.coap("coap")
        async with sending(*senders), town.up.client() as client:
            await town.stored_again()
            async with locked(database, "iot.push_target"):
                hanging = [asyncio.create_task(client.push_targets()) for _ in range(40)]
                await until(lambda: town.value(WAITING), what="readers wait for the lock")
                back = await town.stored_again()
                assert not any(each.done() for each in hanging)
            await asyncio.gather(*hanging, return_exceptions=True)
        verdict = await town.verdict()
        record(verdict, town.up, back_s=back)
        assert verdict.sound, verdict
        assert back < 5
