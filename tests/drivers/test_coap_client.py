"""The CoAP client against libcoap's server, against thousands of small ones, and against silence."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec
import pytest
from aiocoap import ACK, CONTENT, GET, NON, Message
from aiocoap.numbers.constants import TransportTuning
from aiocoap.numbers.types import Type
from structlog.testing import capture_logs

from drivers.coap import client as coap_client
from drivers.coap.client import Client
from iot_core.errors import CommandRejected, DeviceUnreachable
from iot_core.profiles import Downlink
from iot_core.profiles.resources import CoapMap, Resource
from simulators.bench.observed import Counts, Fleet
from tests.conftest import missing
from tests.core import command
from tests.drivers.wire_edges import Edges, Mounted, unit, until

if TYPE_CHECKING:
    from iot_core.driver import Sessions

SECOND = timedelta(seconds=1)
PATIENT = timedelta(seconds=40)
"""Of a resource that tells each second: no busy machine makes it seem silent."""


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coap_client, "GRACE_S", (0.2, 0.3))
    monkeypatch.setattr(coap_client, "FIRST_WAIT_S", 0.2)
    monkeypatch.setattr(coap_client, "_STORE_AGAIN_S", 0.05)


@dataclass(frozen=True)
class StubProfile:
    model: str
    coap: CoapMap | None


class StubProfiles:
    def __init__(self, *resources: Resource, sleepy: bool = False) -> None:
        self._profile = StubProfile("acme-meter", CoapMap(resources, sleepy))

    def get(self, model: str) -> StubProfile:
        return self._profile if model == self._profile.model else StubProfile(model, None)

    def say(self, *resources: Resource) -> None:
        self._profile = StubProfile("acme-meter", CoapMap(resources))


def observed(path: str = "time", every: timedelta = SECOND) -> Resource:
    return Resource(path, observe=True, every=every, accept=None)


def asked(path: str, every: timedelta = SECOND) -> Resource:
    return Resource(path, observe=False, every=every, accept=None)


def put(path: str, payload: bytes) -> Downlink:
    return Downlink(method="put", path=path, payload=payload, content_format=0)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=5)


@asynccontextmanager
async def watching(profiles: StubProfiles, mounted: Mounted) -> AsyncIterator[tuple[Client, Edges]]:
    edges = Edges()
    client = Client(edges.context(profiles=profiles))
    task = asyncio.create_task(client.run(mounted, edges.ingest))
    try:
        yield client, edges
    finally:
        if task.done():
            task.result()
        task.cancel()
        async with asyncio.timeout(60):
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def libcoap(port: int, host: str = "127.0.0.1", *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run libcoap's example server."""
    program = shutil.which("coap-server-notls") or shutil.which("coap-server")
    if program is None:
        missing("coap-server is not installed: apt-get install --no-install-recommends libcoap3-bin")
    server = await asyncio.create_subprocess_exec(program, "-A", host, "-p", str(port), *options)
    try:
        async with asyncio.timeout(60):
            while (await command("coap-client-notls", "-B", "1", f"coap://{_bracketed(host)}:{port}/"))[1] == "":
                await asyncio.sleep(0.05)
        yield server
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_what_libcoaps_server_tells_its_observers_arrives(free_port: Callable[[], int], host: str) -> None:
    address = f"coap://{_bracketed(host)}:{(port := free_port())}"
    profiles = StubProfiles(observed(every=PATIENT))
    async with libcoap(port, host), watching(profiles, Mounted(unit(address))) as (_, edges):
        await until(lambda: len(edges.ingest.uplinks) >= 3)
    first = edges.ingest.uplinks[0]
    assert (first.driver, first.address, first.topic, first.kind) == ("coap", address, "time", "telemetry")
    assert len({each.payload for each in edges.ingest.uplinks[:3]}) >= 2, "told, not only asked"
    assert not edges.counted["coap_registered_again"]


