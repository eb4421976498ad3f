"""Looks once a second which subscribed entities have said something new, and tells their subscribers."""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from iot_core.api import entities
from iot_core.api.ngsi import read_entities
from iot_core.cancelled import notice_cancellation
from iot_core.profiles import Profiles
from iot_core.push import subscriptions
from iot_core.store.connection import AWAY, RETRY

__all__ = ["run_notifying", "tell"]

_LOOK_S: Final = 1.0
_MOST: Final = 500
"""Entities in one notification; the rest is in the next."""
NEWEST: Final = "SELECT max(last_received_at) FROM iot.device_status WHERE last_received_at > $1"


async def run_notifying(pool: asyncpg.Pool, profiles: Profiles, look_s: float = _LOOK_S) -> None:
    """Notify until cancelled."""
    while True:
        try:
            async with pool.acquire() as connection, connection.transaction():
                await tell(connection, profiles)
        except (*AWAY, *RETRY):
            notice_cancellation()
        await asyncio.sleep(look_s)


async def tell(connection: asyncpg.Connection, profiles: Profiles) -> None:
    """Tell every subscription that is due what is new for it."""
    for row in await subscriptions.due(connection):
        newest = await connection.fetchval(NEWEST, row["seen_at"])
        if newest is None:
            continue
        body = row["body"]
        kinds = {selector["type"] for selector in body["entities"]}
        keys = [selector["id"].rpartition(":")[2] for selector in body["entities"] if selector.get("id")]
        classes = [each for each in profiles.classes.values() if entities.type_of(each) in kinds]
        hide = [] if row["household"] else [each.key for each in classes if each.household]
        found, _ = await read_entities(
            connection, classes, hide=hide, keys=keys or None, since=row["seen_at"], limit=_MOST
        )
        watched = set(body["watchedAttributes"])
        wanted = set(body["notification"]["attributes"])
        plain = body["notification"]["format"] in ("keyValues", "simplified")
        write = entities.simplified if plain else entities.normalized
        data = [
            write(kind, key, {name: each for name, each in made.items() if not wanted or name in wanted})
            for kind, key, made in found
            if not watched or any(each.at is not None and name in watched for name, each in made.items())
        ]
        if data:
            await subscriptions.notify(connection, row, data, newest)
