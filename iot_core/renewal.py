"""Own profiles that change while the core runs, taken over by everybody who keeps something by profile or class."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg
import structlog

from iot_core.alarms.evaluate import Evaluator
from iot_core.broker import Broker
from iot_core.counters import Counters
from iot_core.errors import StoreUnavailable
from iot_core.ingest.flush import Flush
from iot_core.ingest.load import Loader
from iot_core.ingest.prepare import Prepare
from iot_core.opened import OpenedStore, hold_broken, models_of, with_tables
from iot_core.profiles import Profiles
from iot_core.profiles.follow import Stamps
from iot_core.profiles.follow import follow as follow_profiles
from iot_core.profiles.load import load_tolerant
from iot_core.registry.directory import Directory
from iot_core.settings import Settings
from iot_core.store.completeness import note_models
from iot_core.store.connection import AWAY, RETRY

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Renewal:
    """Own profiles that change while the core runs, and everybody who keeps something by profile or class."""

    settings: Settings
    store: OpenedStore
    counters: Counters
    prepare: Prepare
    flush: Flush
    loader: Loader
    evaluator: Evaluator
    directory: Directory
    pool: asyncpg.Pool
    broker: Broker
    folder: Path
    seen: Stamps
    """Of the folder before it was loaded."""

    async def run(self) -> None:
        """Follow the folder until cancelled."""
        await follow_profiles(self.store.profiles, self.folder, self.seen, self._renewed, load=self._load)

    async def _load(self, folder: Path, running: Profiles) -> Profiles:
        """Load beside what runs; make or extend the tables of classes that are new or changed. Raises StoreUnavailable.

        Two who want the same locks in another order is no reason to give up: at the next look.
        """
        found = await asyncio.to_thread(load_tolerant, folder, running)
        try:
            async with self.pool.acquire() as connection:
                if _changed(running, found):
                    found = await self._with_changed_classes(connection, folder, running, found)
                await note_models(connection, models_of(found))
                await hold_broken(connection, found)
        except (*AWAY, *RETRY) as exc:
            raise StoreUnavailable(str(exc)) from exc
        return found

    async def _with_changed_classes(
        self, connection: asyncpg.Connection, folder: Path, running: Profiles, found: Profiles
    ) -> Profiles:
        """Let classes have what a start would give them, before anybody can say anything new of them."""
        store = self.store
        again = partial(load_tolerant, folder, running)
        found, tables = await with_tables(connection, found, again, self.settings, store.found.tier)
        changed = {key: table for key, table in tables.items() if table != store.tables.get(key)}
        new = sorted(changed.keys() - store.tables.keys())
        await store.add(connection, changed, found, self.settings)
        self.flush.add(changed)
        self.loader.add(changed)
        log.info("profiles.classes", new=new, changed=sorted(changed.keys() - new))
        return found

    async def _renewed(self) -> None:
        self.prepare.renew()
        self.directory.touch()
        self.counters.count("profiles_renewed")
        async with self.pool.acquire() as connection:
            await self.evaluator.load(connection)
        await self.broker.refresh()


def _changed(running: Profiles, found: Profiles) -> bool:
    """Say whether any class is new, or not what it was."""
    return any(running.class_file(key) != found.class_file(key) for key in found.classes)