async def test_a_server_that_was_restarted_is_registered_with_again(free_port: Callable[[], int]) -> None:
    port = free_port()
    async with AsyncExitStack() as first:
        await first.enter_async_context(libcoap(port))
        async with watching(StubProfiles(observed()), Mounted(unit(f"coap://127.0.0.1:{port}"))) as (_, edges):
            with capture_logs() as logs:
                await until(lambda: len(edges.ingest.uplinks) >= 2)
                await first.aclose()
                await until(lambda: edges.counted["coap_unreachable"])
                before = len(edges.ingest.uplinks)
                async with libcoap(port):
                    await until(lambda: len(edges.ingest.uplinks) >= before + 2)
    assert edges.counted["coap_registered_again"] >= 1
    said = [entry["event"] for entry in logs if entry["event"].startswith("coap.")]
    assert said == ["coap.unreachable", "coap.recovered"], "each transition once"


async def test_what_is_larger_than_a_datagram_arrives_whole(free_port: Callable[[], int], tmp_path: Path) -> None:
    port = free_port()
    body = bytes(range(256)) * 12
    (tmp_path / "body").write_bytes(body)
    url = f"coap://127.0.0.1:{port}/example_data"
    async with libcoap(port):
        await command("coap-client-notls", "-m", "put", "-f", tmp_path / "body", url)
        profiles = StubProfiles(observed("example_data", timedelta(hours=1)))
        async with watching(profiles, Mounted(unit(f"coap://127.0.0.1:{port}"))) as (_, edges):
            await until(lambda: edges.ingest.uplinks)
            (tmp_path / "body").write_bytes(body[::-1])
            await command("coap-client-notls", "-m", "put", "-f", tmp_path / "body", url)
            await until(lambda: len(edges.ingest.uplinks) >= 2)
    assert edges.ingest.uplinks[0].payload == body
    assert edges.ingest.uplinks[-1].payload == body[::-1]


async def test_an_answer_apart_from_its_acknowledgement_is_an_answer(free_port: Callable[[], int]) -> None:
    port = free_port()
    profiles = StubProfiles(asked("async?1", timedelta(hours=1)))
    async with libcoap(port), watching(profiles, Mounted(unit(f"coap://127.0.0.1:{port}"))) as (_, edges):
        await until(lambda: edges.ingest.uplinks)
    assert edges.ingest.uplinks[0].topic == "async?1"


async def test_lost_datagrams_are_repeated_until_they_arrive(free_port: Callable[[], int]) -> None:
    """libcoap's server fails to send its first two datagrams after the one that shows that it is up."""
    port = free_port()
    async with libcoap(port, "127.0.0.1", "-l", "2,3"):
        profiles = StubProfiles(asked("time", timedelta(hours=1)))
        async with watching(profiles, Mounted(unit(f"coap://127.0.0.1:{port}"))) as (_, edges):
            await until(lambda: edges.ingest.uplinks)
    assert len(edges.ingest.uplinks) == 1


async def test_a_resource_that_cannot_be_observed_is_asked_again_and_again(free_port: Callable[[], int]) -> None:
    port = free_port()
    profiles = StubProfiles(observed("async?1"))
    async with libcoap(port), watching(profiles, Mounted(unit(f"coap://127.0.0.1:{port}"))) as (_, edges):
        await until(lambda: len(edges.ingest.uplinks) >= 2)


async def test_a_refusal_is_counted_and_asked_about_ever_more_rarely(free_port: Callable[[], int]) -> None:
    port = free_port()
    profiles = StubProfiles(observed("nothing/here"))
    async with libcoap(port), watching(profiles, Mounted(unit(f"coap://127.0.0.1:{port}"))) as (_, edges):
        await until(lambda: edges.counted["coap_refused"] >= 2)
        await asyncio.sleep(0.5)
        assert edges.counted["coap_refused"] <= 4
    assert not edges.ingest.uplinks


async def test_a_dead_device_delays_nobody(free_port: Callable[[], int]) -> None:
    port = free_port()
    dead = [replace(unit(f"coap://127.0.0.1:{free_port()}", number=n), device_key=f"dead-{n}") for n in range(2, 42)]
    living = unit(f"coap://127.0.0.1:{port}")
    async with libcoap(port), watching(StubProfiles(observed()), Mounted(*dead, living)) as (_, edges):
        await until(lambda: len(edges.ingest.uplinks) >= 3)
        assert {each.address for each in edges.ingest.uplinks} == {living.address}


