"""What every fault needs: a core that can be hurt, and a place for what was seen."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests import servers
from tests.faults.proxy import Line, proxy
from tests.faults.result import Finding, Recorder, save

BOUND_MB = 400
"""No fault may make the core hold more than this."""
_found: dict[str, Finding] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-minutes", type=float, default=10 / 60, help="how long what goes away stays away")


def pytest_sessionfinish() -> None:
    if _found:
        save(_found)


@pytest.fixture
def away_s(request: pytest.FixtureRequest) -> float:
    """Say how long what goes away stays away: ten seconds, or as long as --fault-minutes says."""
    return float(request.config.getoption("--fault-minutes")) * 60


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Iterator[Recorder]:
    """Take what a test saw: a row of docs/reliability.md. Its words stand in the test's marker `faults`."""
    mark = request.node.get_closest_marker("faults")
    assert mark is not None
    made = Recorder(Finding(title=mark.args[0], does=mark.args[1]))
    yield made
    name = request.node.nodeid.rpartition("/")[2]
    if made.seen:
        assert made.finding.peak_mb < BOUND_MB
        _found[name] = made.finding
    _found.update({f"{name}#{number}": each for number, each in enumerate(made.brokers)})


@pytest.fixture
def ports(free_ports: Callable[[int], int]) -> int:
    """Give the first of six free ports: API, MQTT, CoAP, and three for what stands around a core."""
    return free_ports(6)


@pytest.fixture
def database(postgres_server: servers.Postgres) -> Iterator[str]:
    """Give the DSN of an empty database that outlives any core."""
    with postgres_server.database() as made:
        yield made


@pytest.fixture
async def line(database: str, free_port: Callable[[], int]) -> AsyncIterator[Line]:
    """Give a line to that database that can fail."""
    parts = urlsplit(database)
    socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
    port = free_port()
    async with proxy(port, lambda: asyncio.open_unix_connection(socket)) as made:
        yield Line(made, f"postgresql://iot@127.0.0.1:{port}{parts.path}", database)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give faults the time they need."""
    here = os.fspath(Path(__file__).parent)
    for item in items:
        if os.fspath(item.path).startswith(here) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(240))
