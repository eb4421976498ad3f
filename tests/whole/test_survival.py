"""What dies loses nothing: the core killed in mid-stream, the database away for half a minute."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from iot_core.api import shapes
from iot_core.api.shapes import Level
from iot_core.client import Client
from iot_core.state import StateDir
from tests.core import command, until
from tests.up import Up, core_process

Free = Callable[[int], int]
START = datetime(2026, 11, 20, tzinfo=UTC)

pytestmark = pytest.mark.timeout(240)


def body(number: int) -> str:
    """Number `number` said at second `number`, so that time and value tell which it was."""
    return json.dumps(
        {"time": (START + timedelta(seconds=number)).isoformat(), "seq": number, "co2": 400 + number % 1000}
    )


async def add(client: Client, key: str) -> str:
    added = await client.add_device(shapes.DeviceNew(key=key, profile="native-air-quality"))
    assert added.secret
    return added.secret


async def stored(client: Client, key: str) -> list[tuple[datetime, float]]:
    rows = await client.telemetry(key, start=START, end=START + timedelta(days=2), level=Level.RAW, limit=100_000)
    return [(row.time, float(row.values["co2"])) for row in rows.items]


async def expect_all(up: Up, publisher: Publisher) -> None:
    """Hold what the broker acknowledged against the table: every one once, with its value."""
    wanted = [(START + timedelta(seconds=n), float(400 + n % 1000)) for n in publisher.acknowledged]

    async def complete() -> bool:
        async with up.client() as client:
            return len(await stored(client, publisher.key)) >= len(wanted)

    await until(complete, within_s=60, what="everything acknowledged is in the table")
    async with up.client() as client:
        found = await stored(client, publisher.key)
    assert set(wanted) <= set(found)
    assert len(found) == len({time for time, _ in found})
    # One more may be on its way: published, its acknowledgement not yet back when the publisher stopped.
    assert len(found) - len(wanted) <= 1


async def test_killing_the_core_in_mid_stream_loses_nothing_and_doubles_nothing(
    state_path: Path, free_ports: Free
) -> None:
    async with core_process(state_path, free_ports(3)) as up:
        async with up.client() as client:
            publisher = Publisher(up.port + 1, "aq-1", await add(client, "aq-1"))
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(publisher.run(body, stop))
            for kill in range(1, 4):
                await until(partial(publisher.has, kill * 150), within_s=60)
                database = up.postmaster()
                await up.kill()
                before = len(publisher.acknowledged)
                await until(partial(publisher.has, before + 20), what="the broker lives on")
                await up.start()
                assert up.postmaster() == database, "the running database is adopted"
            stop.set()
        await expect_all(up, publisher)


async def test_a_database_that_is_away_for_half_a_minute_costs_nothing(state_path: Path, free_ports: Free) -> None:
    async with core_process(state_path, free_ports(3)) as up:
        async with up.client() as client:
            publisher = Publisher(up.port + 1, "aq-1", await add(client, "aq-1"), interval_s=0.02)
            coap = (await client.endpoints()).coap
            other = await add(client, "aq-2")
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(publisher.run(body, stop))
            await until(lambda: len(publisher.acknowledged) > 50)
            # A stopped server is as good as a dead one to us, and nothing in it is lost to muddle the count.
            pids = await _stop_database(up)
            try:
                await asyncio.sleep(30)
                async with up.client() as client:
                    assert not await client.ready()
                assert coap
                code, out, err = await command(
                    "coap-client-notls", "-B", "5", "-m", "post", "-t", "50", "-e", body(1),
                    f"coap://127.0.0.1:{up.port + 2}/v1/aq-2/telemetry?token={other}",
                )  # fmt: skip
                assert "2.04" not in out + err, (code, out, err)
            finally:
                for pid in pids:
                    await _signal(pid, signal.SIGCONT)
            await until(up._ready, within_s=60)
            stop.set()
        await expect_all(up, publisher)


async def _stop_database(up: Up) -> list[int]:
    """Freeze the server and every one of its backends, so that nothing answers and no connection is refused."""
    postmaster = up.postmaster()
    _, out, _ = await command("ps", "-o", "pid=", "--ppid", str(postmaster))
    pids = [postmaster, *(int(word) for word in out.split())]
    for pid in pids:
        await _signal(pid, signal.SIGSTOP)
    return pids


async def _signal(pid: int, number: signal.Signals) -> None:
    code, _, err = await command("kill", f"-{number.name[3:]}", str(pid))
    assert code == 0 or number is signal.SIGCONT, err


async def test_a_database_that_crashes_is_started_again_and_costs_nothing(state_path: Path, free_ports: Free) -> None:
    async with core_process(state_path, free_ports(3)) as up:
        async with up.client() as client:
            publisher = Publisher(up.port + 1, "aq-1", await add(client, "aq-1"))
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(publisher.run(body, stop))
            await until(lambda: len(publisher.acknowledged) > 100)
            await _signal(up.postmaster(), signal.SIGKILL)
            await until(lambda: len(publisher.acknowledged) > 300, within_s=60)
            await until(up._ready, within_s=60)
            stop.set()
        await expect_all(up, publisher)


async def test_a_second_start_is_ready_within_five_seconds_and_an_end_takes_less(
    state_path: Path, free_ports: Free
) -> None:
    async with core_process(state_path, free_ports(3)) as up:
        clock = asyncio.get_running_loop()
        started = clock.time()
        await up.stop()
        ended = clock.time()
        await up.start()
        ready = clock.time()
        assert ended - started < 5
        assert ready - ended < 5


async def test_two_cores_on_one_state_directory_is_one_clear_sentence(state_path: Path, free_ports: Free) -> None:
    async with core_process(state_path, free_ports(3)) as up:
        code, out, err = await command(
            sys.executable, "-m", "iot_core.cli", "up", "--state", state_path, "--port-base", str(free_ports(3))
        )
        assert code == 2
        assert "Traceback" not in out + err
        assert str(up.process.pid if up.process else "") in err


async def test_a_port_in_use_is_one_clear_sentence(state_path: Path, free_ports: Free) -> None:
    base = free_ports(3)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", base + 1)
    async with server:
        code, out, err = await command(
            sys.executable, "-m", "iot_core.cli", "up", "--state", state_path, "--port-base", str(base)
        )
    assert code == 2
    assert str(base + 1) in err
    assert "Traceback" not in out + err
    assert StateDir(state_path).running() is None


async def test_a_database_too_old_to_use_or_not_there_is_one_clear_sentence(
    state_path: Path, free_ports: Free, free_port: Callable[[], int]
) -> None:
    for dsn in (f"postgresql://u:hunter2@127.0.0.1:{free_port()}/x", "postgresql://["):
        code, out, err = await command(
            "env", f"IOT_STORE_DSN={dsn}", sys.executable, "-m", "iot_core.cli", "up",
            "--state", state_path, "--port-base", str(free_ports(3)),
        )  # fmt: skip
        assert code == 2, out + err
        assert "Traceback" not in out + err
        assert "hunter2" not in out + err
