"""`iot demo` and `iot sim` as a person starts them: whole processes, real parts, their last line and exit code."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from iot_core.api import shapes
from iot_core.client import Client
from iot_core.state import StateDir
from simulators.faults import FAULTS, OfCameras
from tests import servers
from tests.core import until

PATIENCE_S = 100
IOT = (sys.executable, "-m", "iot_core.cli")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that service users reach; pytest's own is closed to them."""
    made = Path(tempfile.mkdtemp(prefix="iot-demo-", dir=servers.in_memory()))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "IOT_STATE": str(folder / "core"), "IOT_LANG": "en", "PYTHONUNBUFFERED": "1"}


class Running:
    """A started program and the lines it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.over = False
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._news:
                self.lines.append(line.decode().rstrip("\n"))
                self._news.notify_all()
        async with self._news:
            self.over = True
            self._news.notify_all()

    async def says(self, pattern: str) -> re.Match[str]:
        """Wait for a line."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            while True:
                for line in self.lines:
                    if found := re.search(pattern, line):
                        return found
                if self.over:
                    raise AssertionError("\n".join(self.lines))
                await self._news.wait()

    async def ended(self) -> int:
        """Wait for the end."""
        async with asyncio.timeout(PATIENCE_S):
            await self._reading
            return await self.process.wait()

    def last(self) -> Any:
        """Read the JSON of the last line."""
        return json.loads(self.lines[-1])


