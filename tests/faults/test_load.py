"""More than usual: a backlog at the start, a device that floods, a disk that is full, a clock that is wrong."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.core import until
from tests.faults.city import city, sending
from tests.faults.ledger import Ledger
from tests.faults.result import Recorder
from tests.faults.senders import SetBack, publish_all

BACKLOG = 100_000
FLOOD = 40_000
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@pytest.mark.faults(
    f"A backlog of {BACKLOG:,} messages at the start",
    "It is read in full batches while new messages come; the queue stays within its bound",
)
async def test_a_backlog_is_read_while_new_messages_come(
    state_path: Path, ports: int, database: str, record: Recorder
) -> None:
    async with city(state_path, ports, STORE_DSN=database) as town:
        secret = await town.add("burst")
        coap = await town.coap("coap")
        await town.up.kill()
        ledger = Ledger()
        ledger.note("burst", await publish_all(ports + 1, "burst", secret, 0, BACKLOG))
        await town.up.start()
        began = time.monotonic()
        queue = 0.0
        async with sending(coap):
            while (await ledger.verdict(database)).lost:
                queue = max(queue, await town.up.gauge("ingest_queue"))
                assert time.monotonic() < began + 120
                await asyncio.sleep(0.5)
            back = time.monotonic() - began
        ledger.note(coap.key, coap.said)
        verdict = await town.verdict(ledger)
        record(verdict, town.up, back_s=back, noted=f"At most {queue:,.0f} of 10,000 places in the queue were taken")
        assert verdict.sound, verdict
        assert coap.said
        assert queue <= 10_000


@pytest.mark.faults(
    f"One device floods with {FLOOD:,} messages at full speed",
    "It waits in the same bounded queue; what others say is stored within seconds, over CoAP and MQTT",
)
async def test_a_device_that_floods_leaves_the_others_their_place(
    state_path: Path, ports: int, database: str, record: Recorder
) -> None:
    async with city(state_path, ports, STORE_DSN=database) as town:
        secret = await town.add("flood")
        others = await town.mqtt("timed"), await town.coap("coap")
        ledger = Ledger()
        worst = 0.0
        async with sending(*others):
            await town.stored_again()
            flooding = asyncio.create_task(publish_all(ports + 1, "flood", secret, 0, FLOOD))
            while not flooding.done():
                worst = max(worst, await town.stored_again())
            ledger.note("flood", await flooding)
        for each in others:
            ledger.note(each.key, each.said)
        verdict = await town.verdict(ledger)
        record(verdict, town.up, noted=f"A message of the others was stored after {worst:.1f} s at worst")
        assert verdict.sound, verdict
        assert worst < 15


@pytest.fixture
def small_disk(state_path: Path) -> Iterator[Path]:
    """Put the state directory on a disk of 400 MB."""
    state_path.mkdir(mode=0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=0711", "tmpfs", state_path], check=True)
    yield state_path
    with suppress(subprocess.CalledProcessError):
        subprocess.run(["umount", state_path], check=True)


@pytest.mark.root
@pytest.mark.faults(
    "Disk full on the state directory (embedded database, broker and spool on a small tmpfs), for 10 s",
    "A commit that fails for room is a store that is away. Once there is room the database recovers and all of it is "
    "written",
)
async def test_a_full_disk_costs_nothing_once_there_is_room(small_disk: Path, ports: int, record: Recorder) -> None:
    async with city(small_disk, ports, MQTT_KEEPALIVE_S="5") as town:
        senders = await town.mqtt("timed"), await town.mqtt("numbered", timed=False), await town.coap("coap")
        filler = small_disk / "filler"
        async with sending(*senders):
            await town.stored_again()
            with filler.open("wb") as file, suppress(OSError):
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            await asyncio.sleep(10)
            assert not await town.up.ready()
            filler.unlink()
            back = await town.stored_again()
        verdict = await town.verdict()
        record(verdict, town.up, back_s=back)
        assert verdict.sound, verdict


@pytest.mark.faults(
    "The core's clock is set back two hours, then right again",
    "A device's time seems to lie ahead: what it says is stored with its arrival, `uncertain`, once by its `seq`",
)
async def test_a_core_whose_clock_is_set_back_goes_on(
    state_path: Path, ports: int, database: str, record: Recorder
) -> None:
    if not FAKETIME.exists():
        missing("libfaketime is not installed: scripts/packages libfaketime")
    said = state_path.with_name("clock")
    said.write_text("+0\n")
    clock = {
        ".LD_PRELOAD": str(FAKETIME), ".FAKETIME_TIMESTAMP_FILE": str(said), ".FAKETIME_CACHE_DURATION": "1",
        ".FAKETIME_DONT_FAKE_MONOTONIC": "1", ".FAKETIME_NO_CACHE": "0",
    }  # fmt: skip
    async with city(state_path, ports, STORE_DSN=database, **clock) as town:  # type: ignore[arg-type]
        senders = await town.mqtt("timed"), await town.mqtt("numbered", timed=False), await town.coap("coap")
        async with sending(*senders):
            await town.stored_again()
            before = await town.value("SELECT max(received_at) FROM telemetry.air_quality")
            said.write_text("-2h\n")
            await until(lambda: town.value(EARLIER.format(before=before)), what="the core's clock went back")
            await town.stored_again()
            said.write_text("+0\n")
            back = await town.stored_again()
        verdict = await town.verdict()
        record(verdict, town.up, back_s=back)
        assert verdict.sound, verdict


EARLIER = (
    "SELECT EXISTS (SELECT FROM telemetry.air_quality WHERE received_at < '{before}'::timestamptz - interval '1 hour')"
)


@pytest.mark.faults(
    "A device's clock is set back 100 s in mid-stream",
    "A time it said before is merged: a value that contradicts the first is held with its reason",
)
async def test_a_device_whose_clock_is_set_back_overwrites_nothing(
    state_path: Path, ports: int, database: str, record: Recorder
) -> None:
    async with city(state_path, ports, STORE_DSN=database) as town:
        sender = SetBack(ports + 1, "aq-1", await town.add("aq-1"))
        async with sending(sender):
            await sender.reaches(sender.after + 2 * sender.seconds)
        again = range(sender.after, sender.after + sender.seconds)
        ledger = Ledger({(sender.key, number) for number in sender.said if number not in again})
        verdict = await town.verdict(ledger)
        held = await town.value("SELECT count(*) FROM iot.held_uplink WHERE reason = 'conflict'")
        record(verdict, town.up, noted=f"{held} of {len(again)} that contradict are held")
        assert verdict.sound, verdict
        assert held == len(again)
