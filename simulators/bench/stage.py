"""What a benchmark runs on: a scratch directory, a database of its own, a core as a process, and what they cost.

scratch() -> database(folder, store) -> core(folder, dsn, settings) -> Stage      each a block; ended in reverse

`store` is `embedded`, `timescaledb` (a server of its own by scripts/timescaledb) or the DSN of a server, on which a
database is made and dropped.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg
import msgspec
import psutil
from prometheus_client.parser import text_string_to_metric_families

from iot_core.broker.mosquitto import installed
from iot_core.client import Client
from iot_core.errors import StartError
from iot_core.settings import child_environment
from iot_core.state import StateDir, locked
from iot_core.store.server import embedded
from simulators.bench.sampled import TURN
from simulators.ports import free_ports

__all__ = ["EMBEDDED", "TIMESCALEDB", "Stage", "core", "database", "scratch", "versions_of"]

EMBEDDED: Final = "embedded"
TIMESCALEDB: Final = "timescaledb"
_READY_S: Final = 120.0
_PROFILE: Final = "profile.json"
_SERVER_SCRIPT: Final = Path(__file__).parents[2] / "scripts" / "timescaledb"


@dataclass(frozen=True, slots=True)
class Stage:
    """A running core, its database and its broker. `start_s` is how long the core took until it was ready."""

    folder: Path
    dsn: str
    client: Client
    mqtt_port: int
    coap_port: int
    process: psutil.Process
    server: psutil.Process | None
    start_s: float

    def cpu(self) -> dict[str, float]:
        """Give the CPU seconds used so far by the core, the broker and (where it is on this machine) the database."""
        return {
            "core": _cpu([self.process]),
            "broker": _cpu(self._brokers()),
            "database": _cpu([self.server, *_children(self.server)] if self.server else []),
        }

    def memory_mb(self) -> float:
        """Give what the core holds now, in MB."""
        held: int = self.process.memory_info().rss
        return round(held / 2**20, 1)

    def memory_peak_mb(self) -> float:
        """Give the most that the core ever held, in MB."""
        return _memory_peak_mb(self.process)

    def broker_memory_peak_mb(self) -> float:
        """Give the most that the broker ever held, in MB."""
        return round(sum(_memory_peak_mb(each) for each in self._brokers()), 1)

    async def metrics(self) -> dict[str, float]:
        """Give the core's own figures as /metrics says them: `iot_events_total{event="ingest_stored"}` -> 5.0."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.client.url}/metrics") as response:
            said = await response.text()
        samples = [sample for family in text_string_to_metric_families(said) for sample in family.samples]
        return {_sample_name(sample.name, sample.labels): sample.value for sample in samples}

    async def events(self) -> dict[str, int]:
        """Give the core's counters: `ingest_stored` -> 5."""
        found = re.compile(r'iot_events_total\{event="(.+)"\}')
        named = ((found.fullmatch(name), value) for name, value in (await self.metrics()).items())
        return {match[1]: int(value) for match, value in named if match}

    def begin_profile(self) -> None:
        """Begin to sample a core that was started for it."""
        self.process.send_signal(TURN)

    async def end_profile(self) -> list[tuple[str, str, float]]:
        """End it: file, function, CPU seconds."""
        self.process.send_signal(TURN)
        file = self.folder / _PROFILE
        async with asyncio.timeout(_READY_S):
            while not file.exists():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)
        return msgspec.json.decode(file.read_bytes(), type=list[tuple[str, str, float]])

    async def versions(self) -> dict[str, str]:
        """Name what was measured: server, extension, broker, libraries."""
        return await versions_of(self.dsn)

    def _brokers(self) -> list[psutil.Process]:
        """Find the brokers that were started with files in our folder, with their children."""
        found = [
            process
            for process in psutil.process_iter(["name", "cmdline"])
            if process.info["name"] in {"mosquitto", "iotcore"}
            and str(self.folder) in " ".join(process.info["cmdline"] or ())
        ]
        return [each for process in found for each in (process, *_children(process))]


def _memory_peak_mb(process: psutil.Process) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


async def versions_of(dsn: str) -> dict[str, str]:
    """Name a database's server and extension, the broker, our libraries."""
    connection = await asyncpg.connect(dsn)
    try:
        found = {"postgresql": str(await connection.fetchval("SHOW server_version")).partition(" ")[0]}
        query = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
        if extension := await connection.fetchval(query):
            licence = await connection.fetchval("SHOW timescaledb.license")
            found["timescaledb"] = f"{extension} ({licence})"
    finally:
        await connection.close()
    if broker := await _broker_version():
        found["mosquitto"] = broker
    return found | {name: version(name) for name in ("iot-core", "mqttium", "asyncpg", "msgspec")}


