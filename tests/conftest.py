"""Fixtures for every test: real servers, free ports, a clean environment; in CI a missing part is an error."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import sys
import tempfile
import traceback
from asyncio import constants
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hypothesis
import pytest

from tests import servers, wheels
from tests.forks import FORKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

constants.DEBUG_STACK_DEPTH = 1  # type: ignore[misc]
traceback.extract_stack.__defaults__ = (None, 1)
"""Debug mode notes a stack of ten for every callback, and the whole one for every future: half the time of a test with
a database. One names the line."""
CI = bool(os.environ.get("CI"))
SECONDS = {
    "test_wheel": 25, "test_client_install": 7, "test_demo": 20, "test_modbus": 20, "test_coap_client": 2,
    "test_brokers": 2.5, "test_modbus_core": 7, "test_saturation": 10,
    "walkthroughs": 9, "bench": 8, "page": 4, "whole": 4, "provisioning": 2.2, "store": 1.2, "test_mqtt": 0.5,
    "ingest": 0.6, "cli": 0.5, "broker": 0.5, "simulators": 0.3, "api": 0.4, "drivers": 0.3, "registry": 0.3,
    "push": 0.2, "security": 0.2, "grafana": 0.2, "alarms": 0.1,
}  # fmt: skip
"""About how long a test of a file or of a folder takes: only the order of files follows from it."""
KEPT = ("IOT_TEST_", "IOT_TIMESCALEDB_")
_not_run = {"root": 0}


def missing(what: str) -> NoReturn:
    """Skip on a person's machine; fail where everything should be there."""
    if CI:
        pytest.fail(f"CI is set and a part is missing: {what}")
    pytest.skip(what)


def pytest_configure() -> None:
    """Undo what a shell or a container would hand on, through us, to every process that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a shell starts what runs in its background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.dont_write_bytecode = False  # hundreds of processes of `iot` would each compile all that they import
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.setdefault("TMPDIR", servers.in_memory())
    tempfile.tempdir = None
    if not CI:  # where Hypothesis does so by itself, and draws the same examples each time
        hypothesis.settings.register_profile("unhurried", deadline=None)
        hypothesis.settings.load_profile("unhurried")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hold tests back that need root or Chromium where there is none."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        _not_run["root"] += 1
        missing("needs root")
    if item.get_closest_marker("browser") and (lacking := servers.browser_lacks()):
        missing(f"not installed: sudo apt-get install --no-install-recommends {lacking}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take tests of the community licence out where there is none: they are not missing, they do not apply.

    Workers take whole files: the longest come first, so that they end together.
    """
    marked = [item for item in items if item.get_closest_marker("community")]
    if marked and not servers.has_community_licence():
        config.hook.pytest_deselected(items=marked)
        items[:] = [item for item in items if item not in marked]
    if hasattr(config, "workerinput"):
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (-tests[item.path] * _seconds(item.path), str(item.path)))


def _seconds(path: Path) -> float:
    return SECONDS.get(path.stem, SECONDS.get(path.parent.name, 0.05))


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run with the number of tests that need root, as the last line."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if _not_run["root"] and reporter is not None:
        reporter.write_line(f"{_not_run['root']} tests need root: sudo scripts/test -m root")


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """Keep the developer's own settings out of the tests; sentences are English unless a test says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("IOT_", "GRAFANA_", "PG")) and not name.startswith(KEPT):
                patch.delenv(name)
        patch.setenv("LC_ALL", "C.UTF-8")
        yield


@pytest.fixture(scope="session", autouse=True)
def forks_closed() -> Iterator[None]:
    """End the process that forks `iot`, where one was needed."""
    yield
    FORKS.close()


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Collect after each file what its tests left open, so that the warning fails this file and not a later one.

    What lives on (modules, servers of the session) is not looked at again: later collections cost a tenth.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Give a function that gives a port nothing uses, TCP and UDP."""
    return lambda: servers.free_ports(1)


@pytest.fixture
def free_ports() -> Callable[[int], int]:
    """Give a function that gives the first of some consecutive free ports (for --port-base)."""
    return servers.free_ports


@pytest.fixture
def state_path() -> Iterator[Path]:
    """Name a state directory that is not there yet; root's service users reach it (tmp_path they do not)."""
    folder = Path(tempfile.mkdtemp(prefix="iot-"))
    folder.chmod(0o711)
    yield folder / "state"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.Postgres]:
    """Run one throw-away PostgreSQL for the session."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def timescaledb_server() -> Iterator[servers.Postgres]:
    """Run one throw-away TimescaleDB for the session."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(servers.timescaledb())
        except servers.Missing as exc:
            missing(str(exc))
        yield server


