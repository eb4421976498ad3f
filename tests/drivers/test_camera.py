"""The camera driver against GStreamer's RTSP server, an ONVIF stand-in that checks digests, and what is no camera."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from urllib.request import AbstractDigestAuthHandler, HTTPPasswordMgrWithDefaultRealm, Request

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from drivers import camera
from drivers.camera import examine as examining
from drivers.camera import onvif, rtsp
from drivers.camera.address import Address, read_address
from drivers.camera.examine import examine
from drivers.camera.watch import CameraDriver, _until_due
from iot_core.errors import CommandRejected
from iot_core.model import Command, Credential, Uplink
from iot_core.profiles import load
from tests.conftest import missing
from tests.drivers.wire_edges import Edges, Mounted, running, unit, until

LOGIN = ("operator", "Ba-Đình&<1>")
PROFILES = load()


@asynccontextmanager
async def gstreamer(port: int, *login: str) -> AsyncIterator[None]:
    server = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", str(Path(__file__).parent / "rtsp_server.py"), str(port), *login,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    assert server.stderr is not None
    try:
        async with asyncio.timeout(60):
            if await server.stdout.readline() != b"ready\n":
                said = (await server.stderr.read()).decode()
                if "gi" in said:
                    missing("scripts/packages gir1.2-gst-rtsp-server-1.0 python3-gi")
                raise AssertionError(said)
        yield
    finally:
        server.kill()
        await server.wait()


@dataclass
class Onvif:
    """A small ONVIF device service: answers the time to everybody, who it is to whoever proves the password."""

    port: int = 0
    ahead: timedelta = timedelta(0)
    garbage: bytes | None = None
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        if self.garbage is not None:
            return web.Response(body=self.garbage)
        now = datetime.now(UTC) + self.ahead
        if "GetSystemDateAndTime" in body:
            self.asked.append("time")
            return web.Response(text=self._envelope(self._time(now)), content_type="application/soap+xml")
        self.asked.append("information")
        if not self._proven(body, now):
            fault = (
                "<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>ter:NotAuthorized</s:Value>"
                "</s:Subcode></s:Code></s:Fault>"
            )
            return web.Response(status=400, text=self._envelope(fault), content_type="application/soap+xml")
        return web.Response(text=self._envelope(INFORMATION), content_type="application/soap+xml")

    @staticmethod
    def _proven(body: str, now: datetime) -> bool:
        found = re.search(
            r"Username>(.*?)</.*?Type=\"[^\"]*#PasswordDigest\">(.*?)</.*?Nonce>(.*?)</.*?Created>(.*?)</", body
        )
        if found is None:
            return False
        name, proof, nonce, created = found.groups()
        whole = base64.b64decode(nonce) + created.encode() + LOGIN[1].encode()
        fresh = abs(now - datetime.fromisoformat(created)) < timedelta(seconds=30)
        return name == LOGIN[0] and proof == base64.b64encode(_sha1(whole)).decode() and fresh

    @staticmethod
    def _time(now: datetime) -> str:
        return (
            '<d:GetSystemDateAndTimeResponse xmlns:d="http://www.onvif.org/ver10/device/wsdl"'
            ' xmlns:t="http://www.onvif.org/ver10/schema"><d:SystemDateAndTime><t:UTCDateTime>'
            f"<t:Time><t:Hour>{now.hour}</t:Hour><t:Minute>{now.minute}</t:Minute><t:Second>{now.second}</t:Second>"
            "</t:Time>"
            f"<t:Date><t:Year>{now.year}</t:Year><t:Month>{now.month}</t:Month><t:Day>{now.day}</t:Day></t:Date>"
            "</t:UTCDateTime></d:SystemDateAndTime></d:GetSystemDateAndTimeResponse>"
        )

    @staticmethod
    def _envelope(body: str) -> str:
        return f'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>{body}</s:Body></s:Envelope>'


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data).digest()  # noqa: S324 - the standard's


INFORMATION = (
    '<d:GetDeviceInformationResponse xmlns:d="http://www.onvif.org/ver10/device/wsdl">'
    "<d:Manufacturer>Acme</d:Manufacturer><d:Model>DOME-4</d:Model><d:FirmwareVersion>2.8.1</d:FirmwareVersion>"
    "<d:SerialNumber>A4-17</d:SerialNumber><d:HardwareId>7</d:HardwareId></d:GetDeviceInformationResponse>"
)


@asynccontextmanager
async def onvif_device(port: int) -> AsyncIterator[Onvif]:
    device = Onvif(port)
    app = web.Application()
    app.router.add_post("/onvif/device_service", device.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield device
    finally:
        await runner.cleanup()


def at(rtsp_port: int, onvif_port: int | None = None) -> Address:
    return Address("127.0.0.1", rtsp_port, "/stream1", onvif_port)


def values(found: object) -> dict[str, object]:
    """What the shipped profile reads out of a look."""
    decoded = PROFILES.get("onvif-camera").decode(
        Uplink(driver="camera", address="camera://x", payload=json.dumps(found).encode(), content_format=50)
    )
    assert not decoded.problems
    (sample,) = decoded.samples
    return dict(sample.values)


def alarms(found: object) -> list[str]:
    """The rules of the class that a look meets."""
    said = values(found)
    rules = PROFILES.classes["camera_health"].rules
    return [rule.key for rule in rules if rule.metric in said and said[rule.metric] is rule.threshold]


async def test_a_camera_that_works_says_so(free_port: Callable[[], int]) -> None:
    ports = free_port(), free_port()
    async with gstreamer(ports[0]), onvif_device(ports[1]) as device:
        device.ahead = timedelta(seconds=90)
        began = asyncio.get_running_loop().time()
        found = await examine(at(*ports), LOGIN)
        took = asyncio.get_running_loop().time() - began
    said = values(found)
    assert (said["reachable"], said["rtsp"], said["rtsp_status"], said["onvif"]) == (True, True, 200, True)
    assert 88 - took < float(str(said["clock_offset"])) < 92 + took
    assert device.asked == ["time", "information"]
    assert found["onvif"]["manufacturer"] == "Acme"
    assert found["onvif"]["serial"] == "A4-17"


async def test_a_stream_that_asks_for_a_login_is_a_stream(free_port: Callable[[], int]) -> None:
    port = free_port()
    async with gstreamer(port, "user", "password"):
        said = values(await examine(at(port), None))
    assert (said["reachable"], said["rtsp"]) == (True, True)


async def test_nothing_but_options_is_asked_of_rtsp(free_port: Callable[[], int]) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(10_000))
        writer.write(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: OPTIONS\r\n\r\n")
        await writer.drain()
        heard.append(await reader.read(10_000))
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        await examine(at(port), None)
        await until(lambda: len(heard) == 2)
    assert heard[0].startswith(b"OPTIONS rtsp://127.0.0.1:")
    assert heard[1] == b"", "no DESCRIBE, no SETUP, no PLAY: never a picture"


@asynccontextmanager
async def rtsp_with_digest(port: int, password: str = LOGIN[1]) -> AsyncIterator[list[str]]:
    """Serve OPTIONS to whoever proves the password; gives what was shown."""
    shown: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                asked = (await reader.readuntil(b"\r\n\r\n")).decode()
                status, more = "401 Unauthorized", 'WWW-Authenticate: Digest realm="r", nonce="n"\r\n'
                proof = re.search(r'uri="([^"]+)", response="(\w+)"', asked)
                if proof is not None:
                    shown.append(asked)
                    ha1, ha2 = _md5(f"{LOGIN[0]}:r:{password}"), _md5(f"OPTIONS:{proof[1]}")
                    status = "200 OK" if proof[2] == _md5(f"{ha1}:n:{ha2}") else status
                sequence = asked.partition("CSeq: ")[2].partition("\r")[0]
                writer.write(f"RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n{more}\r\n".encode())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield shown


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


async def test_a_wrong_login_is_told_apart_from_a_dead_camera(free_port: Callable[[], int]) -> None:
    ports = free_port(), free_port()
    async with onvif_device(ports[1]):
        found = await examine(at(*ports), (LOGIN[0], "wrong"))
    assert found["reachable"], "ONVIF answers, whatever RTSP does"
    assert found["rtsp"] == {"ok": False, "error": "ConnectionRefusedError"}
    assert (found["onvif"]["ok"], found["onvif"]["error"]) == (False, "NotAuthorized")


async def test_without_a_login_only_the_time_is_asked_for(free_port: Callable[[], int]) -> None:
    ports = free_port(), free_port()
    async with onvif_device(ports[1]) as device:
        found = await examine(at(*ports), None)
    assert device.asked == ["time"]
    assert found["onvif"]["ok"]


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 9_000, b"RTSP/1.0 200 OK\r\nCSeq: 7\r\n\r\n", b"RTSP/1.0 900 x\r\n"],
    ids=["closes", "HTTP", "garbage", "another's answer", "no status"],
)
async def test_what_speaks_no_rtsp_is_reachable_and_no_stream(free_port: Callable[[], int], answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(answer)
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        said = values(await examine(at(port), None))
    assert (said["reachable"], said["rtsp"]) == (True, False)


async def test_a_server_that_never_answers_costs_one_deadline(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "STEP_S", 1.0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1_000):  # until the driver gives up
            pass
        writer.close()

    ports = free_port(), free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", ports[0]):
        async with asyncio.timeout(30):
            said = values(await examine(at(ports[0]), None))
    assert (said["reachable"], said["rtsp"]) == (True, False)


async def test_nobody_there_is_unreachable(free_port: Callable[[], int]) -> None:
    said = values(await examine(at(free_port(), free_port()), LOGIN))
    assert (said["reachable"], said["rtsp"], said["onvif"]) == (False, False, False)


BOMB = b'<!DOCTYPE x [<!ENTITY a "' + b"A" * 1000 + b'"><!ENTITY b "&a;&a;&a;&a;">]><s:Envelope>&b;</s:Envelope>'


@pytest.mark.parametrize("answer", [b"", b"<html>", b"\x00" * 70_000, BOMB], ids=["empty", "HTML", "long", "entities"])
async def test_an_onvif_that_is_none_breaks_nothing(free_port: Callable[[], int], answer: bytes) -> None:
    ports = free_port(), free_port()
    async with onvif_device(ports[1]) as device:
        device.garbage = answer
        found = await examine(at(*ports), LOGIN)
    assert found["reachable"]
    assert "onvif" not in found


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_none(data: bytes) -> None:
    for read in (onvif.read_time, onvif.read_identity, onvif.read_fault, rtsp.read_status, rtsp.challenge):
        read(data)


def test_a_time_that_no_calendar_has_is_none() -> None:
    names = ("Year", "Month", "Day", "Hour", "Minute", "Second")
    for year in ("99999999999999999999", "-1", "2026.5", "9" * 5000):
        said = "".join(f"<{name}>{year if name == 'Year' else 1}</{name}>" for name in names)
        assert onvif.read_time(f"<UTCDateTime>{said}</UTCDateTime>".encode()) is None


CHALLENGES = [
    'Digest realm="DS-2CD2143", nonce="4e5a6d59"',
    'Digest realm="a, b", nonce="n", algorithm=MD5, qop="auth"',
    'digest qop="auth,auth-int", realm="r", nonce="n", opaque="FQhe", algorithm="MD5", stale="FALSE"',
]


@pytest.mark.parametrize("said", CHALLENGES)
def test_a_challenge_is_met_as_pythons_own_http_client_meets_it(said: str) -> None:
    url = "rtsp://10.0.3.9:554/ch1"
    asked = rtsp.challenge(
        b"RTSP/1.0 401 x\r\nWWW-Authenticate: Basic realm=r\r\nWWW-Authenticate: %b\r\n" % said.encode()
    )
    assert asked is not None

    class Peer(AbstractDigestAuthHandler):
        def get_cnonce(self, nonce: str) -> str:  # noqa: ARG002 - its signature
            return "c0ffee"

        def get_method(self) -> str:
            return "OPTIONS"

    passwords = HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, "http://10.0.3.9/", "operator", "s3cret")
    request = Request("http://10.0.3.9/", method="OPTIONS")
    request.selector = url
    expected = Peer(passwords).get_authorization(request, asked)
    assert expected is not None
    (response,) = re.findall(r' response="(\w+)"', expected)
    assert f'response="{response}"' in rtsp.proof(("operator", "s3cret"), asked, url, "c0ffee")


@pytest.mark.parametrize(
    "said", ['Basic realm="r"', 'Digest realm="r"', 'Digest realm="r", nonce="n", algorithm=MD5-sess', "Digest"]
)
def test_a_challenge_that_would_have_the_password_itself_or_is_none_is_not_met(said: str) -> None:
    assert rtsp.challenge(f"RTSP/1.0 401 x\r\nWWW-Authenticate: {said}\r\n\r\n".encode()) is None


async def test_a_camera_that_hangs_up_after_its_challenge_is_a_stream(free_port: Callable[[], int]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: Digest realm="r", nonce="n"\r\n\r\n')
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        said = values(await examine(at(port), LOGIN))
    assert (said["rtsp"], said["rtsp_status"]) == (True, 401)


def test_the_digest_is_the_one_of_the_standard() -> None:
    """The example of the ONVIF Application Programmer's Guide, 6.1.1.3."""
    nonce = base64.b64decode("LKqI6G/AikKCQrN0zqZFlg==")
    assert onvif.digest(nonce, "2010-09-16T07:50:45Z", "userpassword") == "tuOSpGlFlIXsozq4HFNeeGeFLEI="


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("camera://10.0.3.9", Address("10.0.3.9", 554, "/", 80)),
        ("camera://10.0.3.9:8554/ch1/main?onvif=8080", Address("10.0.3.9", 8554, "/ch1/main", 8080)),
        ("camera://[fd00::9]/x?onvif=off", Address("fd00::9", 554, "/x", None)),
    ],
)
def test_addresses_are_read(text: str, expected: Address) -> None:
    assert read_address(text) == expected


