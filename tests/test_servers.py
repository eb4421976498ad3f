"""The servers of the suite are what the tests believe them to be."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests import servers

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_a_database_is_empty_and_sorts_by_code_point(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        assert await connection.fetchval("SELECT datcollate FROM pg_database WHERE datname = current_database()") == (
            "C.UTF-8"
        )
        assert await connection.fetchval("SELECT count(*) FROM pg_stat_user_tables") == 0
    finally:
        await connection.close()


async def test_every_database_is_what_its_name_says(any_dsn: str, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["any_dsn"]
    connection = await asyncpg.connect(any_dsn)
    try:
        version = await connection.fetchval("SELECT current_setting('server_version_num')::int / 10000")
        extension = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')")
        assert (kind, extension) in {
            (f"postgresql-{version}", False),
            (f"embedded-{version}", False),
            ("timescaledb", True),
        }
    finally:
        await connection.close()


def test_ports_are_never_handed_out_twice(free_ports: Callable[[int], int], free_port: Callable[[], int]) -> None:
    first = free_ports(3)
    assert free_port() not in range(first, first + 3)


def test_no_port_is_handed_out_to_two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both draw the same numbers, and neither has opened what it was given."""
    draws = "import random; random.seed(7); from tests.servers import free_ports; print(free_ports(3)); input()"
    command = [sys.executable, "-c", draws]
    with subprocess.Popen(command, cwd=servers.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        taken = int(other.stdout.readline())
        monkeypatch.setattr(servers, "random", random.Random(7))
        assert servers.free_ports(3) not in range(taken - 2, taken + 3)
        other.communicate("\n")


def test_mosquitto_listens(mosquitto: servers.Mosquitto) -> None:
    assert servers.answers(mosquitto.port)
