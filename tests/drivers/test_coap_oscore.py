"""OSCORE with libcoap's client and server: what is protected is taken once, and after a restart nothing old is."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from aiocoap import ACK, CON, CONTENT, FETCH, GET, NON, RST, Message, oscore
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from drivers.coap import client as coap_client
from drivers.coap import driver as coap_driver
from drivers.coap.client import Client
from drivers.coap.endpoint import LOGGER
from drivers.coap.oscore import CHUNK, CORE_ID, UnitContext, kid_of, unit_of
from iot_core.model import Credential
from iot_core.settings import Coap
from tests import newer
from tests.conftest import missing
from tests.core import command
from tests.drivers.test_coap_client import StubProfiles, observed
from tests.drivers.wire_edges import Edges, Mounted, running, unit, until
from tests.servers import Missing

SECRET = bytes.fromhex("0102030405060708090a0b0c0d0e0f10")
SALT = "9e7ca92223786340"
NUMBER = 300
READING = '{"time":"2026-03-01T08:00:00Z","pm25":35.2}'


@dataclass
class Kept:
    """The registry's table of credentials."""

    known: dict[int, Credential] = field(default_factory=lambda: {NUMBER: Credential({"salt": SALT}, SECRET)})
    waiting: dict[int, Credential] = field(default_factory=dict)
    counter: int = 0

    async def of(self, unit_id: int, kind: str) -> Credential | None:
        return {"oscore": self.known, "oscore_next": self.waiting}[kind].get(unit_id)

    async def take_over(self, unit_id: int, kind: str, used: Credential) -> bool:
        assert kind == "oscore"
        if self.waiting.get(unit_id) != used:
            return False
        self.known[unit_id] = self.waiting.pop(unit_id)
        return True

    async def reserve(self, unit_id: int, kind: str, count: int) -> int:
        assert count == CHUNK
        assert unit_id in {"oscore": self.known, "oscore_next": self.waiting}[kind]
        self.counter += count
        return self.counter - count


def libcoap(name: str) -> list[str]:
    try:
        return newer.program(f"usr/bin/{name}-openssl")
    except Missing as exc:
        missing(str(exc))


def configuration(folder: Path, *, secret: bytes = SECRET, sender: bytes = kid_of(NUMBER)) -> Path:
    """Write what `iot device oscore` prints into libcoap's form, for a client and for a server alike."""
    path = folder / f"oscore-{secret.hex()[:4]}-{sender.hex()}.conf"
    path.write_text(
        f'master_secret,hex,"{secret.hex()}"\nmaster_salt,hex,"{SALT}"\n'
        f'sender_id,hex,"{sender.hex()}"\nrecipient_id,hex,"00"\n'
        "replay_window,integer,32\naead_alg,integer,10\nhkdf_alg,integer,-10\n"
    )
    return path


@dataclass
class Served:
    edges: Edges
    kept: Kept
    port: int
    mounted: Mounted


@asynccontextmanager
async def serving(port: int, kept: Kept | None = None, edges: Edges | None = None) -> AsyncIterator[Served]:
    edges, kept = edges or Edges(), kept or Kept()
    mounted = Mounted(replace(unit("iot:aq-1", number=NUMBER), device_key="aq-1"))
    driver = coap_driver(replace(edges.context(coap=Coap(port=port), profiles=StubProfiles()), credentials=kept))
    async with running(driver, mounted, edges.ingest):
        async with asyncio.timeout(60):
            await driver.listening()
        yield Served(edges, kept, port, mounted)


class Relay(asyncio.DatagramProtocol):
    """Stands between a client and the server, and keeps what the client said."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.said: list[bytes] = []
        self.heard: list[bytes] = []
        self.hold: Callable[[], object] = lambda: None
        """Called before what the server answered is passed on."""
        self._client: object = None
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        if addr[1] == self.port:
            self.heard.append(data)
            self.hold()
            if self._client is not None:
                self._transport.sendto(data, self._client)  # type: ignore[arg-type]
        else:
            self._client = addr
            self.said.append(data)
            self._transport.sendto(data, ("127.0.0.1", self.port))

    def replay(self, datagram: bytes, mid: int) -> None:
        """Say it again, as a message of its own."""
        assert self._transport is not None
        again = datagram[:2] + mid.to_bytes(2, "big") + datagram[4:]
        self._transport.sendto(again, ("127.0.0.1", self.port))


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[tuple[Relay, int]]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Relay(port), local_addr=("127.0.0.1", 0)
    )
    try:
        yield protocol, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


async def post(folder: Path, port: int, body: str = READING, *, key: str = "aq-1", **how: Any) -> str:
    """Post with libcoap's client; give its protocol trace."""
    conf = configuration(folder, **how)
    (folder / "body").write_text(body)
    url = f"coap://127.0.0.1:{port}/v1/{key}/telemetry"
    words = [*libcoap("coap-client"), "-v", "7", "-B", "60", "-E", f"{conf},{folder / 'seq'}"]
    _, out, err = await command(*words, "-m", "post", "-t", "50", "-f", folder / "body", url)
    return out + err


