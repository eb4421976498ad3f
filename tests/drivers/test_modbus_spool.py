"""The spool on disk: order, bound, SIGKILL, a broken file; and the way from it to the store."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from drivers.modbus import outbox as outbox_module
from drivers.modbus.outbox import Outbox
from drivers.modbus.spool import Poll, Spool
from iot_core.errors import StoreUnavailable
from iot_core.model import Outcome, Uplink
from tests.drivers.wire_edges import until

START = datetime(2026, 3, 1, 8, 0, 0, 123456, tzinfo=UTC)


def poll(number: int) -> Poll:
    return Poll(
        f"modbus://10.0.3.7:502/{number % 200}", START + timedelta(seconds=number), {"holding:4": [number, 65535]}
    )


def numbers(spool: Spool) -> list[int]:
    return [each.registers["holding:4"][0] for _, each in spool.oldest(10_000)]


def test_polls_come_back_whole_and_in_order_after_a_restart(tmp_path: Path) -> None:
    with Spool(tmp_path / "s" / "modbus.sqlite3", rows=100) as spool:
        for number in range(5):
            assert spool.add(poll(number)) == 0
        spool.remove([spool.oldest(1)[0][0]])
    with Spool(tmp_path / "s" / "modbus.sqlite3", rows=100) as spool:
        assert [each for _, each in spool.oldest(10)] == [poll(number) for number in range(1, 5)]
        assert len(spool) == 4


def test_the_oldest_give_way_and_are_counted(tmp_path: Path) -> None:
    with Spool(tmp_path / "modbus.sqlite3", rows=3) as spool:
        assert [spool.add(poll(number)) for number in range(6)] == [0, 0, 0, 1, 1, 1]
        assert numbers(spool) == [3, 4, 5]


def test_many_threads_lose_nothing(tmp_path: Path) -> None:
    with Spool(tmp_path / "modbus.sqlite3", rows=1_000) as spool:
        threads = [
            threading.Thread(target=lambda first=first: [spool.add(poll(first + step)) for step in range(25)])
            for first in range(0, 200, 25)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(numbers(spool)) == list(range(200))


WRITER = """
import sys
from pathlib import Path
from tests.drivers.test_modbus_spool import poll
from drivers.modbus.spool import Spool
spool = Spool(Path(sys.argv[1]), rows=1_000_000)
for number in range(1_000_000):
    spool.add(poll(number))
    print(number, flush=True)
