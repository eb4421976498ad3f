"""The servers of the suite are what the tests believe them to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

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


async def test_both_tiers_take_connections(any_dsn: str) -> None:
    connection = await asyncpg.connect(any_dsn)
    try:
        assert await connection.fetchval("SELECT 1") == 1
    finally:
        await connection.close()


def test_ports_are_never_handed_out_twice(free_ports: Callable[[int], int], free_port: Callable[[], int]) -> None:
    first = free_ports(3)
    assert free_port() not in range(first, first + 3)


def test_mosquitto_listens(mosquitto: servers.Mosquitto) -> None:
    assert servers.answers(mosquitto.port)
