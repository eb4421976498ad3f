"""What a benchmark runs on: a scratch directory, a database of its own, a core as a process, and what they cost."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil

from iot_core.client import Client
from iot_core.errors import StartError
from iot_core.settings import child_environment
from iot_core.state import StateDir, locked
from iot_core.store.server import embedded
from simulators.ports import free_ports

_READY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A running core, its database and its broker."""

    folder: Path
    dsn: str
    client: Client
    mqtt_port: int
    coap_port: int
    process: psutil.Process

    def cpu(self) -> dict[str, float]:
        """Give the CPU seconds used so far by the core, the broker and (where it is ours) the database."""
        return {
            "core": _cpu(self.process),
            "broker": sum(map(_cpu, self._ours("mosquitto"))),
            "database": sum(map(_cpu, self._ours("postgres"))),
        }

    def memory_peak_mb(self) -> float:
        """Give the most memory the core ever held, in MB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return round(int(line.split()[1]) / 1024, 1)
        return 0.0

    def _ours(self, name: str) -> list[psutil.Process]:
        """Find the processes of a program that were started in our folder, with their children."""
        found = [
            process
            for process in psutil.process_iter(["name", "cmdline"])
            if process.info["name"] == name and str(self.folder) in " ".join(process.info["cmdline"] or ())
        ]
        return [each for process in found for each in (process, *process.children(recursive=True))]


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


@asynccontextmanager
async def scratch() -> AsyncIterator[Path]:
    """Give a folder that service users can reach, and remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="iot-bench-"))
    folder.chmod(0o711)  # noqa: ASYNC240 - one call, before anything runs
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def database(folder: Path, dsn: str) -> AsyncIterator[str]:
    """Give the DSN of an empty database: on the server of `dsn`, else on an embedded one."""
    async with AsyncExitStack() as stack:
        if not dsn:
            (folder / "store").mkdir(mode=0o711)
            dsn = await stack.enter_async_context(embedded(stack.enter_context(locked(folder / "store" / "state"))))
            yield dsn
            return
        name = f"iot_bench_{secrets.token_hex(4)}"
        admin = await asyncpg.connect(dsn)
        try:
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'")
            yield urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await admin.close()


@asynccontextmanager
async def core(folder: Path, dsn: str, settings: Mapping[str, str] | None = None) -> AsyncIterator[Stage]:
    """Run `iot up` as a process of its own."""
    state = StateDir(folder / "core")
    api, mqtt, coap = free_ports()
    ports = {"IOT_API_PORT": str(api), "IOT_MQTT_PORT": str(mqtt), "IOT_COAP_PORT": str(coap)}
    environment = child_environment(IOT_STORE_DSN=dsn, **ports, **(settings or {}))
    with (folder / "core.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "iot_core.cli", "up", "--state", str(state.path),
            env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        async with asyncio.timeout(_READY_S):
            while not (state.running() and state.read_token()):
                if process.returncode is not None:
                    raise StartError("bench.core_ended", log=(folder / "core.log").read_text()[-2000:])
                await asyncio.sleep(0.1)
        async with Client(f"http://127.0.0.1:{api}", state.read_token()) as client:
            yield Stage(folder, dsn, client, mqtt, coap, psutil.Process(process.pid))
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
