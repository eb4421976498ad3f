"""Campaigns in their tables: what pauses them, what is taken up late, and who can go back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from iot_core.registry import campaigns
from iot_core.store.connection import prepare

MODEL = "native-streetlight"
LAMPS = 8


@pytest.fixture
async def database(migrated_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Give eight lamps, a signer, and its images of the versions 1 and 2."""
    connection = await asyncpg.connect(migrated_dsn)
    try:
        await prepare(connection)
        await connection.execute(
            """INSERT INTO iot.device (key, name, class_key)
                SELECT 'lamp-' || n, '', 'streetlight' FROM generate_series(1, $1) n""",
            LAMPS,
        )
        await connection.execute(
            "INSERT INTO iot.unit (device_id, profile, address, firmware) SELECT id, $1, 'iot:' || key, '1'"
            " FROM iot.device",
            MODEL,
        )
        for version in ("1", "2"):
            await _image(connection, version, signer=1)
        yield connection
    finally:
        await connection.close()


async def _image(connection: asyncpg.Connection, version: str, *, signer: int) -> int:
    await connection.execute(
        "INSERT INTO iot.firmware_signer (name, public_key, added_by) VALUES ($1::text, sha256($1::text::bytea), 't')"
        " ON CONFLICT DO NOTHING",
        f"signer-{signer}",
    )
    number: int = await connection.fetchval(
        "INSERT INTO iot.firmware_image (model, version, sha256, signature, signer_id, size, image, added_by)"
        " VALUES ($1, $2, sha256('i'), decode(repeat('00', 64), 'hex'),"
        " (SELECT id FROM iot.firmware_signer WHERE name = $3), 1, 'i', 't') RETURNING id",
        MODEL, version, f"signer-{signer}",
    )  # fmt: skip
    return number


async def _campaign(
    connection: asyncpg.Connection, rings: Sequence[Sequence[str]], *, state: str = "running", before: str = "1"
) -> int:
    """Make a campaign of version 2 that may fail by a quarter; `rings` say the state of each lamp's update."""
    number: int = await connection.fetchval(
        "INSERT INTO iot.firmware_campaign (image_id, selector, base_url, state, fail_share, by) VALUES"
        " ((SELECT id FROM iot.firmware_image WHERE version = '2'), 'class=streetlight', 'http://core', $1, 0.25, 't')"
        " RETURNING id",
        state,
    )
    lamps = [row["id"] for row in await connection.fetch("SELECT id FROM iot.device ORDER BY id")]
    updates = [(ring, each) for ring, states in enumerate(rings) for each in states]
    await connection.executemany(
        "INSERT INTO iot.firmware_update (campaign_id, device_id, ring, state, before) VALUES ($1, $2, $3, $4, $5)",
        [(number, lamp, ring, each, before) for lamp, (ring, each) in zip(lamps, updates, strict=False)],
    )
    return number


async def test_too_many_failed_of_the_rings_that_began_pause_it(database: asyncpg.Connection) -> None:
    good, bad, waiting = "succeeded", "failed", "waiting"
    rings = {
        "a canary failed, the other ring did not begin": ([[bad], [waiting] * 7], "paused"),
        "two of eight": ([[good], [bad, bad, good, good, good, waiting, waiting]], "running"),
        "three of eight": ([[good], [bad, bad, bad, good, good, waiting, waiting]], "paused"),
        "nothing began": ([[waiting], [waiting] * 7], "running"),
    }
    made = {said: await _campaign(database, states) for said, (states, _) in rings.items()}
    over = await _campaign(database, [[bad] * 8], state="stopped")
    await campaigns.settle(database)
    found = {said: (await campaigns.campaign(database, number)).state for said, number in made.items()}
    assert found == {said: state for said, (_, state) in rings.items()}
    assert (await campaigns.campaign(database, over)).state == "stopped"


async def test_a_share_is_what_was_asked_for_not_the_nearest_of_four_bytes(database: asyncpg.Connection) -> None:
    number = await _campaign(database, [["waiting"]])
    await database.execute("UPDATE iot.firmware_campaign SET fail_share = 0.7")
    assert (await campaigns.campaign(database, number)).fail_share == 0.7


async def test_what_a_look_costs_does_not_grow_with_its_square(database: asyncpg.Connection) -> None:
    plan = await database.fetch(f"EXPLAIN {campaigns._PAUSE_BAD}")
    assert not [row[0] for row in plan if "SubPlan" in row[0]], "nothing is asked again for each device"


async def test_a_rollback_names_who_had_an_image_of_a_signer_that_is_trusted_no_more(
    database: asyncpg.Connection,
) -> None:
    await _image(database, "0.9", signer=2)
    number = await _campaign(database, [["succeeded"] * 2])
    await database.execute("UPDATE iot.firmware_update SET before = '0.9' WHERE device_id = 2")
    await database.execute("UPDATE iot.unit SET firmware = '2' WHERE device_id IN (1, 2)")
    await database.execute("UPDATE iot.firmware_signer SET revoked_at = now() WHERE name = 'signer-2'")
    (back,), cannot = await campaigns.roll_back(database, number, by="test")
    assert (back.version, back.rolls_back, cannot) == ("1", number, ["lamp-2"])
    assert [each.device for each in await campaigns.updates(database, back.id)] == ["lamp-1"]
    assert (await campaigns.campaign(database, number)).state == "stopped"
    assert (await campaigns.roll_back(database, back.id, by="test")) == ([], [])


async def test_the_last_device_that_says_late_that_it_did_it_is_taken_up(database: asyncpg.Connection) -> None:
    number = await _campaign(database, [["failed"]], state="done")
    assert not await campaigns.under_way(database)
    order = "INSERT INTO iot.command_order (name, params, by) VALUES ('firmware', '{}', 't') RETURNING id"
    order_id = await database.fetchval(order)
    command = await database.fetchval(
        "INSERT INTO iot.command (order_id, device_id, state, expires_at, settle_at, ended_at)"
        " VALUES ($1, 1, 'succeeded', now(), now(), now()) RETURNING id",
        order_id,
    )
    await database.execute("UPDATE iot.firmware_update SET command_id = $1", command)
    assert await campaigns.under_way(database)
    await campaigns.settle(database)
    assert (await campaigns.campaign(database, number)).states == {"succeeded": 1}
    assert not await campaigns.under_way(database)