async def test_units_come_and_go(free_port: Callable[[], int]) -> None:
    port = free_port()
    mounted = Mounted()
    address = f"coap://127.0.0.1:{port}"
    async with libcoap(port), watching(StubProfiles(observed()), mounted) as (client, edges):
        await asyncio.sleep(0)
        mounted.mount(unit(address))
        await until(lambda: edges.ingest.uplinks)
        mounted.dismount(address)
        await until(lambda: client.watched() == 0)
        seen = len(edges.ingest.uplinks)
        await asyncio.sleep(1.2)
        assert len(edges.ingest.uplinks) <= seen + 1


async def test_what_was_told_while_the_store_was_away_is_kept_in_order(free_port: Callable[[], int]) -> None:
    port, profiles = free_port(), StubProfiles(observed("t", PATIENT))
    async with (
        sleeper(port, Sleeper()) as it,
        watching(profiles, Mounted(unit(f"coap://127.0.0.1:{port}"))) as (_, edges),
    ):
        await until(lambda: edges.ingest.uplinks)
        edges.ingest.away = True
        for number in range(3):
            it.tell(number, b"%d" % number)
        await until(lambda: edges.ingest.refused >= 2)
        it.tell(3, b"3")
        edges.ingest.away = False
        await until(lambda: len(edges.ingest.uplinks) >= 5)
    assert [each.payload for each in edges.ingest.uplinks] == [b"1", b"0", b"1", b"2", b"3"], "also those of the pause"
    times = [each.received_at for each in edges.ingest.uplinks]
    assert times == sorted(times)


async def test_a_unit_without_resources_is_named_once_and_disturbs_nobody(free_port: Callable[[], int]) -> None:
    port = free_port()
    other = unit("coap://127.0.0.1:1", profile="acme-other", number=2)
    with capture_logs() as logs:
        async with libcoap(port):
            mounted = Mounted(other, unit(f"coap://127.0.0.1:{port}"))
            async with watching(StubProfiles(observed()), mounted) as (_, edges):
                await until(lambda: edges.ingest.uplinks)
    assert [entry["event"] for entry in logs] == ["coap.no_resources"]


async def test_what_a_profile_asks_for_is_followed_while_the_core_runs(free_port: Callable[[], int]) -> None:
    port = free_port()
    profiles, mounted = StubProfiles(observed(every=PATIENT)), Mounted(unit(address := f"coap://127.0.0.1:{port}"))
    async with libcoap(port), watching(profiles, mounted) as (_, edges):
        await until(lambda: edges.ingest.uplinks)
        mounted.mount(unit(f"coap://127.0.0.1:{free_port()}", profile="acme-other", number=2))
        await until(lambda: len(edges.ingest.of(address)) >= 3)
        assert not edges.counted["coap_registered_again"], "a change that says nothing of it disturbs no observation"
        profiles.say(asked(""))
        mounted.touch()
        await until(lambda: edges.ingest.uplinks[-1].topic == "")
        before = len(edges.ingest.uplinks)
        await until(lambda: len(edges.ingest.uplinks) >= before + 2)
    assert {each.topic for each in edges.ingest.uplinks[before:]} == {""}


async def test_an_address_that_names_no_host_disturbs_nobody(free_port: Callable[[], int]) -> None:
    port = free_port()
    wrong = unit("coap://10.0.3..8:5683", number=2), unit("coap://[::1::]:5683", number=3)
    async with libcoap(port), watching(StubProfiles(observed()), Mounted(*wrong)) as (client, edges):
        await until(lambda: edges.counted["coap_unreachable"] >= 2)
        for each in wrong:
            with pytest.raises(DeviceUnreachable):
                await client.read(each)
            with pytest.raises(DeviceUnreachable):
                await client.send(each, put("led", b"1"), soon())
    mounted = Mounted(*wrong, unit(f"coap://127.0.0.1:{port}"))
    async with libcoap(port), watching(StubProfiles(observed()), mounted) as (_, edges):
        await until(lambda: len(edges.ingest.uplinks) >= 2)


