"""The database as a core opens it: migrated, with the tables of all classes, what it keeps of models noted.

What a class needs at a start is given here also to one that comes while the core runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg

from iot_core.errors import ConfigError
from iot_core.model import DeviceClass
from iot_core.profiles import Profiles
from iot_core.profiles.load import load_tolerant
from iot_core.profiles.stand_in import Known
from iot_core.settings import Settings
from iot_core.store.columns import ClassTable
from iot_core.store.completeness import Model, note_models, noted_models
from iot_core.store.migrate import migrate
from iot_core.store.nightly import ensure_columnstore
from iot_core.store.registers import note_registers
from iot_core.store.rollups import Rollup
from iot_core.store.tables import ensure_tables, fix_zone, read_rollups
from iot_core.store.tier import Found, Tier, find_tier


@dataclass(slots=True)
class OpenedStore:
    """The database as this core found it. Tables and rollups grow in place with classes that come while it runs."""

    found: Found
    profiles: Profiles
    tables: dict[str, ClassTable] = field(default_factory=dict)
    rollups: dict[str, Rollup] = field(default_factory=dict)
    compressed_after: dict[str, timedelta] = field(default_factory=dict)

    async def add(
        self, connection: asyncpg.Connection, tables: Mapping[str, ClassTable], profiles: Profiles, settings: Settings
    ) -> None:
        """Take in the tables of more classes, with their rollups, compression and counters."""
        rollups = await read_rollups(connection, tables)
        await ensure_columnstore(connection, rollups, self.found.tier, settings.retention)
        await note_registers(connection, profiles.all())
        if self.found.tier is Tier.COMMUNITY:
            self.compressed_after.update({key: settings.retention.columnstore_after(key) for key in tables})
        self.tables.update(tables)
        self.rollups.update(rollups)


async def open_store(pool: asyncpg.Pool, settings: Settings, profiles: Profiles) -> OpenedStore:
    async with pool.acquire() as connection:
        await migrate(connection)
        await fix_zone(connection, settings.timezone)
        found = await find_tier(connection)
        again = partial(load_tolerant, Path(settings.profiles) if settings.profiles else None, None)
        profiles, tables = await with_tables(connection, profiles, again, settings, found.tier)
        await note_models(connection, models_of(profiles))
        await hold_broken(connection, profiles)
        store = OpenedStore(found, profiles)
        await store.add(connection, tables, profiles, settings)
        return store


async def with_tables(
    connection: asyncpg.Connection,
    profiles: Profiles,
    again: Callable[[Mapping[str, ConfigError]], Profiles],
    settings: Settings,
    tier: Tier,
) -> tuple[Profiles, Mapping[str, ClassTable]]:
    """Make the tables of all classes; where the database cannot take an own class, load again without it."""
    refused: dict[str, ConfigError] = {}
    while True:
        classes = [_within_retention(each, settings) for each in profiles.classes.values()]
        try:
            return profiles, await ensure_tables(connection, classes, tier)
        except ConfigError as exc:
            key = str(exc.facts.get("device_class", ""))
            if not key or key in refused:
                raise
            refused[key] = exc
        profiles = await asyncio.to_thread(again, refused)


async def hold_broken(connection: asyncpg.Connection, profiles: Profiles) -> None:
    """Hold what devices say whose profile is broken and has no good version here: say where they speak."""
    lost = [each.model for each in profiles.broken if each.model and not each.kept]
    if lost:
        noted = await noted_models(connection, lost)
        profiles.hold(
            Known(
                model=each.model,
                class_key=each.class_key,
                interval=each.interval,
                metrics=each.metrics,
                address=each.address,
                topics=each.topics,
            )
            for each in noted
            if each.address
        )


def models_of(profiles: Profiles) -> Iterator[Model]:
    return (
        Model(each.model, each.class_key, each.interval, each.metrics, each.address, each.topics)
        for each in profiles.all()
        if not each.broken  # of those the last good version is noted
    )


def _within_retention(device_class: DeviceClass, settings: Settings) -> DeviceClass:
    """Shorten a class's window to its raw retention: what comes later would change buckets that are closed."""
    return replace(device_class, window=min(device_class.window, settings.retention.raw(device_class.key)))