@pytest.mark.parametrize(
    "text", ["camera://", "camera://u:p@10.0.3.9", "camera://h?onvif=99999", "camera://h?rtsp=1", "rtsp://10.0.3.9/"]
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_address(text)


class Logins:
    async def of(self, unit_id: int, kind: str) -> Credential | None:
        assert (unit_id, kind) == (1, "login")
        return Credential({"username": LOGIN[0]}, LOGIN[1].encode())

    async def reserve(self, unit_id: int, kind: str, count: int) -> int:
        raise NotImplementedError

    async def take_over(self, unit_id: int, kind: str, used: Credential) -> bool:
        raise NotImplementedError


async def test_the_driver_looks_at_each_camera_in_its_turn(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.camera.watch._until_due", lambda *_: 0.1)
    ports = free_port(), free_port()
    edges = Edges()
    driver = CameraDriver(replace(edges.context(profiles=PROFILES), credentials=Logins()))
    good = unit(f"camera://127.0.0.1:{ports[0]}/stream1?onvif={ports[1]}", profile="onvif-camera")
    bad = unit("camera://user:secret@127.0.0.1", profile="onvif-camera", number=2)
    async with gstreamer(ports[0]), onvif_device(ports[1]), running(driver, Mounted(good, bad), edges.ingest):
        await until(lambda: len(edges.ingest.of(good.address)) >= 2)
    assert not edges.ingest.of(bad.address)
    said = json.loads(edges.ingest.uplinks[0].payload)
    assert (said["rtsp"]["status"], said["onvif"]["model"]) == (200, "DOME-4")
    assert LOGIN[1] not in repr(edges.ingest.uplinks) + repr(Credential({}, LOGIN[1].encode()))


class Login:
    """What is kept for every unit, and may be changed."""

    password = "wrong"

    async def of(self, unit_id: int, kind: str) -> Credential | None:  # noqa: ARG002 - one for all
        return Credential({"username": LOGIN[0]}, self.password.encode())

    async def reserve(self, unit_id: int, kind: str, count: int) -> int:
        raise NotImplementedError

    async def take_over(self, unit_id: int, kind: str, used: Credential) -> bool:
        raise NotImplementedError


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> tuple[CameraDriver, Edges, Login, list[float]]:
    """A driver, and the clock by which it holds a login back."""
    clock, edges, login = [1_000.0], Edges(), Login()
    monkeypatch.setattr("drivers.camera.watch.time.monotonic", lambda: clock[0])
    return CameraDriver(replace(edges.context(profiles=PROFILES), credentials=login)), edges, login, clock


async def test_a_login_that_is_refused_is_shown_ever_more_rarely(
    free_port: Callable[[], int], looking: tuple[CameraDriver, Edges, Login, list[float]]
) -> None:
    driver, edges, login, clock = looking
    ports = free_port(), free_port()
    it = unit(f"camera://127.0.0.1:{ports[0]}/stream1?onvif={ports[1]}", profile="onvif-camera")
    refused = {"reachable": True, "rtsp": True, "onvif": False, "login": False}
    async with onvif_device(ports[1]) as device, rtsp_with_digest(ports[0]) as shown:
        for minute in range(120):
            said = values(json.loads((await driver._look(it)).payload))
            assert {each: said[each] for each in refused} == refused, f"each look says it: {minute}"
            clock[0] += 60
        assert len(shown) == 4, "at 0, 15, 45 and 105 minutes, each time once"
        assert device.asked.count("information") == 0, "ONVIF has the same account"
        assert edges.counted["camera_login_refused"] == 4
        login.password = LOGIN[1]
        said = values(json.loads((await driver._look(it)).payload))
        assert (said["rtsp"], said["onvif"], said["login"]) == (True, True, True), "another login is shown at once"


async def test_a_refused_login_is_one_alarm(free_port: Callable[[], int]) -> None:
    ports = free_port(), free_port()
    async with onvif_device(ports[1]), rtsp_with_digest(ports[0]):
        assert alarms(await examine(at(*ports), ("operator", "wrong"))) == ["camera_health.login_refused"]
    assert alarms(await examine(at(*ports), ("operator", "wrong"))) == [
        "camera_health.unreachable", "camera_health.no_stream"
    ]  # fmt: skip


async def test_a_person_who_asks_has_the_login_shown(
    free_port: Callable[[], int], looking: tuple[CameraDriver, Edges, Login, list[float]]
) -> None:
    driver, _, _, _ = looking
    ports = free_port(), free_port()
    it = unit(f"camera://127.0.0.1:{ports[0]}/stream1?onvif={ports[1]}", profile="onvif-camera")
    async with rtsp_with_digest(ports[0]) as shown:
        await driver._look(it)
        await driver._look(it)
        await driver.read(it)
    assert len(shown) == 2


async def test_a_login_that_onvif_alone_refuses_is_held_back_from_both(
    free_port: Callable[[], int], looking: tuple[CameraDriver, Edges, Login, list[float]]
) -> None:
    driver, _, login, clock = looking
    ports = free_port(), free_port()
    it = unit(f"camera://127.0.0.1:{ports[0]}/stream1?onvif={ports[1]}", profile="onvif-camera")
    async with onvif_device(ports[1]) as device, rtsp_with_digest(ports[0], "wrong") as shown:
        for _ in range(5):
            said = values(json.loads((await driver._look(it)).payload))
            assert (said["rtsp"], said["onvif"], said["login"]) == (True, False, False)
            clock[0] += 60
        assert (len(shown), device.asked.count("information")) == (1, 1)
        login.password = LOGIN[1]
    async with onvif_device(ports[1]):
        said = values(json.loads((await driver._look(it)).payload))
    assert (said["onvif"], said["login"]) == (True, True)


def test_a_city_of_cameras_is_spread_over_the_interval() -> None:
    due = sorted(_until_due(f"camera://10.0.{n // 250}.{n % 250}", 60.0) for n in range(1_000))
    assert all(0 < each <= 60.0 for each in due)
    assert max(b - a for a, b in pairwise(due)) < 2.0


async def test_a_camera_takes_no_commands() -> None:
    driver = CameraDriver(Edges().context(profiles=PROFILES))
    with pytest.raises(CommandRejected):
        await driver.send(unit("camera://h"), Command(id=1, name="pan", params={}, expires=datetime.now(UTC)))


def test_the_driver_is_found_as_one_from_outside_would_be() -> None:
    (found,) = [each for each in entry_points(group="iot_core.drivers") if each.name == "camera"]
    assert found.load() is camera.driver
    core = Path(__file__).parents[2] / "iot_core"
    said = [path for path in core.rglob("*.py") if "drivers.camera" in path.read_text(encoding="utf-8")]
    assert not said, "nothing of the core knows it"