"""


def test_what_was_spooled_survives_sigkill(tmp_path: Path) -> None:
    path, said = tmp_path / "modbus.sqlite3", tmp_path / "said"
    with said.open("wb") as out:
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=out)
        try:
            asyncio.run(until(lambda: len(said.read_bytes().splitlines()) >= 300))
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait(10)
    told = [int(line) for line in said.read_bytes().split(b"\n")[:-1]]
    with Spool(path, rows=1_000_000) as spool:
        kept = [each.registers["holding:4"][0] for _, each in spool.oldest(2_000_000)]
    assert kept == list(range(len(kept))), "in order, none missing, none twice"
    assert len(told) <= len(kept) <= len(told) + 1, "whatever was said to be kept is kept"


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "modbus.sqlite3"
    path.write_bytes(b"\x00garbage" * 1000)
    with Spool(path, rows=10) as spool:
        spool.add(poll(1))
        assert numbers(spool) == [1]
    assert path.with_name("modbus.sqlite3.broken").exists()


def uplink(number: int) -> Uplink:
    each = poll(number)
    return Uplink(driver="modbus", address=each.address, registers=each.registers, received_at=each.received_at)


def number_of(each: Uplink) -> int:
    assert each.registers is not None
    return each.registers["holding:4"][0]


class Store:
    """The ingest path: may be away, and may hold its COMMIT back."""

    def __init__(self) -> None:
        self.away = False
        self.takes = 10**9
        self.got: list[int] = []
        self.uncommitted: list[Uplink] = []
        self.commits = True

    async def __call__(self, each: Uplink) -> None:
        if self.away or len(self.got) >= self.takes:
            raise StoreUnavailable
        self.got.append(number_of(each))
        if self.commits:
            await (each.settle([each.token], {}) if each.settle else each.done(Outcome(stored=1)))
        else:
            self.uncommitted.append(each)


async def drained(outbox: Outbox, spool: Spool) -> None:
    draining = asyncio.create_task(outbox.drain())
    try:
        await until(lambda: len(spool) == 0 and not outbox._filled.is_set())
    finally:
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "RETRY_S", 0.02)
    monkeypatch.setattr(outbox_module, "BATCH", 7)


async def test_new_polls_queue_behind_spooled_ones(tmp_path: Path) -> None:
    store, counted = Store(), Counter[str]()
    with Spool(tmp_path / "modbus.sqlite3", rows=100) as spool:
        outbox = Outbox(store, spool, lambda event: counted.update([event]))
        await outbox.put(uplink(0))
        store.away = True
        for number in range(1, 30):
            await outbox.put(uplink(number))
        store.away = False
        await outbox.put(uplink(30))
        assert store.got == [0], "the spool goes first"
        await drained(outbox, spool)
        await outbox.put(uplink(31))
    assert store.got == list(range(32))
    assert counted == {"modbus_spooled": 30}


async def test_what_the_store_took_and_never_committed_is_spooled_first(tmp_path: Path) -> None:
    store, counted = Store(), Counter[str]()
    with Spool(tmp_path / "modbus.sqlite3", rows=100) as spool:
        outbox = Outbox(store, spool, lambda event: counted.update([event]))
        await outbox.put(uplink(0))
        store.commits = False
        await outbox.put(uplink(1))
        await outbox.put(uplink(2))
        store.away = True
        await outbox.put(uplink(3))
        assert numbers(spool) == [1, 2, 3]


async def test_a_spool_left_by_an_earlier_process_is_drained(tmp_path: Path) -> None:
    store = Store()
    with Spool(tmp_path / "modbus.sqlite3", rows=100) as spool:
        for number in range(10):
            spool.add(poll(number))
        await drained(Outbox(store, spool, lambda _: None), spool)
    assert store.got == list(range(10))


async def test_nothing_leaves_the_spool_before_its_commit(tmp_path: Path) -> None:
    store = Store()
    store.commits = False
    with Spool(tmp_path / "modbus.sqlite3", rows=100) as spool:
        for number in range(5):
            spool.add(poll(number))
        outbox = Outbox(store, spool, lambda _: None)
        draining = asyncio.create_task(outbox.drain())
        await until(lambda: len(store.uncommitted) == 5)
        assert len(spool) == 5
        for each in store.uncommitted:
            await each.done(Outcome(stored=1))
        await until(lambda: len(spool) == 0)
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
    assert store.got == list(range(5))


async def test_a_store_that_leaves_in_the_middle_of_a_batch_gets_the_rest_later(tmp_path: Path) -> None:
    store = Store()
    store.takes = 10
    with Spool(tmp_path / "modbus.sqlite3", rows=100) as spool:
        for number in range(25):
            spool.add(poll(number))
        outbox = Outbox(store, spool, lambda _: None)
        draining = asyncio.create_task(outbox.drain())
        await until(lambda: len(spool) == 15)
        store.takes = 10**9
        await until(lambda: len(spool) == 0)
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
    assert store.got == list(range(25)), "in order, each once"


async def test_a_disk_that_refuses_is_told_once_and_counted(tmp_path: Path) -> None:
    store, counted = Store(), Counter[str]()
    store.away = True
    with Spool(tmp_path / "modbus.sqlite3", rows=100) as spool, sqlite3.connect(tmp_path / "modbus.sqlite3") as other:
        outbox = Outbox(store, spool, lambda event: counted.update([event]))
        other.execute("DROP TABLE poll")
        other.commit()
        with capture_logs() as logs:
            for number in range(3):
                await outbox.put(uplink(number))
    other.close()
    assert counted == {"modbus_dropped": 3}
    assert [entry["event"] for entry in logs] == ["modbus.spool_failed"]
