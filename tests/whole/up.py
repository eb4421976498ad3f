"""`iot up` as a process of its own, so that a test can kill it: embedded PostgreSQL, Mosquitto, all drivers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt

from iot_core.client import Client
from iot_core.state import StateDir
from tests.core import until


@dataclass
class Up:
    """A core that can be started, killed and started again on the same state and ports."""

    state: StateDir
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Client:
        return Client(self.url, self.state.read_token())

    async def start(self) -> None:
        words = ("-m", "iot_core.cli", "up", "--state", str(self.state.path), "--port-base", str(self.port))
        with (self.state.path.parent / "up.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=log, stderr=log)
        await until(self._ready, within_s=60, what=f"core on {self.url}: {self.log()[-2000:]}")

    async def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.log()
        if self.state.running() is None:
            return False
        async with self.client() as client:
            return await client.ready()

    async def kill(self) -> None:
        """SIGKILL the core; what it started lives on."""
        await self._end(signal.SIGKILL)
        self.state.core_file.unlink(missing_ok=True)

    async def stop(self) -> None:
        """End it in order."""
        if self.process is not None and self.process.returncode is None:
            await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        async with asyncio.timeout(20):
            await self.process.wait()

    def log(self) -> str:
        return (self.state.path.parent / "up.log").read_text(errors="replace")

    def postmaster(self) -> int:
        """Give the process id of the embedded database."""
        return int((self.state.postgres / "data" / "postmaster.pid").read_text().splitlines()[0])


@asynccontextmanager
async def core_process(state: Path, port: int) -> AsyncIterator[Up]:
    """Run a core as a process while the block lasts."""
    up = Up(StateDir(state), port)
    await up.start()
    try:
        yield up
    finally:
        if up.process is not None and up.process.returncode is not None:
            await up.start()  # a killed core leaves its children; the next start adopts them and ends them in order
        await up.stop()


@dataclass
class Publisher:
    """A device that publishes numbered readings and keeps what the broker acknowledged; it survives a lost broker."""

    port: int
    key: str
    secret: str
    interval_s: float = 0.005
    acknowledged: list[int] = field(default_factory=list)

    def has(self, number: int) -> bool:
        """Say whether so many were acknowledged."""
        return len(self.acknowledged) >= number

    async def run(self, body: object, stop: asyncio.Event) -> None:
        """Publish `body(n)` one after another, each until it is acknowledged."""
        number = 0
        while not stop.is_set():
            try:
                async with aiomqtt.Client(
                    "127.0.0.1", self.port, username=self.key, password=self.secret, timeout=5
                ) as client:
                    while not stop.is_set():
                        await client.publish(f"iot/v1/{self.key}/telemetry", body(number), qos=1)  # type: ignore[operator]
                        self.acknowledged.append(number)
                        number += 1
                        await asyncio.sleep(self.interval_s)
            except aiomqtt.MqttError:
                await asyncio.sleep(0.1)


def alive(pid: int) -> bool:
    """Say whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
