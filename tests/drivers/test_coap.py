"""The CoAP server against libcoap's client and against datagrams written by hand."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import re
import shutil
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import cbor2
import pytest
from structlog.testing import capture_logs

from drivers.coap import answers, server, telemetry
from drivers.coap import driver as coap_driver
from drivers.coap.endpoint import LOGGER, Messages
from drivers.coap.inflight import InFlight
from iot_core.errors import CommandRejected, StartError, StoreUnavailable
from iot_core.messages import said
from iot_core.model import Command, Outcome, Problem, Reason
from iot_core.settings import Coap
from tests.classes import shipped
from tests.conftest import missing
from tests.drivers.wire_edges import Edges, Mounted, running, unit, until

SECRET = "Gk7wq2-ZsecretZ-Vx"
READING = b'{"time":"2026-03-01T08:00:00Z","pm25":35.2}'


@pytest.fixture(autouse=True, params=[False, True], ids=["by aiocoap", "express"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Every test twice: its sender is asked for, as with its first message, or known, as with all the others."""
    monkeypatch.setattr("tests.drivers.wire_edges.Secrets.remembering", request.param)
    monkeypatch.setattr("drivers.coap.endpoint.EMPTY_ACK_S", 0.1)
    monkeypatch.setattr("drivers.coap.endpoint._Tuning.EMPTY_ACK_DELAY", 0.1)
    monkeypatch.setattr("drivers.coap.express.EMPTY_ACK_S", 0.1)
    monkeypatch.setattr("drivers.coap.express._LOOK_S", 0.02)
    return bool(request.param)


@pytest.fixture(scope="session")
def coap_client() -> str:
    found = next(filter(None, map(shutil.which, ("coap-client", "coap-client-notls", "coap-client-gnutls"))), None)
    if found is None:
        missing("coap-client is not installed: apt-get install --no-install-recommends libcoap3-bin")
    return found


@dataclass
class Served:
    """A running server and its edges."""

    edges: Edges
    port: int
    driver: server.CoapDriver

    def url(self, key: str = "aq-1", secret: str = SECRET, path: str = "telemetry") -> str:
        return f"coap://127.0.0.1:{self.port}/v1/{key}/{path}?token={secret}"


@asynccontextmanager
async def serving(
    port: int, edges: Edges | None = None, max_payload: int = 262_144, mounted: Mounted | None = None,
    config: Callable[[str], Awaitable[bytes]] | None = None,
) -> AsyncIterator[Served]:  # fmt: skip
    edges = edges or Edges()
    edges.secrets.known = {"aq-1": SECRET}
    context = edges.context(coap=Coap(port=port, max_payload=max_payload), profiles=shipped())
    driver = coap_driver(replace(context, config=config))
    async with running(driver, mounted or Mounted(), edges.ingest):
        async with asyncio.timeout(60):
            await driver.listening()
        yield Served(edges, port, driver)


@dataclass
class Said:
    """What libcoap's client heard."""

    code: str
    options: str
    payload: str
    whole: str


async def ask(client: str, url: str, *options: str, body: bytes | None = None, folder: Path | None = None) -> Said:
    """Run the client with its protocol trace, and take the last response out of it."""
    if body is not None and folder is not None:
        (folder / "body").write_bytes(body)
        options = (*options, "-f", str(folder / "body"))
    process = await asyncio.create_subprocess_exec(
        client, "-v", "7", "-B", "60", "-m", "post", *options, url, stdout=-1, stderr=-2
    )
    whole = (await process.communicate())[0].decode(errors="replace")
    found = re.findall(r"^v:1 t:\w+ c:([2-5]\.\d\d) i:\w+ \{\w*\} \[([^\]]*)\](?: :: ?(.*))?$", whole, re.MULTILINE)
    assert found, whole
    code, listed, payload = found[-1]
    return Said(code, listed, payload.strip("'"), whole)