async def test_a_protected_post_is_taken_without_a_token(free_port: Callable[[], int], tmp_path: Path) -> None:
    async with serving(free_port()) as served, relay(served.port) as (between, port):
        said = await post(tmp_path, port)
    assert "c:2.04" in said
    (uplink,) = served.edges.ingest.uplinks
    assert (uplink.address, uplink.payload, uplink.content_format) == ("iot:aq-1", READING.encode(), 50)
    assert all(b"pm25" not in each and b"telemetry" not in each for each in (*between.said, *between.heard))
    assert served.edges.counted["coap_oscore_echo"] == 1, "the first is asked to be repeated"
    assert not served.edges.secrets.asked


async def test_a_large_batch_comes_in_protected_blocks(free_port: Callable[[], int], tmp_path: Path) -> None:
    body = json.dumps([{"time": 1772352000 + n, "pm25": n / 10} for n in range(300)])
    async with serving(free_port()) as served:
        await post(tmp_path, served.port)
        said = await post(tmp_path, served.port, body)
    assert "c:2.04" in said, said
    assert served.edges.ingest.uplinks[-1].payload == body.encode()


async def test_a_replayed_message_is_not_taken(free_port: Callable[[], int], tmp_path: Path) -> None:
    async with serving(free_port()) as served, relay(served.port) as (between, port):
        await post(tmp_path, port)
        taken = len(served.edges.ingest.uplinks)
        for number, datagram in enumerate(list(between.said)):
            if datagram[1] == 2:  # POST
                between.replay(datagram, 50_000 + number)
        await until(lambda: served.edges.counted["coap_oscore_replay"] >= 2)
        assert len(served.edges.ingest.uplinks) == taken == 1


