"""Maintenance windows and tests cover what they were opened for, and are over by the clock alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.registry import area_changes, device_edits, devices, found, maintenance
from iot_core.registry.areas import NewArea
from iot_core.registry.windows import Kind, Window, Windows
from iot_core.store.connection import prepare
from tests.classes import shipped

HOUR = timedelta(hours=1)
NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)


@pytest.fixture
async def database(migrated_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Give a ward in a province with two lamps (one labelled), and a lamp elsewhere."""
    connection = await asyncpg.connect(migrated_dsn)
    try:
        await prepare(connection)
        province = NewArea(key="22", name="Quảng Ninh")
        await area_changes.import_(
            connection, [province, NewArea(key="ward", name="Hồng Gai", parent="22")], at=None, by="test"
        )
        lamps = [
            devices.NewDevice(key="lamp-1", class_key="streetlight", area="ward", labels=("tower-a",)),
            devices.NewDevice(key="lamp-2", class_key="streetlight", area="ward"),
            devices.NewDevice(key="lamp-3", class_key="streetlight"),
        ]
        await devices.add(connection, shipped(), lamps, by="test")
        yield connection
    finally:
        await connection.close()


async def kept(database: asyncpg.Connection, at: datetime) -> set[str]:
    windows = await maintenance.load(database)
    rows = await database.fetch("SELECT id, key FROM iot.device")
    return {row["key"] for row in rows if windows.at(row["id"], at)}


async def lifecycles(database: asyncpg.Connection) -> dict[str, str]:
    return {each.key: each.lifecycle for each in await found.devices(database, found.Filter())}


def test_a_window_covers_its_start_and_not_its_end() -> None:
    windows = Windows([(7, Window(1, Kind.MAINTENANCE, NOON, NOON + HOUR))])
    moments = (NOON - timedelta(seconds=1), NOON, NOON + HOUR)
    assert [windows.at(7, at) is not None for at in moments] == [False, True, False]
    assert windows.at(8, NOON) is None


def test_a_test_is_meant_before_maintenance() -> None:
    maintained = Window(2, Kind.MAINTENANCE, NOON, NOON + HOUR)
    tested = Window(1, Kind.TEST, NOON, NOON + HOUR)
    windows = Windows([(7, maintained), (7, tested)])
    assert windows.at(7, NOON) is tested
    assert tested.mark == "test:1"


async def test_a_window_of_an_area_covers_what_stands_in_the_areas_inside_it(database: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    done = await maintenance.begin(database, area="22", ends=now + HOUR, by="an")
    assert [change.subject for change in done.changes] == ["device/lamp-1", "device/lamp-2"]
    assert await kept(database, now + HOUR / 2) == {"lamp-1", "lamp-2"}
    assert await kept(database, now + HOUR) == set()


async def test_a_window_of_a_label_covers_who_bears_it_by_now(database: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    await maintenance.begin(database, label="tower-a", ends=now + HOUR, by="an")
    assert await kept(database, now + HOUR / 2) == {"lamp-1"}
    await device_edits.edit(database, ["lamp-3"], {}, add_labels=["tower-a"], by="an")
    assert await kept(database, now + HOUR / 2) == {"lamp-1", "lamp-3"}


async def test_a_device_is_in_maintenance_until_the_window_is_over_and_then_what_it_was(
    database: asyncpg.Connection,
) -> None:
    now = datetime.now(UTC)
    await maintenance.begin(database, devices=["lamp-1"], ends=now + HOUR, by="an")
    assert (await lifecycles(database))["lamp-1"] == "maintenance"
    assert [row["key"] for row in await found.full(database, "lifecycle=maintenance")] == ["lamp-1"]
    # As if the hour had passed while nothing ran.
    await database.execute("UPDATE iot.maintenance SET starts = starts - interval '2 h', ends = ends - interval '2 h'")
    assert (await lifecycles(database))["lamp-1"] == "provisioned"
    assert await found.full(database, "lifecycle=maintenance") == []


async def test_a_test_leaves_the_lifecycle_alone(database: asyncpg.Connection) -> None:
    await maintenance.begin(database, devices=["lamp-1"], ends=datetime.now(UTC) + HOUR / 2, kind=Kind.TEST, by="an")
    assert (await lifecycles(database))["lamp-1"] == "provisioned"


async def test_a_window_that_is_ended_is_over_at_once_and_only_once(database: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    await maintenance.begin(database, devices=["lamp-1"], ends=now + HOUR, reason="cleaning", by="an")
    (window,) = await maintenance.listed(database)
    assert (window.device, window.reason, window.devices) == ("lamp-1", "cleaning", 1)
    ended = await maintenance.end(database, window.id, by="binh")
    assert ended.ended_by == "binh"
    assert await kept(database, datetime.now(UTC)) == set()
    assert await kept(database, now + timedelta(milliseconds=1)) == {"lamp-1"}, "what was measured inside it stays so"
    assert await maintenance.listed(database) == []
    with pytest.raises(ConflictError, match="maintenance.over"):
        await maintenance.end(database, window.id, by="binh")


async def test_a_window_that_has_not_begun_never_does_when_it_is_ended(database: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    await maintenance.begin(database, devices=["lamp-1"], starts=now + HOUR, ends=now + 2 * HOUR, by="an")
    (window,) = await maintenance.listed(database, device="lamp-1")
    await maintenance.end(database, window.id, by="an")
    assert await kept(database, now + 1.5 * HOUR) == set()


async def test_times_that_cannot_be_are_refused(database: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("maintenance.backwards", {"starts": now + HOUR, "ends": now}),
        ("maintenance.past", {"starts": now - HOUR, "ends": now + HOUR}),
        ("maintenance.too_long", {"ends": now + timedelta(days=400)}),
        ("maintenance.too_long", {"ends": now + 9 * HOUR, "kind": Kind.TEST}),
    ]
    for code, times in cases:
        with pytest.raises(RequestError, match=code):
            await maintenance.begin(database, devices=["lamp-1"], by="an", **times)


async def test_a_window_that_would_cover_nothing_is_refused(database: asyncpg.Connection) -> None:
    ends = datetime.now(UTC) + HOUR
    with pytest.raises(NotFoundError, match="maintenance.nothing"):
        await maintenance.begin(database, label="nobody", ends=ends, by="an")
    with pytest.raises(NotFoundError, match="registry.no_area"):
        await maintenance.begin(database, area="nowhere", ends=ends, by="an")
    with pytest.raises(NotFoundError, match="registry.no_device"):
        await maintenance.begin(database, devices=["lamp-1", "lamp-9"], ends=ends, by="an")
    assert await maintenance.listed(database) == []