async def test_a_command_is_put_to_libcoaps_server(free_port: Callable[[], int]) -> None:
    port = free_port()
    it = unit(f"coap://127.0.0.1:{port}")
    async with libcoap(port), watching(StubProfiles(observed()), Mounted(it)) as (client, edges):
        await until(lambda: edges.ingest.uplinks)
        await client.send(it, put("example_data", b"dim 40"), soon())
        _, said, _ = await command("coap-client-notls", f"coap://127.0.0.1:{port}/example_data")
        assert said.strip() == "dim 40"
        with pytest.raises(CommandRejected, match="4.04"):
            await client.send(it, put("no/such/thing", b"1"), soon())


async def test_a_command_to_nobody_is_not_said_to_be_sent(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coap_client, "ANSWER_S", 0.3)
    it = unit(f"coap://127.0.0.1:{free_port()}")
    async with watching(StubProfiles(observed()), Mounted(it)) as (client, _):
        await until(lambda: client.watched() == 1)
        with pytest.raises(DeviceUnreachable):
            await client.send(it, put("x", b"1"), soon())
        with pytest.raises(DeviceUnreachable):
            await client.send(unit("coap://127.0.0.1:9"), put("x", b"1"), soon())


async def test_a_command_to_a_sleeper_waits_until_it_is_heard(free_port: Callable[[], int]) -> None:
    port = free_port()
    it = unit(f"coap://127.0.0.1:{port}")
    async with watching(StubProfiles(observed(), sleepy=True), Mounted(it)) as (client, edges):
        await until(lambda: client.watched() == 1)
        sending = asyncio.create_task(client.send(it, put("example_data", b"later"), soon()))
        await asyncio.sleep(0.5)
        assert not sending.done()
        async with libcoap(port):  # it wakes
            await until(lambda: edges.ingest.uplinks)
            async with asyncio.timeout(60):
                await sending
            _, said, _ = await command("coap-client-notls", f"coap://127.0.0.1:{port}/example_data")
    assert said.strip() == "later"


class Sleeper(asyncio.DatagramProtocol):
    """A server that hears nothing while it sleeps, and tells its observer when it wakes, by the token it was given."""

    def __init__(self) -> None:
        self.asleep = False
        self.observers: list[tuple[tuple[str, int], bytes]] = []
        self.asked: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        asked = Message.decode(data)
        if self.asleep or asked.code is not GET:
            return
        self.asked.append(asyncio.get_running_loop().time())
        self.observers.append((addr, asked.token))
        self._say(ACK, asked.mid, len(self.observers))

    def wake(self) -> float:
        self.asleep = False
        self._say(NON, 4_000 + len(self.observers), len(self.observers) + 100)
        return asyncio.get_running_loop().time()

    def tell(self, number: int, payload: bytes) -> None:
        self._say(NON, 5_000 + number, 200 + number, payload)

    def _say(self, kind: Type, number: int, observe: int, payload: bytes = b"1") -> None:
        addr, token = self.observers[-1]
        told = Message(code=CONTENT, payload=payload, observe=observe, max_age=0)
        told.mtype, told.mid, told.token = kind, number, token
        self.transport.sendto(told.encode(), addr)


@asynccontextmanager
async def sleeper(port: int, it: Sleeper) -> AsyncIterator[Sleeper]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: it, local_addr=("127.0.0.1", port))
    try:
        yield it
    finally:
        transport.close()


async def test_what_was_asked_of_a_sleeper_is_said_again_when_it_wakes(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TransportTuning, "ACK_TIMEOUT", 50.0)
    port, profiles = free_port(), StubProfiles(observed("t"), sleepy=True)
    async with (
        sleeper(port, Sleeper()) as it,
        watching(profiles, Mounted(unit(f"coap://127.0.0.1:{port}"))) as (_, edges),
    ):
        await until(lambda: edges.ingest.uplinks)
        it.asleep = True
        await until(lambda: edges.counted["coap_registered_again"])  # it was silent, so the core asks, and is not heard
        await asyncio.sleep(0.1)
        woke = it.wake()
        await until(lambda: len(it.asked) >= 2)
        assert it.asked[1] - woke < 30, "the core repeats by itself after fifty seconds at the least"
        await until(lambda: len(edges.ingest.uplinks) >= 2)