async def test_json_is_stored_and_answered_after_its_commit(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    async with serving(free_port()) as served:
        answer = await ask(coap_client, served.url(), "-t", "50", body=READING, folder=tmp_path)
    assert (answer.code, answer.payload) == ("2.04", "")
    (uplink,) = served.edges.ingest.uplinks
    assert (uplink.driver, uplink.address, uplink.content_format) == ("coap", "iot:aq-1", 50)
    assert (uplink.payload, uplink.kind, uplink.topic) == (READING, "telemetry", "/v1/aq-1/telemetry")


SENML = [
    {"bn": "urn:dev:ow:10e2073a01080063:", "bt": 1772352000, "n": "temperature", "u": "Cel", "v": 23.1},
    {"n": "humidity", "u": "%RH", "v": 61},
]
LABELS = {"bn": -2, "bt": -3, "n": 0, "u": 1, "v": 2}


@pytest.mark.parametrize(
    ("number", "body"),
    [
        ("60", cbor2.dumps({"pm25": 35.2})),
        ("110", json.dumps(SENML).encode()),
        ("112", cbor2.dumps([{LABELS[name]: value for name, value in record.items()} for record in SENML])),
    ],
    ids=["CBOR", "SenML JSON", "SenML CBOR"],
)
async def test_the_content_format_travels_with_the_payload(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path, number: str, body: bytes
) -> None:
    async with serving(free_port()) as served:
        answer = await ask(coap_client, served.url(), "-t", number, body=body, folder=tmp_path)
    assert answer.code == "2.04"
    assert [(each.payload, each.content_format) for each in served.edges.ingest.uplinks] == [(body, int(number))]


async def test_no_content_format_is_left_to_the_profile(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    async with serving(free_port()) as served:
        assert (await ask(coap_client, served.url(), body=READING, folder=tmp_path)).code == "2.04"
    assert served.edges.ingest.uplinks[0].content_format is None


@pytest.mark.parametrize(
    ("key", "query"),
    [("aq-1", "?token=wrong"), ("aq-2", f"?token={SECRET}"), ("aq-1", ""), ("aq-1", f"?token={SECRET}&token=x"),
     ("AQ-1", f"?token={SECRET}"), ("aq-1", f"?TOKEN={SECRET}"), ("aq-1", "?token=")],
)  # fmt: skip
async def test_a_sender_that_is_not_known_leaves_a_counter_only(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path, key: str, query: str
) -> None:
    async with serving(free_port()) as served:
        with capture_logs() as logs:
            url = f"coap://127.0.0.1:{served.port}/v1/{key}/telemetry{query}"
            answer = await ask(coap_client, url, "-t", "50", body=READING, folder=tmp_path)
    assert answer.code == "4.01"
    assert not served.edges.ingest.uplinks
    assert served.edges.counted == {"coap_unauthorized": 1}
    assert not logs


async def test_a_stranger_cannot_upload_blocks(coap_client: str, free_port: Callable[[], int], tmp_path: Path) -> None:
    async with serving(free_port()) as served:
        answer = await ask(coap_client, served.url(secret="wrong"), "-t", "50", body=b"x" * 9_000, folder=tmp_path)
        assert answer.code == "4.01"
        assert served.edges.counted == {"coap_unauthorized": 1}, "refused at the first block"


@pytest.mark.parametrize("number", ["0", "42", "11542"])
async def test_other_formats_are_refused(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path, number: str
) -> None:
    async with serving(free_port()) as served:
        answer = await ask(coap_client, served.url(), "-t", number, body=READING, folder=tmp_path)
    assert answer.code == "4.15"
    assert f"Content-Format {number} " in answer.payload
    assert "50, 60, 110, 112" in answer.payload
    assert not served.edges.ingest.uplinks


@pytest.mark.parametrize("number", ["0", "42", "11542"])
async def test_a_native_device_is_refused_them_too_and_one_with_a_format_of_its_own_is_not(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path, number: str
) -> None:
    native, own = (unit("iot:aq-1", profile=model) for model in ("native-air-quality", "ucifi-air-quality"))
    mounted = Mounted(native)
    async with serving(free_port(), mounted=mounted) as served:
        assert (await ask(coap_client, served.url(), "-t", number, body=READING, folder=tmp_path)).code == "4.15"
        mounted.mount(own)
        assert (await ask(coap_client, served.url(), "-t", number, body=READING, folder=tmp_path)).code == "2.04"
        mounted.mount(unit("iot:aq-1", profile="not-installed"))
        assert (await ask(coap_client, served.url(), "-t", number, body=READING, folder=tmp_path)).code == "2.04"
    assert [each.content_format for each in served.edges.ingest.uplinks] == [int(number)] * 2


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/aq-1", "/v1/aq-1/status", "/v1/aq-1/telemetry/x", "/v2/aq-1/telemetry"]
)
async def test_other_paths_are_not_found(coap_client: str, free_port: Callable[[], int], path: str) -> None:
    async with serving(free_port()) as served:
        answer = await ask(coap_client, f"coap://127.0.0.1:{served.port}{path}?token={SECRET}", "-e", "{}")
    assert answer.code == "4.04"
    assert not served.edges.secrets.asked


async def test_other_methods_are_not_allowed(coap_client: str, free_port: Callable[[], int]) -> None:
    async with serving(free_port()) as served:
        assert (await ask(coap_client, served.url(), "-m", "get")).code == "4.05"


async def test_discovery_names_the_resource_and_no_device(coap_client: str, free_port: Callable[[], int]) -> None:
    async with serving(free_port()) as served:
        answer = await ask(coap_client, f"coap://127.0.0.1:{served.port}/.well-known/core", "-m", "get")
    assert answer.code == "2.05"
    assert '</v1>;ct="50 60 110 112 42 0";rt="iot.telemetry"' in answer.payload
    assert "aq-1" not in answer.payload


async def test_a_large_array_comes_in_blocks(coap_client: str, free_port: Callable[[], int], tmp_path: Path) -> None:
    body = json.dumps([{"time": 1772352000 + number, "pm25": number / 10} for number in range(2_000)]).encode()
    async with serving(free_port()) as served:
        answer = await ask(coap_client, served.url(), "-t", "50", "-b", "256", body=body, folder=tmp_path)
    assert answer.code == "2.04"
    assert [each.payload for each in served.edges.ingest.uplinks] == [body]
    assert len(served.edges.secrets.asked) > len(body) // 256, "each block is authenticated"


async def test_what_is_too_large_is_refused_at_its_first_block(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    async with serving(free_port(), max_payload=20_000) as served:
        answer = await ask(coap_client, served.url(), "-t", "50", body=b" " * 20_001, folder=tmp_path)
        assert (answer.code, served.edges.secrets.asked) == ("4.13", ["aq-1"])
        assert "Size1:20000" in answer.options
        assert (await ask(coap_client, served.url(), "-t", "50", body=b" " * 20_000, folder=tmp_path)).code == "2.04"


async def test_a_request_that_is_not_confirmable_is_stored_too(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    async with serving(free_port()) as served:
        answer = await ask(coap_client, served.url(), "-N", "-t", "50", body=READING, folder=tmp_path)
    assert answer.code == "2.04"
    assert "t:NON c:2.04" in answer.whole
    assert len(served.edges.ingest.uplinks) == 1


def gate(edges: Edges) -> asyncio.Event:
    """Hold every commit back until the event is set."""
    event = asyncio.Event()

    async def wait() -> None:
        await event.wait()

    edges.ingest.commit = wait
    return event


async def test_a_slow_commit_is_acknowledged_empty_and_answered_apart(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    edges = Edges()
    commit = gate(edges)
    async with serving(free_port(), edges) as served:
        asking = asyncio.create_task(ask(coap_client, served.url(), "-t", "50", body=READING, folder=tmp_path))
        await until(lambda: edges.ingest.uplinks)
        await asyncio.wait([asking], timeout=0.5)
        assert not asking.done(), "no answer before the commit"
        commit.set()
        answer = await asking
    assert answer.code == "2.04"
    assert re.search(r"t:ACK c:0\.00.*t:CON c:2\.04.*t:ACK c:0\.00", answer.whole, re.DOTALL)
    assert len(edges.ingest.uplinks) == 1


async def test_the_separate_answer_is_repeated_until_it_arrives(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    edges = Edges()
    commit = gate(edges)
    async with serving(free_port(), edges) as served:
        # The client loses its own second datagram: the acknowledgement of the answer.
        asking = asyncio.create_task(
            ask(coap_client, served.url(), "-l", "2", "-t", "50", body=READING, folder=tmp_path)
        )
        await until(lambda: edges.ingest.uplinks)
        await asyncio.sleep(0.2)
        commit.set()
        assert (await asking).code == "2.04"
    assert len(edges.ingest.uplinks) == 1


HELD = (Problem(Reason.UNKNOWN_METRIC, "pm3"), Problem(Reason.WRONG_TYPE, "pm10: float"))


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome(stored=1), "2.04"),
        (Outcome(stored=1, problems=HELD), "2.04"),
        (Outcome(stored=0, problems=HELD), "2.04"),
        (Outcome(stored=0, problems=(Problem(Reason.UNKNOWN_ADDRESS),), recognised=False), "2.04"),
        (Outcome(stored=0), "4.00"),
    ],
)
async def test_the_answer_says_what_became_of_it(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path, outcome: Outcome, code: str
) -> None:
    edges = Edges()
    edges.ingest.outcome = outcome
    async with serving(free_port(), edges) as served:
        answer = await ask(coap_client, served.url(), "-t", "50", body=READING, folder=tmp_path)
    assert answer.code == code
    if outcome.problems:
        assert "application/json" in answer.options
        listed = json.loads(answer.payload)
        assert [each["reason"] for each in listed["held"]] == [problem.reason for problem in outcome.problems]
        assert listed["stored"] == outcome.stored


@pytest.mark.parametrize("who", ["ingest", "secrets"])
async def test_a_store_that_is_away_is_5_03_with_a_time_to_come_back(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path, who: str
) -> None:
    edges = Edges()
    if who == "ingest":
        edges.ingest.away = True
    else:
        edges.secrets.away = True
    async with serving(free_port(), edges) as served:
        answer = await ask(coap_client, served.url(), "-t", "50", body=READING, folder=tmp_path)
        assert answer.code == "5.03"
        seconds = int(re.findall(r"Max-Age:(\d+)", answer.options)[0])
        assert answers.RETRY_S[0] <= seconds <= answers.RETRY_S[1]
        assert str(seconds) in answer.payload
        edges.ingest.away = edges.secrets.away = False
        assert (await ask(coap_client, served.url(), "-t", "50", body=READING, folder=tmp_path)).code == "2.04"


async def test_a_commit_that_never_comes_is_5_03_in_the_end(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "PATIENCE_S", 0.3)
    edges = Edges()
    commit = gate(edges)
    async with serving(free_port(), edges) as served:
        answer = await ask(coap_client, served.url(), "-t", "50", body=READING, folder=tmp_path)
        assert answer.code == "5.03"
        commit.set()  # the commit that comes after all finds nobody waiting, and nothing breaks
        assert (await ask(coap_client, served.url(), "-t", "50", body=READING, folder=tmp_path)).code == "2.04"


async def test_too_many_requests_at_once_are_sent_away(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUESTS_IN_FLIGHT", 1)
    monkeypatch.setattr(server, "PLAIN_IN_FLIGHT", 1)
    edges = Edges()
    commit = gate(edges)
    async with serving(free_port(), edges) as served:
        first = asyncio.create_task(ask(coap_client, served.url(), "-t", "50", body=READING, folder=tmp_path))
        await until(lambda: edges.ingest.uplinks)
        assert (await ask(coap_client, served.url(), "-t", "50", "-e", "{}")).code == "5.03"
        commit.set()
        assert (await first).code == "2.04"
    assert edges.counted["coap_busy"] == 1


async def test_who_fetches_is_bounded_too_and_hears_when_the_store_is_away(
    coap_client: str, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUESTS_IN_FLIGHT", 1)
    asked, given = asyncio.Event(), asyncio.Event()

    async def config(_: str) -> bytes:
        asked.set()
        await given.wait()
        raise StoreUnavailable("away")

    edges = Edges()
    async with serving(free_port(), edges, config=config) as served:
        url = served.url(path="config")
        first = asyncio.create_task(ask(coap_client, url, "-m", "get"))
        await asyncio.wait_for(asked.wait(), 30)
        assert (await ask(coap_client, url, "-m", "get")).code == "5.03"
        assert (await ask(coap_client, url, "-m", "put")).code == "4.05"
        assert edges.counted["coap_busy"] == 1
        given.set()
        assert (await first).code == "5.03"
        edges.secrets.away = True
        assert (await ask(coap_client, url, "-m", "get")).code == "5.03", "nor is it known whose secret it is"
    assert edges.counted["coap_store_unavailable"] == 2


async def test_the_last_answers_go_out_when_the_server_stops(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    edges = Edges()
    commit = gate(edges)
    async with serving(free_port(), edges) as served:
        asking = asyncio.create_task(ask(coap_client, served.url(), "-t", "50", body=READING, folder=tmp_path))
        await until(lambda: edges.ingest.uplinks)
        asyncio.get_running_loop().call_later(0.2, commit.set)
    assert (await asking).code == "2.04"


# Below: datagrams by hand, for what a well-behaved client does not send.

CON, NON = 0, 1


def option(before: int, number: int, value: bytes) -> bytes:
    def nibble(amount: int) -> tuple[int, bytes]:
        if amount < 13:
            return amount, b""
        return (13, bytes([amount - 13])) if amount < 269 else (14, struct.pack(">H", amount - 269))

    delta, more_delta = nibble(number - before)
    length, more_length = nibble(len(value))
    return bytes([delta << 4 | length]) + more_delta + more_length + value


def post(
    mid: int, body: bytes, *, kind: int = CON, token: bytes = b"", query: bytes = b"token=" + SECRET.encode(),
    extra: tuple[tuple[int, bytes], ...] = (),
) -> bytes:  # fmt: skip
    parts = [(11, b"v1"), (11, b"aq-1"), (11, b"telemetry"), (12, b"\x32"), (15, query), *extra]
    encoded, before = b"", 0
    for number, value in parts:
        encoded += option(before, number, value)
        before = number
    return struct.pack(">BBH", 1 << 6 | kind << 4 | len(token), 2, mid) + token + encoded + b"\xff" + body


class Wire(asyncio.DatagramProtocol):
    """A UDP socket that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr
        self.heard.append(data)

    def codes(self) -> list[str]:
        return [f"{each[1] >> 5}.{each[1] & 31:02}" for each in self.heard]


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[tuple[Wire, Callable[[bytes], None]]]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Wire, remote_addr=("127.0.0.1", port)
    )
    try:
        yield protocol, transport.sendto
    finally:
        transport.close()


async def test_a_repeated_datagram_is_one_uplink_and_the_same_answer(free_port: Callable[[], int]) -> None:
    async with serving(free_port()) as served, wire(served.port) as (heard, send):
        send(post(7, READING))
        await until(lambda: heard.heard)
        send(post(7, READING))
        await until(lambda: len(heard.heard) == 2)
        assert heard.heard[0] == heard.heard[1]
        send(post(8, READING))
        await until(lambda: len(heard.heard) == 3)
    assert len(served.edges.ingest.uplinks) == 2


async def test_a_repetition_before_the_commit_is_no_second_uplink(free_port: Callable[[], int]) -> None:
    edges = Edges()
    commit = gate(edges)
    async with serving(free_port(), edges) as served, wire(served.port) as (heard, send):
        for _ in range(3):
            send(post(7, READING, token=b"t"))
        await until(heard.codes)
        before = len(heard.heard)
        send(post(7, READING, token=b"t"))
        await until(lambda: len(heard.heard) > before)
        assert set(heard.codes()) == {"0.00"}
        commit.set()
        await until(lambda: "2.04" in heard.codes())
    assert len(edges.ingest.uplinks) == 1


async def test_a_sender_without_tokens_that_does_not_wait_loses_nothing(free_port: Callable[[], int]) -> None:
    edges = Edges()
    commit = gate(edges)
    async with serving(free_port(), edges) as served, wire(served.port) as (_, send):
        for number in range(20):
            send(post(number, b'{"seq":%d}' % number, kind=NON))
        await until(lambda: len(edges.ingest.uplinks) == 20)
        commit.set()
    assert sorted(each.payload for each in edges.ingest.uplinks) == sorted(b'{"seq":%d}' % n for n in range(20))


async def test_a_datagram_larger_than_a_page_arrives_whole(free_port: Callable[[], int]) -> None:
    body = b'{"pm25":1,"note":"' + b"x" * 30_000 + b'"}'
    async with serving(free_port()) as served, wire(served.port) as (heard, send):
        send(post(7, body))
        await until(lambda: heard.codes() == ["2.04"])
    assert served.edges.ingest.uplinks[0].payload == body


async def test_a_sender_that_wants_no_answer_gets_an_empty_acknowledgement(free_port: Callable[[], int]) -> None:
    async with serving(free_port()) as served, wire(served.port) as (heard, send):
        send(post(7, READING, extra=((258, b"\x02"),)))  # RFC 7967: not interested in 2.xx
        await until(lambda: heard.heard)
        assert heard.codes() == ["0.00"]
    assert len(served.edges.ingest.uplinks) == 1


async def test_blocks_that_do_not_follow_have_to_start_again(free_port: Callable[[], int]) -> None:
    async with serving(free_port()) as served, wire(served.port) as (heard, send):
        send(post(7, b"a" * 64, extra=((27, bytes([0 << 4 | 8 | 2])),)))
        await until(lambda: heard.heard)
        send(post(8, b"b" * 64, extra=((27, bytes([3 << 4 | 8 | 2])),)))
        await until(lambda: len(heard.heard) == 2)
        assert heard.codes() == ["2.31", "4.08"]
    assert not served.edges.ingest.uplinks


async def test_hostile_datagrams_leave_the_server_standing(
    free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    hostile = [
        b"", b"\x00", b"\xff" * 50, b"GET / HTTP/1.1\r\n\r\n", post(1, READING)[:20], post(2, READING)[:4],
        post(3, READING, query=b"token=\xff\xfe"), post(4, READING, extra=((65000, b"?"),)),
        post(5, READING, extra=((27, b"\xff\xff\xff"),)), post(6, READING, extra=((27, b"\x07"),)),
        post(9, b""), post(10, READING, extra=((60, b"\xff" * 4),)), struct.pack(">BBH", 1 << 6, 0, 11),
        struct.pack(">BBH", 1 << 6, 0x45, 12) + b"\xff{}", struct.pack(">BBH", 1 << 6 | 2 << 4, 2, 13),
    ]  # fmt: skip
    async with serving(free_port()) as served, wire(served.port) as (heard, send):
        for datagram in hostile:
            send(datagram)
        send(post(100, READING, token=b"after"))
        await until(lambda: any(b"after" in each for each in heard.heard))
        assert served.edges.ingest.uplinks[-1].payload == READING
    assert SECRET not in caplog.text
    assert "Traceback" not in caplog.text
    assert served.edges.counted["coap_unreadable"] == 1
    assert not served.edges.counted["coap_failed"]


async def test_a_bug_behind_one_request_is_5_00_and_nothing_more(
    free_port: Callable[[], int], coap_client: str
) -> None:
    edges = Edges()
    async with serving(free_port(), edges) as served:
        with capture_logs() as logs:
            edges.secrets.known = None  # type: ignore[assignment]
            assert (await ask(coap_client, served.url(), "-e", "{}")).code == "5.00"
        edges.secrets.known = {"aq-1": SECRET}
        assert (await ask(coap_client, served.url(), "-e", "{}")).code == "2.04"
    assert [entry["event"] for entry in logs] == ["coap.failed"]
    assert SECRET not in str(logs)


async def test_the_secret_is_written_nowhere(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With every logger at its most talkative, and the event loop's own reports on."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, LOGGER)
    asyncio.get_running_loop().set_debug(True)
    asyncio.get_running_loop().slow_callback_duration = 0.0
    edges = Edges()
    with capture_logs() as logs:
        async with serving(free_port(), edges) as served:
            await ask(coap_client, served.url(), "-t", "50", body=READING, folder=tmp_path)
            await ask(coap_client, served.url(), "-t", "50", body=b"x" * 5000, folder=tmp_path)
            await ask(coap_client, served.url(secret=SECRET + "wrong"), "-t", "50", body=READING, folder=tmp_path)
            await ask(coap_client, served.url(), "-t", "42", body=READING, folder=tmp_path)
            logging.getLogger(LOGGER).warning("a later version may say %s", served.url())
            edges.secrets.known = None  # type: ignore[assignment]
            await ask(coap_client, served.url(), "-t", "50", body=READING, folder=tmp_path)
    said_by_log = io.StringIO()
    for record in caplog.records:
        said_by_log.write(logging.Formatter().format(record) + "\n")
    assert "token=********" in said_by_log.getvalue()
    assert SECRET not in said_by_log.getvalue() + str(logs) + repr(edges.ingest.uplinks)


def _heard(heard: Wire, many: int) -> bool:
    return len(heard.heard) >= many


async def test_an_answer_that_is_remembered_does_not_keep_its_request(free_port: Callable[[], int]) -> None:
    async with serving(free_port()) as served, wire(served.port) as (heard, send):
        for number in range(20):
            send(post(number, READING))
            await until(partial(_heard, heard, number + 1))
        gc.collect()
        found = [each.recent for each in gc.get_objects() if isinstance(each, Messages) and len(each.recent) == 20]
        kept = [recent.answer(key) for recent in found for key in list(recent._answers)]
        assert kept
        assert all(isinstance(answer, bytes) or (answer is not None and answer.request is None) for answer in kept)


async def test_a_port_in_use_is_one_clear_sentence(free_port: Callable[[], int]) -> None:
    """aiocoap would share the port of another core without a word."""
    async with serving(free_port()) as served:
        second = coap_driver(Edges().context(coap=Coap(port=served.port)))
        with pytest.raises(StartError) as refused:
            await second.run(Mounted(), Edges().ingest)
    assert refused.value.code == "driver.coap_port_in_use"
    assert str(served.port) in said(refused.value, "en")
    assert str(served.port) in said(refused.value, "vi")


@pytest.mark.parametrize(
    ("host", "code"), [("no-such-host.invalid", "driver.coap_no_such_host"), ("192.0.2.1", "driver.coap_cannot_listen")]
)
async def test_an_address_that_is_not_ours_is_one_clear_sentence(
    free_port: Callable[[], int], host: str, code: str
) -> None:
    driver = coap_driver(Edges().context(coap=Coap(host=host, port=free_port())))
    with pytest.raises(StartError) as refused:
        await driver.run(Mounted(), Edges().ingest)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "[::1]"),
        ("::", "[::1]"),
    ],
)
async def test_every_way_to_name_the_machine_serves(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path, host: str, reached: str
) -> None:
    edges = Edges()
    edges.secrets.known = {"aq-1": SECRET}
    driver = coap_driver(edges.context(coap=Coap(host=host, port=(port := free_port()))))
    async with running(driver, Mounted(), edges.ingest):
        await driver.listening()
        url = f"coap://{reached}:{port}/v1/aq-1/telemetry?token={SECRET}"
        assert (await ask(coap_client, url, "-t", "50", body=READING, folder=tmp_path)).code == "2.04"
    assert driver.address_line() == f"coap://{f'[{host}]' if ':' in host else host}:{port}/v1/KEY/telemetry"


async def test_without_ipv6_in_the_kernel_the_plain_transport_serves(
    coap_client: str, free_port: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_transport", lambda: "simplesocketserver")
    async with serving(free_port()) as served:
        assert (await ask(coap_client, served.url(), "-t", "50", body=READING, folder=tmp_path)).code == "2.04"


async def test_work_is_carried_on_when_its_caller_is_cancelled() -> None:
    in_flight, ended = InFlight(2), asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        ended.set()

    caller = asyncio.create_task(in_flight.carry(work()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    async with asyncio.timeout(60):
        await ended.wait()


async def test_stopping_waits_a_little_and_then_ends_what_is_late() -> None:
    in_flight = InFlight(2)
    caller = asyncio.create_task(in_flight.carry(asyncio.Event().wait()))
    await asyncio.sleep(0)
    await in_flight.settle(0.01)
    assert in_flight.full
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_command_is_refused_honestly() -> None:
    driver = coap_driver(Edges().context(profiles=shipped()))
    command = Command(id=1, name="switch", params={}, expires=datetime.now(UTC))
    with pytest.raises(CommandRejected):
        await driver.send(unit("coap://127.0.0.1:1", profile="native-air-quality"), command)
