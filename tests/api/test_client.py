"""The client alone: what it needs, and what it says when the other end is not a core."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web

from iot_core.api.shapes import DeviceNew
from iot_core.client import Client
from iot_core.errors import ForbiddenError, NotFoundError, RequestError
from iot_core.messages import said
from tests.api.city import City

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ALONE = """
import sys
for part in ("asyncpg", "structlog", "prometheus_client", "mqttium", "aiocoap", "fcntl", "pwd", "resource", "grp"):
    sys.modules[part] = None  # an import of it fails
import iot_core.client
"""


@pytest.fixture
async def stranger(free_port: Callable[[], int]) -> AsyncIterator[str]:
    """Run a web server that is not ours."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="<html>hello</html>", status=200 if request.path.endswith("/me") else 418)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


def test_the_client_needs_no_part_of_the_server() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://a", "http://"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(RequestError, match=r"api\.bad_url"):
        Client(url)


async def test_a_server_that_is_not_a_core_is_named_so(stranger: str) -> None:
    async with Client(stranger, "x", lang="en") as client:
        with pytest.raises(RequestError, match=r"api\.not_ours"):
            await client.me()
        with pytest.raises(RequestError, match=r"api\.not_ours") as caught:
            await client.devices()
        assert not await client.ready()
    assert "418" in str(caught.value.facts["detail"])


async def test_errors_come_back_as_they_were_raised_with_a_sentence_in_both_languages(city: City) -> None:
    async with city.client("viewer") as client:
        assert await client.ready()
        with pytest.raises(ForbiddenError) as forbidden:
            await client.remove_device("a")
        with pytest.raises(NotFoundError) as missing:
            await client.device("a/b")
    assert forbidden.value.facts == {"role": "viewer", "action": "devices", "area": "*"}
    assert missing.value.facts == {"key": "a/b"}
    assert "a/b" in said(missing.value, "vi")
    assert "quản trị viên" in said(forbidden.value, "vi")


async def test_thousands_of_devices_are_added_in_one_request(city: City) -> None:
    new = [DeviceNew(key=f"lamp-{n:04}", class_key="streetlight", notes="x" * 300) for n in range(5_000)]
    async with city.client() as client:
        added = await client.add_devices(new)
        assert len(added.items) == 5_000
        assert (await client.devices(limit=1)).total == 5_000


async def test_a_long_span_comes_whole_and_in_order(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iot_core.api.telemetry._PART", 7)
    await city.add("air-1", "air_quality")
    day = (datetime.now(UTC) - timedelta(days=9)).date()
    said = [{"pm25": n, "time": f"{day}T08:{n:02}:00Z"} for n in range(30)]
    await city.path.say("air-1", json.dumps(said))
    async with city.client() as client:
        start, end = f"{day}T08:00:00Z", f"{day}T08:29:00Z"
        path = f"/devices/air-1/telemetry?from={start}&to={end}"
        whole = [row["values"]["pm25"] for row in (await city.ask("GET", path)).json["items"]]
        newest = [row["values"]["pm25"] for row in (await city.ask("GET", path + "&limit=10")).json["items"]]
        one = (await city.ask("GET", path + "&metrics=temperature")).json["items"]
        assert (await client.device("air-1")).stored_once is True
    assert whole == list(range(29))
    assert newest == list(range(19, 29))
    assert all("pm25" not in row["values"] for row in one)


async def test_a_reading_that_was_shown_before_the_connection_was_lost_is_not_shown_again(
    free_port: Callable[[], int],
) -> None:
    def row(minute: int, power: float) -> dict[str, Any]:
        return {
            "device": "a", "time": f"2026-06-01T00:0{minute}:00Z", "received_at": f"2026-06-01T00:0{minute}:01Z",
            "quality": "good", "bad": [], "values": {"power": power},
        }  # fmt: skip

    connections = [[row(1, 1.0), row(2, 2.0), row(1, 1.5)], [row(2, 2.0)], [row(2, 2.5)], [row(3, 2.5)]]
    stands: list[bool] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for each in connections.pop(0) if connections else []:
            await response.write(b"event: reading\ndata: " + msgspec.json.encode(each) + b"\n\n")
        return response

    app = web.Application()
    app.router.add_get("/api/v1/telemetry/watch", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with (
            asyncio.timeout(30),
            Client(f"http://127.0.0.1:{port}", "x") as client,
            aclosing(client.watch("a", connected=lambda: stands.append(True))) as readings,
        ):
            seen = [(await anext(readings)).values["power"] for _ in range(5)]
            assert stands == [True]
    finally:
        await runner.cleanup()
    assert seen == [1.0, 2.0, 1.5, 2.5, 2.5]