async def test_a_sleeper_that_was_given_up_is_registered_with_when_it_wakes(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coap_client, "FIRST_WAIT_S", 300.0)
    port, profiles = free_port(), StubProfiles(observed("t"), sleepy=True)
    it, at = Sleeper(), unit(f"coap://127.0.0.1:{port}")
    mounted = Mounted(at, replace(at, unit_id=2, address="coap://127.0.0.1:9"))
    async with watching(profiles, mounted) as (client, edges):
        async with sleeper(port, it):
            await until(lambda: edges.ingest.uplinks)
            await until(lambda: edges.counted["coap_unreachable"])
            mounted.dismount("coap://127.0.0.1:9")  # a neighbour that leaves changes nothing
            await until(lambda: client.watched() == 1)
        await until(lambda: edges.counted["coap_unreachable"] > 1)
        async with sleeper(port, it):
            await until(lambda: _told_again(it))
            await until(lambda: len(edges.ingest.uplinks) >= 2)


def _told_again(it: Sleeper) -> bool:
    it.wake()
    return len(it.asked) >= 2


async def test_a_sleeper_finds_the_core_at_its_port_after_a_restart(free_port: Callable[[], int]) -> None:
    port, sessions = free_port(), Remembered()
    mounted = Mounted(unit(f"coap://127.0.0.1:{port}"))
    async with sleeper(port, Sleeper()) as it:
        for run in range(1, 4):
            edges = Edges()
            client = Client(
                replace(edges.context(profiles=StubProfiles(observed("t"))), sessions=cast("Sessions", sessions))
            )
            task = asyncio.create_task(client.run(mounted, edges.ingest))
            await until(lambda run=run: len(it.observers) >= run)  # type: ignore[misc]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert len({addr for addr, _ in it.observers}) == 1


class Remembered:
    """What a store keeps of sessions."""

    def __init__(self) -> None:
        self.states: dict[str, bytes] = {}

    async def recall(self, address: str) -> dict[str, bytes]:
        return {each: self.states[each] for each in self.states if each == address}

    async def remember(self, states: Mapping[str, bytes]) -> None:
        self.states |= states


class Crowd:
    """Many small servers, in a process of their own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def counts(self) -> Counts:
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            return msgspec.json.decode(await self._process.stdout.readline(), type=Counts)


@asynccontextmanager
async def crowd(fleet: Fleet) -> AsyncIterator[tuple[Crowd, tuple[int, ...]]]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators.bench.observed", stdin=pipe, stdout=pipe, limit=2**20
    )
    try:
        it = Crowd(process)
        await it.say(msgspec.json.encode(fleet).decode())
        yield it, (await it.counts()).ports
    finally:
        process.kill()
        await process.wait()


@pytest.mark.timeout(240)
async def test_two_thousand_devices_are_observed_by_one_worker() -> None:
    many = 2_000
    async with crowd(Fleet(many, rate=1_000.0)) as (devices, ports):
        mounted = Mounted(*(unit(f"coap://127.0.0.1:{port}", number=n) for n, port in enumerate(ports, 1)))
        async with watching(StubProfiles(observed("r", timedelta(hours=1))), mounted) as (_, edges):
            await until(lambda: len(edges.ingest.uplinks) >= many, 150)
            await devices.say("3")
            told = await devices.counts()
            await until(lambda: len(edges.ingest.uplinks) >= told.said, 60)
    assert told.registered == told.registrations == many, "each once"
    assert told.said == told.acknowledged == len(edges.ingest.uplinks)
    assert len({(each.address, each.payload) for each in edges.ingest.uplinks}) == told.said, "nothing twice"
    assert not edges.counted["coap_notification_dropped"]
