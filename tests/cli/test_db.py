"""`iot db` works on the database itself, whether a core runs or not."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from iot_core.store.info import ClassInfo, days_until_full
from tests.classes import T0, observation
from tests.store.probe import probe
from tests.store.test_tidy import fill

if TYPE_CHECKING:
    from tests.cli.conftest import Core, Iot


def test_info_works_beside_a_running_core_and_without_one(core: Core) -> None:
    running = core.json("db", "info")
    assert (running["tier"], running["timezone"]) == ("postgresql", "Asia/Ho_Chi_Minh")
    assert {"telemetry.streetlight", "telemetry.water_meter"} <= {each["raw"] for each in running["classes"]}
    assert running["disk_free_bytes"] > 0
    shown = core("db", "info")
    assert "telemetry.CLASS_1h" in shown.out, shown
    core.end()
    assert json.loads(core("--output", "json", "db", "info").out)["tier"] == "postgresql"
    core.start()


def test_info_of_a_database_where_nothing_ever_started_says_what_to_do(iot: Iot, dsn: str) -> None:
    ended = iot("db", "info", env={"IOT_STORE_DSN": dsn})
    assert ended.code != 0
    assert "iot up" in ended.err


def test_sizes_growth_and_cost_of_a_class(iot: Iot, any_dsn: str) -> None:
    async def fill() -> None:
        async with probe(any_dsn) as store:
            now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
            for day in range(9):
                await store.say(*(
                    observation({"level": 1.5, "count": minute % 7}, time=now - timedelta(days=day, minutes=minute))
                    for minute in range(0, 600, 10)
                ))  # fmt: skip
            await store.refresh()

    asyncio.run(fill())
    told = iot("--output", "json", "db", "info", "--disk-free", "0.0001", env={"IOT_STORE_DSN": any_dsn})
    info: dict[str, Any] = json.loads(told.out)
    (found,) = info["classes"]
    assert (found["rows"], found["readings"]) == (540, 1080)
    assert found["bytes_per_reading"] == pytest.approx(found["raw_bytes"] / 1080, abs=0.01)
    assert found["raw_bytes_per_day"] > 0
    assert found["bytes_of_one_more_year"] == pytest.approx(found["raw_bytes_per_day"] * 365, rel=0.01)
    assert 1 <= info["days_until_full"] < 3650


def test_a_disk_is_full_when_growth_has_used_it_and_raw_rows_stop_growing_at_their_retention() -> None:
    now = T0
    each = ClassInfo(
        device_class="probe", raw="", hours="", days="", rows=1, readings=1, raw_bytes=1, rollup_bytes=1,
        bytes_per_reading=1.0, oldest=now - timedelta(days=10), raw_days=30, raw_bytes_per_day=100,
        rollup_bytes_per_day=1, bytes_of_one_more_year=36500,
    )  # fmt: skip
    assert days_until_full([each], 1000, now) == 10
    assert days_until_full([each], 2030, now) == 31, "20 more days of raw rows, then rollups only"
    assert days_until_full([each], 10_000, now) is None


def test_verify_names_what_differs_and_repairs_it(iot: Iot, dsn: str) -> None:
    async def fill(statement: str = "") -> None:
        async with probe(dsn) as store:
            await store.say(observation({"level": 1.5}))
            await store.refresh()
            if statement:
                await store.connection.execute(statement)

    env = {"IOT_STORE_DSN": dsn}
    asyncio.run(fill())
    assert iot("db", "verify", env=env).code == 0
    asyncio.run(fill("UPDATE telemetry_rollup.probe_1h SET level_max = 9"))
    ended = iot("--output", "json", "db", "verify", env=env)
    assert ended.code == 1
    assert next((each["size"], each["columns"]) for each in json.loads(ended.out)) == ("1h", ["level_max"])
    assert "iot db verify --repair" in iot("db", "verify", env=env).out
    assert iot("db", "verify", "--repair", env=env).code == 0
    assert iot("db", "verify", "--class", "probe", "--since", "2026-11-01", env=env).code == 0
    assert iot("db", "verify", "--class", "nosuch", env=env).code != 0


async def test_a_row_that_came_without_a_note_is_found(dsn: str, iot: Iot) -> None:
    async with probe(dsn) as store:
        await store.say(observation({"level": 1.5}))
        await store.refresh()
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "INSERT INTO telemetry.probe (time, received_at, device_id, level) VALUES ($1, $1, 1, 3)",
        T0 + timedelta(minutes=1),
    )
    await connection.close()
    ended = await asyncio.to_thread(iot, "db", "verify", env={"IOT_STORE_DSN": dsn})
    assert ended.code == 1


def test_tidy_makes_the_index_of_a_closed_week_anew_once(iot: Iot, dsn: str) -> None:
    async def write() -> None:
        async with probe(dsn) as store:
            await fill(store)

    asyncio.run(write())
    ended = iot("--output", "json", "db", "tidy", env={"IOT_STORE_DSN": dsn})
    (done,) = json.loads(ended.out)
    assert (done["device_class"], done["kept"], ended.code) == ("probe", None, 0)
    assert done["bytes"] < done["bytes_before"]
    assert "no index of a week that is over" in iot("db", "tidy", env={"IOT_STORE_DSN": dsn}).out
    assert "nosuch" in iot("db", "tidy", "--class", "nosuch", env={"IOT_STORE_DSN": dsn}).err