@asynccontextmanager
async def scratch() -> AsyncIterator[Path]:
    """Make a directory that is gone afterwards. The service users of broker and database must be able to pass."""
    folder = Path(tempfile.mkdtemp(prefix="iot-bench-"))
    folder.chmod(0o711)  # noqa: ASYNC240 - one call, before anything runs
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def database(folder: Path, store: str = EMBEDDED) -> AsyncIterator[str]:
    """Give the DSN of an empty database. Raises StartError."""
    async with AsyncExitStack() as stack:
        if store == EMBEDDED:
            (folder / "store").mkdir(mode=0o711)
            yield await stack.enter_async_context(embedded(stack.enter_context(locked(folder / "store" / "state"))))
        elif store == TIMESCALEDB:
            yield await stack.enter_async_context(_own_timescaledb())
        else:
            yield await stack.enter_async_context(_own_database(store))


@asynccontextmanager
async def core(
    folder: Path, dsn: str, settings: Mapping[str, str] | None = None, *, sampled: bool = False,
    program: Sequence[str] = ("iot_core.cli",),
) -> AsyncIterator[Stage]:  # fmt: skip
    """Run `iot up` as a process of its own, with `IOT_...` settings; `sampled`: ready for `begin_profile`.

    `program` is the module that runs it, and what that takes before `up`.

    May be entered several times on one folder: the second core adopts what the first one left.
    """
    state = StateDir(folder / "core")
    api, mqtt, coap = free_ports()
    ports = {"IOT_API_PORT": str(api), "IOT_MQTT_PORT": str(mqtt), "IOT_COAP_PORT": str(coap)}
    given = {"IOT_STORE_DSN": dsn, **ports, **(settings or {})}
    program = ["simulators.bench.sampled", str(folder / _PROFILE)] if sampled else program
    began = time.perf_counter()
    with (folder / "core.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *program, "up", "--state", str(state.path),
            env=child_environment(**given), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        async with asyncio.timeout(_READY_S):
            while not _announced(state, process.pid):
                if process.returncode is not None:
                    raise _ended(folder)
                await asyncio.sleep(0.02)
        try:
            running = psutil.Process(process.pid)
        except psutil.NoSuchProcess as exc:  # it came up, and had enough to do at once to die of it
            raise _ended(folder) from exc
        took = round(time.perf_counter() - began, 2)
        async with Client(f"http://127.0.0.1:{api}", state.read_token()) as client:
            server = await _server_process(dsn)
            mqtt = int(given["IOT_MQTT_PORT"])
            yield Stage(folder, dsn, client, mqtt, coap, running, server, took)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _ended(folder: Path) -> StartError:
    return StartError("bench.core_ended", log=(folder / "core.log").read_text()[-2000:])


def _announced(state: StateDir, pid: int) -> bool:
    running = state.running()
    return running is not None and running.pid == pid and bool(state.read_token())


@asynccontextmanager
async def _own_timescaledb() -> AsyncIterator[str]:
    """Run a TimescaleDB server from the tree that scripts/timescaledb made, and drop it with its data."""
    environment = child_environment(IOT_TIMESCALEDB_SERVER=f"bench-{secrets.token_hex(3)}")

    async def script(word: str) -> str:
        process = await asyncio.create_subprocess_exec(
            str(_SERVER_SCRIPT), word, env=environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        if process.returncode:
            raise StartError("bench.no_timescaledb", detail=err.decode(errors="replace").strip()[-500:])
        return out.decode().strip()

    if not _SERVER_SCRIPT.exists():
        raise StartError("bench.no_timescaledb", detail=str(_SERVER_SCRIPT))
    try:
        yield await script("start")
    finally:
        await script("drop")


@asynccontextmanager
async def _own_database(dsn: str) -> AsyncIterator[str]:
    name = f"iot_bench_{secrets.token_hex(4)}"
    own = urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
    try:
        admin = await asyncpg.connect(dsn)
    except (OSError, ValueError, asyncpg.PostgresError) as exc:
        raise StartError("store.unreachable", detail=type(exc).__name__) from exc
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'")
        if await admin.fetchval("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"):
            inside = await asyncpg.connect(own)
            await inside.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
            await inside.close()
        yield own
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


async def _server_process(dsn: str) -> psutil.Process | None:
    """Find the database server when it runs on this machine: the parent of the process that answers us."""
    connection = await asyncpg.connect(dsn)
    try:
        with suppress(psutil.Error):
            backend = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
            parent: psutil.Process | None = backend.parent()
            return parent if parent is not None and backend.name() == parent.name() == "postgres" else None
    finally:
        await connection.close()
    return None


async def _broker_version() -> str:
    if (program := await installed()) is None:
        return ""
    process = await asyncio.create_subprocess_exec(
        program, "-h", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    found = re.search(rb"mosquitto version ([\d.]+)", out)
    return found[1].decode() if found else ""


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        found: list[psutil.Process] = process.children(recursive=True)
        return found
    return []


def _cpu(processes: list[psutil.Process]) -> float:
    """Add up CPU seconds, those of children that ended included."""
    used = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:4])
    return used


def _sample_name(name: str, labels: Mapping[str, Any]) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{name}{{{inside}}}" if inside else name
