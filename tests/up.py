"""`iot up` as a process of its own, so that a test can kill it: a database, a broker, all drivers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import aiohttp

from iot_core.client import Client
from iot_core.state import StateDir
from tests.core import until


@dataclass
class Up:
    """A core that can be started, killed and started again on the same state and ports."""

    state: StateDir
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    """As in the environment, without `IOT_`: {"STORE_DSN": ...}. Names with a dot in front are set as they are."""
    process: asyncio.subprocess.Process | None = None
    peak_kb: int = 0
    """The most memory that any core of this state had resident."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Client:
        return Client(self.url, self.state.read_token())

    async def start(self) -> None:
        await self.spawn()
        await until(self.ready, within_s=60, what=f"core on {self.url}: {self.log()[-2000:]}")

    async def spawn(self) -> None:
        """Start the process, and do not wait for it."""
        words = ("-m", "iot_core.cli", "up", "--state", str(self.state.path), "--port-base", str(self.port))
        named = {
            name.removeprefix(".") if name[0] == "." else f"IOT_{name}": said for name, said in self.settings.items()
        }
        with (self.state.path.parent / "up.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *words, stdout=log, stderr=log, env={**os.environ, **named}
            )

    async def ready(self) -> bool:
        """Say whether it takes work."""
        assert self.process is not None
        assert self.process.returncode is None, self.log()
        if self.state.running() is None:
            return False
        async with self.client() as client:
            return await client.ready()

    async def kill(self) -> None:
        """SIGKILL the core; what it started lives on."""
        self.measure()
        await self._end(signal.SIGKILL)
        self.state.core_file.unlink(missing_ok=True)

    async def stop(self) -> None:
        """End it in order."""
        if self.process is not None and self.process.returncode is None:
            self.measure()
            await self._end(signal.SIGTERM)

    def measure(self) -> int:
        """Take note of the most memory it ever had resident, in kB."""
        assert self.process is not None
        said = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        if found := re.search(r"VmHWM:\s+(\d+) kB", said):  # not there once it is a zombie
            self.peak_kb = max(self.peak_kb, int(found[1]))
        return self.peak_kb

    async def counter(self, event: str) -> int:
        """Read how often an event happened, from /metrics."""
        return int(await self._metric(rf'^iot_events_total{{event="{event}"}} (\S+)$'))

    async def gauge(self, name: str) -> float:
        """Read a gauge, from /metrics."""
        return await self._metric(rf"^iot_{name} (\S+)$")

    async def _metric(self, pattern: str) -> float:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as answer:
            found = re.search(pattern, await answer.text(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def _end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        async with asyncio.timeout(20):
            await self.process.wait()

    def log(self) -> str:
        return (self.state.path.parent / "up.log").read_text(errors="replace")

    def dsn(self) -> str:
        """Give the address of the database."""
        if given := self.settings.get("STORE_DSN"):
            return given
        password = (self.state.postgres / "password").read_text(encoding="ascii")
        return f"postgresql://iot:{password}@/iot?host={quote(str(self.state.run() / 'postgres'))}"

    def postmaster(self) -> int:
        """Give the process id of the embedded database."""
        return int((self.state.postgres / "data" / "postmaster.pid").read_text().splitlines()[0])


@asynccontextmanager
async def core_process(state: Path, port: int, **settings: str) -> AsyncIterator[Up]:
    """Run a core as a process while the block lasts; `settings` as in the environment: STORE_DSN=..."""
    up = Up(StateDir(state), port, settings)
    await up.start()
    try:
        yield up
    finally:
        if up.process is not None and up.process.returncode is not None:
            await up.start()  # a killed core leaves its children; the next start adopts them and ends them in order
        await up.stop()


def alive(pid: int) -> bool:
    """Say whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
