"""Simulated cameras as curl, the camera driver and a core see them: each fault is what it says, and never a picture."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import pytest

from drivers.camera import examine as examining
from drivers.camera.address import Address
from drivers.camera.examine import examine
from iot_core.model import Uplink, Value
from simulators.device import SimDevice
from simulators.faces.camera import LOGIN_NAME, CameraFace
from simulators.faults import FAULTS, SOUND, Fault, Wish, afflict
from simulators.fleet import plan_of
from simulators.ledger import Ledger
from simulators.secret import Secrets
from tests.simulators.conftest import profiles

SECRET = "Ba-Đình&<1>"
CAMERA_FAULTS = ("unreachable", "rtsp", "onvif", "login", "hang")


def camera(fault: Fault = SOUND) -> SimDevice:
    (planned,) = plan_of(profiles(), ["onvif-camera"], devices=1, seed=1)
    return SimDevice(planned, "", secrets=Secrets(SECRET), fault=fault)


@asynccontextmanager
async def played(it: SimDevice, port: int, ledger: Ledger) -> AsyncIterator[None]:
    """Let a camera answer while the block lasts."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(CameraFace(ledger).run(it, "127.0.0.1", port, stop))
        if not isinstance(it.fault, FAULTS["unreachable"]):
            await listening(port)
        yield
        stop.set()


async def listening(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            await writer.wait_closed()
            return


async def looked_at(port: int, password: str = SECRET) -> dict[str, object]:
    """Look as the driver does, and read it as the shipped profile does."""
    found = await examine(Address("127.0.0.1", port, "/stream1", port), (LOGIN_NAME, password))
    uplink = Uplink(driver="camera", address="camera://x", payload=json.dumps(found).encode(), content_format=50)
    decoded = profiles().get("onvif-camera").decode(uplink)
    assert not decoded.problems
    (sample,) = decoded.samples
    return {**sample.values, **{key: str(value) for key, value in (sample.extra or {}).items()}}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", {"reachable": True, "rtsp": True, "rtsp_status": 200, "onvif": True, "manufacturer": "Simulated"}),
        ("unreachable", {"reachable": False, "rtsp": False, "onvif": False, "rtsp_error": "ConnectionRefusedError"}),
        ("rtsp", {"reachable": True, "rtsp": False, "rtsp_status": 503, "onvif": True}),
        ("onvif", {"reachable": True, "rtsp": True, "onvif": False, "onvif_error": "Action"}),
        ("login", {"reachable": True, "login": False, "rtsp": True, "rtsp_status": 401, "onvif": False,
                   "rtsp_error": "NotAuthorized", "onvif_error": "NotAuthorized"}),
        ("hang", {"reachable": True, "rtsp": False, "onvif": False, "rtsp_error": "TimeoutError"}),
    ],
)  # fmt: skip
async def test_the_driver_finds_what_a_camera_has(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch, fault: str, expected: dict[str, Value]
) -> None:
    if fault == "hang":
        monkeypatch.setattr(examining, "STEP_S", 0.2)
    port, ledger = free_port(), Ledger()
    async with played(camera(FAULTS[fault]() if fault else SOUND), port, ledger):
        said = await looked_at(port)
    assert {key: said.get(key) for key in expected} == expected
    assert ledger.published["camera"] == int(said.get("rtsp_status") == 200)
    assert not ledger.problems, "nothing but OPTIONS was asked"


async def test_a_camera_that_is_away_comes_back_on_its_port(free_port: Callable[[], int]) -> None:
    class Away(Fault):
        now = False

        def away(self, _device: SimDevice, _now: datetime) -> bool:
            return self.now

    port, fault = free_port(), Away()
    async with played(camera(fault), port, Ledger()):
        assert (await looked_at(port))["reachable"]
        fault.now = True
        async with asyncio.timeout(20):
            while (await looked_at(port))["reachable"]:
                await asyncio.sleep(0.01)
        fault.now = False
        await listening(port)
        assert (await looked_at(port))["rtsp"]


async def curl(port: int, *arguments: str) -> list[str]:
    """Ask with curl; give the status lines that it saw, and the last line."""
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--include", "--max-time", "10", *arguments, f"rtsp://127.0.0.1:{port}/stream1",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(20):
        said, _ = await process.communicate()
    return [line for line in said.decode().splitlines() if line.startswith("RTSP/")]


async def test_curl_is_let_in_with_digest_and_with_basic_and_not_with_another_password(
    free_port: Callable[[], int],
) -> None:
    port, ledger = free_port(), Ledger()
    refused, welcome = "RTSP/1.0 401 Unauthorized", "RTSP/1.0 200 OK"
    async with played(camera(), port, ledger):
        assert await curl(port) == [refused]
        assert await curl(port, "--digest", "--user", f"{LOGIN_NAME}:{SECRET}") == [refused, welcome]
        assert await curl(port, "--basic", "--user", f"{LOGIN_NAME}:{SECRET}") == [welcome]
        assert await curl(port, "--digest", "--user", f"{LOGIN_NAME}:other") == [refused, refused]
    assert ledger.published["camera"] == 2


async def test_who_asks_for_a_picture_gets_none_and_is_noted(free_port: Callable[[], int]) -> None:
    port, ledger = free_port(), Ledger()
    async with played(camera(), port, ledger):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"DESCRIBE rtsp://127.0.0.1/stream1 RTSP/1.0\r\nCSeq: 1\r\n\r\n")
        async with asyncio.timeout(20):
            assert await reader.readline() == b"RTSP/1.0 405 Method Not Allowed\r\n"
        writer.close()
        await writer.wait_closed()
    assert ledger.problems == {"camera: asked for DESCRIBE": 1}


@pytest.mark.parametrize(
    "bytes_", [b"\x00" * 100_000, b"x\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"\r\n"],
    ids=["noise", "one word", "minus one", "nothing"],
)  # fmt: skip
async def test_what_is_no_request_breaks_nothing(free_port: Callable[[], int], bytes_: bytes) -> None:
    port = free_port()
    async with played(camera(), port, Ledger()):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes_)
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):  # it hung up on what it had not read
                assert await reader.read() == b""
        writer.close()
        assert (await looked_at(port))["rtsp"]


def test_faults_of_cameras_strike_cameras_and_those_of_others_do_not() -> None:
    for name, fault in FAULTS.items():
        assert fault().can_strike(camera()) is (name in {*CAMERA_FAULTS, "offline", "dead"}), name
    struck = afflict([camera()], [Wish("twice", needed=False), Wish("login")], seed=1)
    assert list(struck) == ["login"]