async def test_after_a_restart_nothing_old_is_taken_and_the_device_goes_on(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    port, kept = free_port(), Kept()
    async with serving(port, kept), relay(port) as (between, way):
        await post(tmp_path, way)
        await post(tmp_path, way)
    old = [each for each in between.said if each[1] == 2]
    assert len(old) >= 3
    numbers = kept.counter
    async with serving(port, kept) as served, relay(port) as (again, way):
        for number, datagram in enumerate(old):
            again.replay(datagram, 40_000 + number)
        await until(lambda: served.edges.counted["coap_oscore_echo"] == len(old))
        assert not served.edges.ingest.uplinks, "an attacker cannot answer the challenge"
        assert "c:2.04" in await post(tmp_path, way)
        for number, datagram in enumerate(old):
            again.replay(datagram, 41_000 + number)
        await until(lambda: served.edges.counted["coap_oscore_replay"] >= len(old))
        assert len(served.edges.ingest.uplinks) == 1
    assert kept.counter > numbers, "no number of ours is used twice"


@pytest.mark.parametrize(
    ("how", "counter"),
    [
        ({"secret": bytes(16)}, "coap_oscore_wrong_key"),
        ({"sender": b"\x07"}, "coap_oscore_stranger"),
        ({"sender": b"\x00\x01"}, "coap_oscore_stranger"),
    ],
)
async def test_another_key_or_a_stranger_is_refused(
    free_port: Callable[[], int], tmp_path: Path, how: dict[str, Any], counter: str
) -> None:
    async with serving(free_port()) as served:
        await post(tmp_path, served.port, **how)
        assert served.edges.counted[counter] >= 1
    assert not served.edges.ingest.uplinks


async def test_a_device_cannot_speak_for_another(free_port: Callable[[], int], tmp_path: Path) -> None:
    async with serving(free_port()) as served:
        said = await post(tmp_path, served.port, key="aq-2")
        assert "c:4.04" in said
    assert not served.edges.ingest.uplinks


async def test_a_key_that_was_replaced_or_forgotten_is_not_used_again(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    async with serving(free_port()) as served:
        assert "c:2.04" in await post(tmp_path, served.port)
        served.kept.known[NUMBER] = Credential({"salt": SALT}, bytes(range(16)))
        served.mounted.mount(unit("iot:other", number=9))  # the registry changed
        await asyncio.sleep(0.05)
        await post(tmp_path, served.port)
        assert served.edges.counted["coap_oscore_wrong_key"] >= 1
        del served.kept.known[NUMBER]
        served.mounted.dismount("iot:other")
        served.mounted.mount(unit("iot:other", number=9))
        await asyncio.sleep(0.05)
        await post(tmp_path, served.port)
        assert served.edges.counted["coap_oscore_stranger"] >= 1
    assert len(served.edges.ingest.uplinks) == 1


NEW = bytes(range(16))


async def test_the_old_key_opens_until_the_device_uses_the_new_one(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    async with serving(free_port()) as served, relay(served.port) as (between, port):
        assert "c:2.04" in await post(tmp_path, port)
        served.kept.waiting[NUMBER] = Credential({"salt": SALT}, NEW)
        assert "c:2.04" in await post(tmp_path, port), "the device has not been visited yet"
        assert served.kept.known[NUMBER].secret == SECRET
        old = [each for each in between.said if each[1] == 2]
        assert "c:2.04" in await post(tmp_path, port, secret=NEW)
        assert (served.kept.known[NUMBER].secret, served.kept.waiting) == (NEW, {})
        assert served.edges.counted["coap_oscore_taken_over"] == 1
        assert "c:2.04" in await post(tmp_path, port, secret=NEW)
        taken, wrong = len(served.edges.ingest.uplinks), served.edges.counted["coap_oscore_wrong_key"]
        for number, datagram in enumerate(old):
            between.replay(datagram, 50_000 + number)
        await until(lambda: served.edges.counted["coap_oscore_wrong_key"] >= wrong + len(old))
        await post(tmp_path, port)
        assert len(served.edges.ingest.uplinks) == taken == 4, "the old one opens nothing any more"


async def test_a_replay_of_what_the_new_key_said_takes_nothing_over_after_a_restart(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    port, kept = free_port(), Kept(waiting={NUMBER: Credential({"salt": SALT}, NEW)})
    async with serving(port, Kept(waiting=dict(kept.waiting))), relay(port) as (between, way):
        assert "c:2.04" in await post(tmp_path, way, secret=NEW)
    said = [each for each in between.said if each[1] == 2]
    async with serving(port, kept) as served, relay(port) as (again, way):
        for number, datagram in enumerate(said):
            again.replay(datagram, 40_000 + number)
        await until(lambda: served.edges.counted["coap_oscore_echo"] == len(said))
        assert kept.known[NUMBER].secret == SECRET, "whoever replays cannot answer the challenge"
        assert "c:2.04" in await post(tmp_path, way, secret=NEW)
        assert kept.known[NUMBER].secret == NEW


async def test_a_new_key_that_was_withdrawn_meanwhile_opens_nothing(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    kept = Kept(waiting={NUMBER: Credential({"salt": SALT}, NEW)})
    async with serving(free_port(), kept) as served, relay(served.port) as (between, port):
        between.hold = kept.waiting.clear
        await post(tmp_path, port, secret=NEW)
        assert served.edges.counted["coap_oscore_wrong_key"] >= 1
    assert not served.edges.ingest.uplinks
    assert kept.known[NUMBER].secret == SECRET


async def test_a_change_elsewhere_in_the_registry_costs_a_device_nothing(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    async with serving(free_port()) as served:
        await post(tmp_path, served.port)
        served.mounted.mount(unit("iot:other", number=9))
        await asyncio.sleep(0.05)
        await post(tmp_path, served.port)
    assert len(served.edges.ingest.uplinks) == 2
    assert served.edges.counted["coap_oscore_echo"] == 1, "the window is kept"


async def test_no_key_is_written_anywhere(
    free_port: Callable[[], int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, LOGGER)
    with capture_logs() as logs:
        async with serving(free_port()) as served:
            await post(tmp_path, served.port)
            await post(tmp_path, served.port, secret=bytes(16))
    said = io.StringIO()
    for record in caplog.records:
        said.write(logging.Formatter().format(record) + "\n")
    everything = said.getvalue() + str(logs) + repr(served.kept)
    assert SECRET.hex() not in everything
    assert repr(SECRET)[2:-1] not in everything


async def test_a_server_with_a_key_is_observed_protected(
    free_port: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coap_client, "FIRST_WAIT_S", 0.2)
    port, edges = free_port(), Edges()
    conf = configuration(tmp_path)
    words = [*libcoap("coap-server"), "-A", "127.0.0.1", "-p", str(port), "-E", f"{conf},{tmp_path / 'seq'}"]
    server = await asyncio.create_subprocess_exec(*words)
    client = Client(replace(edges.context(profiles=StubProfiles(observed())), credentials=Kept()))
    mounted = Mounted(unit(f"coap://127.0.0.1:{port}", number=NUMBER))
    task = asyncio.create_task(client.run(mounted, edges.ingest))
    try:
        await until(lambda: len(edges.ingest.uplinks) >= 3)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.kill()
        await server.wait()
    assert len({each.payload for each in edges.ingest.uplinks[:3]}) >= 2


class TheirContext(UnitContext):
    """The same keys as a device has them."""

    def __init__(self) -> None:
        super().__init__(NUMBER, Credential({"salt": SALT}, SECRET), 0)
        self.sender_id, self.recipient_id = kid_of(NUMBER), CORE_ID
        self.derive_keys(bytes.fromhex(SALT), SECRET)
        self.recipient_replay_window.initialize_empty()


class ProtectedDevice(asyncio.DatagramProtocol):
    """A server with one observable resource under OSCORE; it notes the message ids that are acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.refused: list[int] = []
        self.context = TheirContext()
        self.observer: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        asked = Message.decode(data)
        if asked.mtype in {ACK, RST}:
            (self.acknowledged if asked.mtype is ACK else self.refused).append(asked.mid)
        elif asked.code is FETCH:  # what is protected and observed is FETCH outside (RFC 8613, 4.1.3.5)
            _, request = self.context.unprotect(asked)
            self.observer = (addr, asked.token, request)
            self.tell(ACK, asked.mid, b"first", 1)

    def tell(self, kind: Any, number: int, payload: bytes, observe: int) -> bytes:
        addr, token, request = self.observer
        told, _ = self.context.protect(Message(code=CONTENT, payload=payload, observe=observe), request)
        told.mtype, told.mid, told.token, told.opt.observe = kind, number, token, observe
        datagram = bytes(told.encode())
        self.transport.sendto(datagram, addr)
        return datagram


async def test_a_protected_notification_is_acknowledged_after_its_commit_and_not_before() -> None:
    committed, edges = asyncio.Event(), Edges()

    async def commit() -> None:
        await committed.wait()

    loop = asyncio.get_running_loop()
    transport, device = await loop.create_datagram_endpoint(ProtectedDevice, local_addr=("127.0.0.1", 0))
    address = f"coap://127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    client = Client(replace(edges.context(profiles=StubProfiles(observed("t"))), credentials=Kept()))
    task = asyncio.create_task(client.run(Mounted(unit(address, number=NUMBER)), edges.ingest))
    try:
        await until(lambda: edges.ingest.uplinks)
        edges.ingest.commit = commit
        told = device.tell(CON, 700, b"second", 2)
        await until(lambda: len(edges.ingest.uplinks) == 2)
        device.transport.sendto(told, device.observer[0])  # it was not acknowledged, so the device says it again
        device.transport.sendto(b"\x40\x00\x02\xbd", device.observer[0])  # a ping, answered in turn
        await until(lambda: 701 in device.refused)
        assert 700 not in device.acknowledged
        committed.set()
        await until(lambda: 700 in device.acknowledged)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        transport.close()
    assert [each.payload for each in edges.ingest.uplinks] == [b"first", b"second"]


async def test_the_end_of_the_core_leaves_no_error_of_observations_under_way() -> None:
    loop, said, edges = asyncio.get_running_loop(), [], Edges()
    loop.set_exception_handler(lambda _, what: said.append(what))
    transport, device = await loop.create_datagram_endpoint(ProtectedDevice, local_addr=("127.0.0.1", 0))
    address = f"coap://127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    client = Client(replace(edges.context(profiles=StubProfiles(observed("t"))), credentials=Kept()))
    task = asyncio.create_task(client.run(Mounted(unit(address, number=NUMBER)), edges.ingest))
    try:
        await until(lambda: edges.ingest.uplinks)
        device.tell(NON, 700, b"second", 2)
        await until(lambda: len(edges.ingest.uplinks) == 2)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.05)
        transport.close()
        loop.set_exception_handler(None)
    assert said == []


def heard(message: Message) -> Message:
    message.mtype, message.mid = CON, 1
    return Message.decode(message.encode())


def test_what_cannot_be_opened_is_acknowledged_and_not_repeated_in_vain() -> None:
    core, device, told = UnitContext(NUMBER, Credential({"salt": SALT}, SECRET), 0), TheirContext(), []
    asked, ours = core.protect(Message(code=GET, observe=0))
    _, theirs = device.unprotect(heard(asked))
    protected, _ = device.protect(Message(code=CONTENT, payload=b"second", observe=2), theirs)
    answer = heard(protected)
    answer.acknowledge = lambda: told.append(1)
    opened, _ = core.unprotect(answer, ours)
    assert (opened.payload, told) == (b"second", [])
    opened.acknowledge()
    answer.payload = answer.payload[:-1] + bytes([answer.payload[-1] ^ 1])
    with pytest.raises(oscore.ProtectionInvalid):
        core.unprotect(answer, ours)
    assert told == [1, 1]


@given(st.integers(1, 2**56 - 1))
def test_a_units_id_leads_back_to_it(number: int) -> None:
    assert unit_of(kid_of(number)) == number
    assert kid_of(number) != b"\x00", "that is the core's own"


@given(st.one_of(st.binary(max_size=9), st.none()))
def test_an_id_that_we_never_gave_is_nobodys(kid: bytes | None) -> None:
    number = unit_of(kid)
    assert number is None or kid_of(number) == kid