@asynccontextmanager
async def iot(folder: Path, *arguments: str) -> AsyncIterator[Running]:
    """Run `iot`; end it in order, if it has not ended by itself."""
    process = await asyncio.create_subprocess_exec(
        *IOT,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd="/",
        env=environment(folder),
    )
    running = Running(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        await running.ended()


Known = Mapping[str, shapes.Device]


async def heard(folder: Path, since: datetime, wanted: Callable[[Known], Collection[str]]) -> None:
    """Wait until the core has heard those devices since then."""
    state = StateDir(folder / "core")
    running = state.running()
    assert running is not None
    async with Client(running.url, state.read_token()) as client:

        async def spoke() -> bool:
            known = {each.key: each for each in (await client.devices()).items}
            times = [known[key].last_received_at for key in wanted(known)]
            return bool(times) and all(each is not None and each > since for each in times)

        await until(spoke, within_s=PATIENCE_S, what="all of them are heard")


def everybody(known: Known) -> Collection[str]:
    return known


def who_speaks_unasked(known: Known) -> Collection[str]:
    return [key for key, each in known.items() if not (each.address or "").startswith("modbus:")]


def is_good(verdict: Any, *, alarms: int, broken: int = 0) -> None:
    """Hold the last line against the issue: its keys, and a good run."""
    assert list(verdict) == ["published", "stored", "lost", "duplicate", "held", "alarms", "latency_ms"]
    assert list(verdict["published"]) == list(verdict["stored"]) == ["mqtt", "coap", "modbus"]
    assert verdict["published"] == verdict["stored"]
    assert min(verdict["published"].values()) > 0
    assert (verdict["lost"], verdict["duplicate"], verdict["held"]) == (0, 0, broken)
    assert verdict["alarms"]["raised"] == verdict["alarms"]["pushed"] == verdict["alarms"]["received"] >= alarms
    assert list(verdict["latency_ms"]) == ["commit", "fire_to_receipt"]
    assert 0 < verdict["latency_ms"]["commit"]["p50"] <= verdict["latency_ms"]["commit"]["p99"]
    assert 0 < verdict["latency_ms"]["fire_to_receipt"] < 5000


async def test_the_demo_counts_the_same_everywhere_and_again_on_its_kept_state_until_interrupted(folder: Path) -> None:
    state = str(folder / "demo")
    async with iot(folder, "demo", "--seconds", "25", "--devices", "40", "--state", state) as first:
        assert await first.ended() == 0, first.lines
        is_good(first.last(), alarms=2)
        assert any(state in line for line in first.lines)
        steps = [line for line in first.lines if re.match(r" +\d+\.\d  ", line)]
        passed = [float(line.split()[0]) for line in steps]
        assert len(passed) == 6
        assert passed == sorted(passed)
    arguments = ("--seconds", "600", "--devices", "20", "--fault", "all", "--state", state)
    async with iot(folder, "demo", *arguments) as again:
        await again.says("signature right")
        again.process.send_signal(signal.SIGINT)
        assert await again.ended() == 0, again.lines
        verdict = again.last()
        faults = verdict.pop("faults")
        is_good(verdict, alarms=1, broken=faults["broken"])  # the second detector may not have seen it yet
        assert faults["devices"] == {name: 1 for name, fault in FAULTS.items() if not issubclass(fault, OfCameras)}
        assert any("earlier run acknowledged: 2" in line for line in again.lines)
        assert any("devices retired: 20" in line for line in again.lines)


async def test_the_demo_finds_a_deleted_row_and_a_row_that_nobody_sent(folder: Path, dsn: str) -> None:
    arguments = ("demo", "--seconds", "15", "--devices", "12", "--dsn", dsn, "--state", str(folder / "demo"))
    async with iot(folder, *arguments) as demo:
        await demo.says("The alarm's way")
        connection = await asyncpg.connect(dsn)
        try:
            some = "(SELECT time FROM telemetry.streetlight ORDER BY time LIMIT 1)"
            assert await connection.execute(f"DELETE FROM telemetry.streetlight WHERE time = {some}") == "DELETE 1"
            await connection.execute(
                "INSERT INTO telemetry.streetlight (time, received_at, device_id, quality, bad, power)"
                " SELECT time + interval '1 microsecond', received_at, device_id, 0, 0, 1 FROM telemetry.streetlight"
                " ORDER BY time LIMIT 1"
            )
        finally:
            await connection.close()
        assert await demo.ended() == 1
        verdict = demo.last()
        assert (verdict["lost"], verdict["duplicate"]) == (1, 1)
        assert verdict["stored"].pop("mqtt") + verdict["stored"].pop("coap") + 1 == (
            verdict["published"].pop("mqtt") + verdict["published"].pop("coap")
        )
        assert any(line.startswith("  lost: den-") for line in demo.lines)
        assert any(line.startswith("  sent by nobody: den-") for line in demo.lines)


async def test_a_demo_that_ends_before_the_fire_has_failed(folder: Path) -> None:
    arguments = ("demo", "--seconds", "600", "--devices", "12", "--state", str(folder / "demo"))
    async with iot(folder, *arguments) as demo:
        await demo.says("The city runs")
        demo.process.send_signal(signal.SIGINT)
        assert await demo.ended() == 1
        assert demo.last()["latency_ms"]["fire_to_receipt"] is None


async def test_a_simulated_city_speaks_to_a_core_that_runs_and_is_taken_back_later(
    folder: Path, free_ports: Callable[[int], int]
) -> None:
    async with iot(folder, "up", "--port-base", str(free_ports(3))) as core:
        await core.says("^api ")
        # A unit that was just mounted is polled within 5 s; later a minute may pass.
        for speaking, wanted in (("mqtt", "coap", "modbus"), everybody), (("mqtt", "coap"), who_speaks_unasked):
            since = datetime.now(UTC)
            async with iot(folder, "sim", "run", "--devices", "12", "--seconds", "600") as sim:
                await heard(folder, since, wanted)
                sim.process.send_signal(signal.SIGINT)
                assert await sim.ended() == 0, sim.lines
                summary = sim.last()
                assert summary["unanswered"] == 0
                assert all(summary["published"][protocol] > 0 for protocol in speaking)
        async with iot(folder, "device", "list", "--output", "json") as listed:
            await listed.ended()
            devices = json.loads("\n".join(listed.lines))
            found = devices["items"] if isinstance(devices, dict) else devices
            assert len(found) == 12
            assert all(each["simulated"] for each in found)
        models = (
            "milesight-em500-udl",
            "kamstrup-multical21",
            "ucifi-stream-gauge",
            "sparkplug-pibrella",
            "intesis-dali",
            "onvif-camera",
        )
        asked = [word for model in models for word in ("--model", model)]

        def of_the_models(known: Known) -> Collection[str]:
            speak = [key for key, each in known.items() if each.profile in models[:4]]
            return [*speak, *(key.removesuffix("-gw") for key, each in known.items() if each.profile == "intesis-dali")]

        since = datetime.now(UTC)
        async with iot(folder, "sim", "run", *asked, "--seconds", "600") as sim:
            await sim.says("^City: ")

            async def looked() -> Any:
                async with iot(folder, "device", "read", "camera-hong-gai-001", "--now", "--output", "json") as read:
                    assert await read.ended() == 0, read.lines
                found = {each["metric"]: each["value"] for each in json.loads("\n".join(read.lines))["items"]}
                return found.get("rtsp_status")  # it is registered before it listens

            assert await until(looked, within_s=PATIENCE_S) == 200, "with the login that the simulator gave the core"
            await heard(folder, since, of_the_models)
            sim.process.send_signal(signal.SIGINT)
            assert await sim.ended() == 0, sim.lines
            assert sim.last()["published"]["camera"] >= 1
            assert sim.last()["unanswered"] == 0
        async with iot(folder, "device", "list", "--output", "json") as listed:
            await listed.ended()
            devices = json.loads("\n".join(listed.lines))
            known = devices["items"] if isinstance(devices, dict) else devices
            found = [each for each in known if each["state"] == "ok"]
            assert {each["profile"] for each in found} >= set(models[:4])  # one of them through a LoRaWAN bridge
            (gateway,) = (each["key"] for each in known if each["profile"] == "intesis-dali")
            assert gateway.removesuffix("-gw") in {each["key"] for each in found}, "a lamp behind it is heard"
        async with iot(folder, "sim", "remove") as removed:
            assert await removed.ended() == 0
            assert removed.lines[0] == "Simulated devices retired: 20."
            assert removed.lines[1].startswith("9 areas of the city stay"), removed.lines


async def test_a_wrong_address_is_one_sentence(folder: Path) -> None:
    arguments = ("--url", "http://127.0.0.1:9", "--token", "x", "sim", "run", "--mqtt", "nonsense")
    async with iot(folder, *arguments) as sim:
        assert await sim.ended() != 0
        assert sim.lines == ["nonsense is not an address. Write HOST:PORT, for example 10.0.3.7:1883."]


@pytest.mark.parametrize("arguments", [("--seconds", "5"), ("--devices", "2")])
async def test_a_demo_too_short_or_too_small_is_refused(folder: Path, arguments: tuple[str, ...]) -> None:
    async with iot(folder, "demo", *arguments) as demo:
        assert await demo.ended() == 2
        assert len(demo.lines) == 1
