"""Areas move, merge, are renamed; what was true when stays known, and no telemetry is rewritten."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.registry import area_changes, area_history, areas, device_edits, devices, found, undo
from iot_core.registry.areas import NewArea
from iot_core.store.connection import prepare
from tests.classes import shipped
from tests.conftest import missing

VIETNAM = Path(__file__).parents[3] / "shared" / "data" / "vn-areas" / "areas.csv"
JULY = datetime(2025, 6, 30, 17, tzinfo=UTC)  # 2025-07-01 in Vietnam, when districts vanished
BEFORE = datetime(2025, 3, 1, tzinfo=UTC)
AFTER = datetime(2025, 9, 1, tzinfo=UTC)
OLD = [
    NewArea(key="22", name="Tỉnh Quảng Ninh", kind="province", code="22"),
    NewArea(key="193", name="Thành phố Hạ Long", kind="district", code="193", parent="22"),
    NewArea(key="06685", name="Phường Hồng Gai", kind="ward", code="06685", parent="193"),
    NewArea(key="06655", name="Phường Bạch Đằng", kind="ward", code="06655", parent="193"),
    NewArea(key="195", name="Thành phố Cẩm Phả", kind="district", code="195", parent="22"),
    NewArea(key="06760", name="Phường Cẩm Trung", kind="ward", code="06760", parent="195"),
]


@pytest.fixture
async def database(migrated_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(migrated_dsn)
    try:
        await prepare(connection)
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def province(database: asyncpg.Connection) -> asyncpg.Connection:
    """Give Quảng Ninh as it was before July 2025, with a lamp in each of three wards."""
    await area_changes.import_(database, OLD, at=None, by="test")
    lamps = [
        devices.NewDevice(key=f"lamp-{area}", class_key="streetlight", area=area)
        for area in ("06685", "06655", "06760")
    ]
    await devices.add(database, shipped(), lamps, by="test")
    return database


async def then(database: asyncpg.Connection, area: str, at: datetime) -> set[str]:
    rows = await database.fetch(
        "SELECT key FROM iot.devices_in_area_then($1) JOIN iot.device ON id = device_id"
        " WHERE during @> $2::timestamptz",
        area,
        at,
    )
    return {row["key"] for row in rows}


async def now(database: asyncpg.Connection, area: str) -> set[str]:
    return {each.key for each in await found.devices(database, found.Filter(area=area))}


async def search(database: asyncpg.Connection, typed: str) -> set[str]:
    return {each.key for each in await found.devices(database, found.Filter(search=typed))}


async def reorganise(database: asyncpg.Connection) -> list[int]:
    """Do what happened on 2025-07-01: wards merge, districts vanish. Give the operations."""
    merged = await area_changes.merge(database, ["06655", "06685"], "06685", at=JULY, by="test")
    vanished = await area_changes.merge(database, ["193", "195"], "22", at=JULY, by="test")
    return [done.operation for done in (merged, vanished) if done.operation is not None]


async def test_the_reorganisation_of_2025_keeps_what_was_true_when(province: asyncpg.Connection) -> None:
    await reorganise(province)
    both = {"lamp-06685", "lamp-06655"}
    assert await then(province, "06685", BEFORE) == {"lamp-06685"}
    assert await then(province, "06685", AFTER) == both
    assert await then(province, "06655", BEFORE) == {"lamp-06655"}
    assert await then(province, "06655", AFTER) == set()
    assert await then(province, "193", BEFORE) == both
    assert await then(province, "193", AFTER) == set()
    assert await then(province, "22", BEFORE) == await then(province, "22", AFTER) == both | {"lamp-06760"}
    assert await now(province, "06685") == both
    assert await now(province, "22") == both | {"lamp-06760"}
    tree = {each.key: each.parent for each in await areas.areas(province)}
    assert tree == {"22": None, "06685": "22", "06760": "22"}


async def test_names_from_before_2025_still_find_what_stands_there(province: asyncpg.Connection) -> None:
    await reorganise(province)
    await area_changes.rename(province, "06760", name="Phường Cẩm Phả", name_en=None, at=JULY, by="test")
    assert await search(province, "bach dang") == {"lamp-06685", "lamp-06655"}
    assert await search(province, "HẠ LONG") == {"lamp-06685", "lamp-06655"}
    assert await search(province, "cam trung") == {"lamp-06760"}
    assert await search(province, "quang ninh lamp") == {"lamp-06685", "lamp-06655", "lamp-06760"}
    assert await search(province, "da nang") == set()


async def test_a_name_that_went_into_a_province_does_not_find_wards_that_never_were_there(
    province: asyncpg.Connection,
) -> None:
    await areas.add(province, NewArea(key="70", name="Bình Phước", kind="province"), by="test")
    await areas.add(province, NewArea(key="25", name="Phường Đồng Xoài", kind="ward", parent="70"), by="test")
    await devices.add(province, shipped(), [devices.NewDevice(key="x", class_key="streetlight", area="25")], by="test")
    await area_changes.merge(province, ["70"], "22", at=JULY, by="test")
    assert await search(province, "binh phuoc") == {"x"}


async def test_what_was_merged_is_taken_back_as_if_it_never_was(province: asyncpg.Connection) -> None:
    before = await snapshot(province)
    for number in reversed(await reorganise(province)):
        await undo.undo(province, number, by="test")
    assert await snapshot(province) == before


async def test_a_merge_into_a_new_area_is_taken_back_whole(province: asyncpg.Connection) -> None:
    before = await snapshot(province)
    new = NewArea(key="new", name="Phường Mới", kind="ward", parent="22")
    done = await area_changes.merge(province, ["06655", "06685"], new, at=JULY, by="test")
    assert await now(province, "new") == {"lamp-06685", "lamp-06655"}
    assert done.operation is not None
    await undo.undo(province, done.operation, by="test")
    assert await snapshot(province) == before
    with pytest.raises(ConflictError, match=r"registry\.undone_already"):
        await undo.undo(province, done.operation, by="test")


async def test_an_area_that_a_merge_made_is_there_since_then_and_an_old_one_always(
    province: asyncpg.Connection,
) -> None:
    new = NewArea(key="new", name="Phường Mới", kind="ward", parent="22")
    await area_changes.merge(province, ["06655", "06685"], new, at=JULY, by="test")
    await area_changes.rename(province, "new", name="Phường Mới Hơn", name_en=None, at=AFTER, by="test")
    assert [each.since for each in await area_history.versions(province, "new")] == [AFTER, JULY]
    assert [each.since for each in await area_history.versions(province, "22")] == [None]


async def test_a_merge_is_taken_back_whole_though_a_device_in_it_is_retired(province: asyncpg.Connection) -> None:
    await devices.remove(province, "lamp-06655", by="test")
    for number in reversed(await reorganise(province)):
        await undo.undo(province, number, by="test")
    assert await then(province, "06655", AFTER) == {"lamp-06655"}
    await devices.restore(province, "lamp-06655", by="test")
    assert await now(province, "06655") == {"lamp-06655"}


async def test_an_area_is_given_up_when_nothing_is_inside_and_its_history_stays(province: asyncpg.Connection) -> None:
    before = await snapshot(province)
    for full, inside in (("06655", "lamp-06655"), ("193", "area/06655")):
        with pytest.raises(ConflictError) as refused:
            await area_changes.end(province, full, at=None, by="test")
        assert (refused.value.code, inside in str(refused.value.facts)) == ("registry.area_not_empty", True)
    assert await snapshot(province) == before
    moved = await device_edits.edit(province, ["lamp-06655"], {"area": "22"}, by="test")
    with pytest.raises(ConflictError, match="not_empty"):  # it stood there in July
        await area_changes.end(province, "06655", at=JULY, by="test")
    done = await area_changes.end(province, "06655", at=None, by="test")
    assert [each.key for each in await areas.areas(province) if each.key == "06655"] == []
    assert await then(province, "06655", BEFORE) == {"lamp-06655"}
    assert await search(province, "bach dang") == set()
    with pytest.raises(ConflictError, match="area_ended"):
        await area_changes.end(province, "06655", at=None, by="test")
    for operation in (done.operation, moved.operation):
        await undo.undo(province, operation or 0, by="test")
    assert await now(province, "06655") == {"lamp-06655"}


async def test_an_area_does_not_come_back_into_one_that_was_given_up(province: asyncpg.Connection) -> None:
    await devices.remove(province, "lamp-06760", by="test")
    inner = await area_changes.end(province, "06760", at=None, by="test")
    outer = await area_changes.end(province, "195", at=None, by="test")
    with pytest.raises(ConflictError, match="area_ended: key=195"):
        await undo.undo(province, inner.operation or 0, by="test")
    await devices.restore(province, "lamp-06760", by="test")
    assert (await found.one(province, "lamp-06760")).area == "22", "what is around it still"
    await undo.undo(province, outer.operation or 0, by="test")
    await undo.undo(province, inner.operation or 0, by="test")
    assert {each.key for each in await areas.areas(province)} >= {"195", "06760"}


async def test_undo_is_refused_when_it_was_changed_again_and_says_by_which_operation(
    province: asyncpg.Connection,
) -> None:
    first = await area_changes.rename(province, "22", name="Quảng Ninh", name_en=None, at=None, by="an")
    second = await area_changes.rename(province, "22", name="QN", name_en=None, at=None, by="binh")
    assert first.operation is not None
    assert second.operation is not None
    with pytest.raises(ConflictError) as caught:
        await undo.undo(province, first.operation, by="an")
    assert caught.value.facts == {
        "number": first.operation, "subject": "area/22", "later": second.operation, "by": "binh"
    }  # fmt: skip
    await undo.undo(province, second.operation, by="an")
    await undo.undo(province, first.operation, by="an")
    assert (await areas.find(province, "22")).name == "Tỉnh Quảng Ninh"


async def test_a_dry_run_says_what_would_change_and_writes_nothing(province: asyncpg.Connection) -> None:
    before = await snapshot(province)
    async with area_changes.trial(province, dry=True):
        done = await area_changes.merge(province, ["193", "195"], "22", at=JULY, by="test")
    assert {each.subject for each in done.changes} == {"area/193", "area/195", "area/06685", "area/06655", "area/06760"}
    assert await snapshot(province) == before


async def test_history_is_written_forwards_only(province: asyncpg.Connection) -> None:
    await area_changes.rename(province, "22", name="Quảng Ninh", name_en=None, at=AFTER, by="test")
    with pytest.raises(ConflictError, match=r"registry\.history_after"):
        await area_changes.rename(province, "22", name="QN", name_en=None, at=JULY, by="test")


@pytest.mark.parametrize(
    ("moved", "under", "error", "code"),
    [
        ("22", "06685", RequestError, "registry.area_circle"),
        ("22", "22", RequestError, "registry.area_circle"),
        ("193", "nowhere", NotFoundError, "registry.no_area"),
        ("nowhere", "22", NotFoundError, "registry.no_area"),
    ],
)
async def test_a_move_that_makes_no_tree_is_refused(
    province: asyncpg.Connection, moved: str, under: str, error: type[RequestError], code: str
) -> None:
    with pytest.raises(error) as caught:
        await area_changes.move(province, moved, parent=under, at=None, by="test")
    assert caught.value.code == code


async def test_a_district_that_vanishes_into_a_ward_inside_it_leaves_the_ward_hanging_where_it_hung(
    province: asyncpg.Connection,
) -> None:
    await area_changes.merge(province, ["193"], "06685", at=JULY, by="test")
    tree = {each.key: each.parent for each in await areas.areas(province)}
    assert (tree["06685"], tree["06655"]) == ("22", "06685")


async def test_all_of_vietnam_is_imported_once_and_a_second_time_changes_nothing(database: asyncpg.Connection) -> None:
    if not VIETNAM.exists():
        missing("the areas of Vietnam (data beside the repository)")
    with VIETNAM.open(encoding="utf-8-sig") as lines:
        rows = [
            NewArea(
                key=row["code"], name=row["name_vi"], name_en=row["name_en"], kind=row["kind"], code=row["code"],
                parent=row["parent_code"] or None,
            )
            for row in csv.DictReader(lines)
        ]  # fmt: skip
    done = await area_changes.import_(database, rows, at=None, by="test")
    assert len(done.changes) == len(rows) == 3355
    again = await area_changes.import_(database, rows, at=None, by="test")
    assert (again.operation, again.changes) == (None, ())
    await devices.add(
        database, shipped(), [devices.NewDevice(key="lamp", class_key="streetlight", area="06685")], by="test"
    )
    assert await search(database, "hồng gai quang ninh") == {"lamp"}


async def snapshot(database: asyncpg.Connection) -> list[object]:
    """Give everything there is to know of areas, without the numbers of rows."""
    tree = await areas.areas(database, ended=True)
    history = [await area_history.versions(database, each.key) for each in tree]
    stood = await database.fetch("SELECT device_id, valid, area_id FROM iot.device_area_version ORDER BY 1, 2")
    paths = await database.fetch("SELECT key, path_search FROM iot.area ORDER BY key")
    return [*tree, history, [tuple(row) for row in stood], [tuple(row) for row in paths]]