@pytest.fixture
def dsn(postgres_server: servers.Postgres) -> Iterator[str]:
    """Give a fresh, empty database (C.UTF-8)."""
    with postgres_server.database() as made:
        yield made


@pytest.fixture
def migrated_dsn(postgres_server: servers.Postgres) -> Iterator[str]:
    """Give a fresh database after all migrations."""
    with postgres_server.database(postgres_server.template(migrate)) as made:
        yield made


@pytest.fixture
def shipped_dsn(postgres_server: servers.Postgres) -> Iterator[str]:
    """Give a fresh database with the tables of all shipped classes."""
    with postgres_server.database(postgres_server.template(with_shipped_classes)) as made:
        yield made


@pytest.fixture
def timescale_dsn(timescaledb_server: servers.Postgres) -> Iterator[str]:
    """Give a fresh, empty database with the TimescaleDB extension. Mark its tests `timescaledb`."""
    with timescaledb_server.database() as made:
        yield made


DATABASES = ["postgresql-15", "embedded-18", pytest.param("timescaledb", marks=pytest.mark.timescaledb)]
ON_EVERY = DATABASES if CI else ["embedded-18"]
"""For whole folders of tests (tests/store, tests/ingest): every database where time is no matter, else the newest."""


@pytest.fixture(scope="session")
def postgresql_15_server(postgres_server: servers.Postgres) -> Iterator[servers.Postgres]:
    """Run Debian 12's PostgreSQL for the session."""
    try:
        programs = servers.debian_programs()
    except servers.Missing as exc:
        missing(str(exc))
    yield from _server(programs, postgres_server)


@pytest.fixture(scope="session")
def embedded_18_server(postgres_server: servers.Postgres) -> Iterator[servers.Postgres]:
    """Run the programs of the embedded server for the session."""
    yield from _server(servers.embedded_programs(), postgres_server)


def _server(programs: Path, running: servers.Postgres) -> Iterator[servers.Postgres]:
    if running.psql.parent == programs:
        yield running
        return
    with servers.postgres(programs) as server:
        yield server


@contextmanager
def database_of(request: pytest.FixtureRequest, filled: Callable[[str], None] | None = None) -> Iterator[str]:
    """Give a fresh database of the kind that a fixture's parameter names: empty, or a copy of a filled one."""
    server: servers.Postgres = request.getfixturevalue(f"{request.param.replace('-', '_')}_server")
    with server.database(server.template(filled) if filled else "template0") as made:
        yield made


@pytest.fixture(params=DATABASES)
def any_dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a fresh, empty database on Debian's PostgreSQL, the embedded one, and TimescaleDB."""
    with database_of(request) as made:
        yield made


@pytest.fixture(params=DATABASES)
def any_migrated_dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a fresh database after all migrations on every kind of server."""
    with database_of(request, migrate) as made:
        yield made


@pytest.fixture(params=DATABASES)
def any_shipped_dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a fresh database with the tables of all shipped classes on every kind of server."""
    with database_of(request, with_shipped_classes) as made:
        yield made


def migrate(dsn: str) -> None:
    """Run all migrations."""
    from iot_core.store.migrate import migrate as run  # noqa: PLC0415 - most tests need no database

    asyncio.run(run(dsn))


def with_shipped_classes(dsn: str) -> None:
    """Run all migrations and make the tables of all shipped classes, as the first start of a core does."""
    import asyncpg  # noqa: PLC0415 - most tests need no database

    from iot_core.profiles import load  # noqa: PLC0415
    from iot_core.store.migrate import migrate as run  # noqa: PLC0415
    from iot_core.store.tables import ensure_tables  # noqa: PLC0415
    from iot_core.store.tier import find_tier  # noqa: PLC0415

    async def fill() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await run(connection)
            await ensure_tables(connection, load().classes.values(), (await find_tier(connection)).tier)
        finally:
            await connection.close()

    asyncio.run(fill())


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[servers.Mosquitto]:
    """Run a Mosquitto that lets everyone in; `servers.mosquitto` starts others."""
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(servers.mosquitto(tmp_path / "mosquitto"))
        except servers.Missing as exc:
            missing(str(exc))
        yield broker


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    return wheels.build(tmp_path_factory.mktemp("wheel"))
