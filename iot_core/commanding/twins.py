"""Twins: tells devices what they should be set to until they say that they are.

native over MQTT: the whole configuration, retained, on iot/v1/KEY/config; the answer on config/reported
native over CoAP: the device GETs /v1/KEY/config and POSTs /v1/KEY/config/reported
others: the class says which command sets a key; done when that command is (a Modbus write: read back)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from iot_core.commanding.orders import Commanding, Wanted
from iot_core.commanding.reach import NATIVE
from iot_core.errors import IotError, NotFoundError, RequestError, StoreUnavailable
from iot_core.model import Command, DeviceClass, Setting, Uplink
from iot_core.profiles import checked_setting
from iot_core.registry import commands, twin
from iot_core.registry.twin import CHANNEL, Twin
from iot_core.store.connection import AWAY, RETRY, outlasting, wake_on

if TYPE_CHECKING:
    import asyncpg

    from iot_core.profiles import Profiles

__all__ = ["SCHEDULE", "Twins", "document"]

log = structlog.get_logger()

SCHEDULE: Final = "schedule"
"""A key of every class that can keep a schedule on the device; written by schedules, not by people."""
_MOST: Final = 200
_LOOK_S: Final = 2.0
_IDLE_S: Final = 30.0
_STORE_AWAY_S: Final = 1.0
_TELL_AGAIN: Final = timedelta(minutes=1)
_ASK_AGAIN: Final = timedelta(seconds=1)
_TRY_AGAIN: Final = timedelta(seconds=10)
"""What could not be published: its broker may be away, and many wait."""
_COMMAND_LIVES: Final = timedelta(days=1)
_LARGEST: Final = 64 * 1024


class _Reported(msgspec.Struct, frozen=True):
    version: int
    config: dict[str, Any]
    refused: dict[str, str] = {}


class Twins:
    """Changes what is desired, hears what is reported, and tells in between."""

    def __init__(self, pool: asyncpg.Pool, commanding: Commanding, profiles: Profiles) -> None:
        self._pool = pool
        self._commanding = commanding
        self._reach = commanding.reach
        self._profiles = profiles
        self._wake = asyncio.Event()
        commanding.reported = self.reported

    async def change(
        self, device_key: str, changes: Mapping[str, object], *, by: str, version: int | None = None
    ) -> Twin:
        """Change what a device should be set to. Raises RequestError for a key or value that its class refuses."""
        async with self._pool.acquire() as connection:
            row = await connection.fetchrow(
                "SELECT id, class_key FROM iot.device WHERE key = $1 AND retired_at IS NULL", device_key
            )
            if row is None:
                raise NotFoundError("registry.no_device", key=device_key)
            checked = self._checked(row["class_key"], changes) if by != SCHEDULE else dict(changes)
            return await twin.change(connection, row["id"], device_key, checked, by=by, version=version)

    async def reported(self, uplink: Uplink) -> None:
        """Take what a native device says of its configuration; settled after COMMIT, and nonsense at once."""
        said = _read(uplink)
        if said is None:
            log.info("twin.unreadable", address=uplink.address)
        else:
            refused = {str(key)[:40]: str(why)[:200] for key, why in list(said.refused.items())[:50]}
            await self._keep(uplink, said, refused)
        if uplink.settle is not None:
            await uplink.settle([uplink.token], {})

    async def document(self, device_key: str) -> bytes:
        """Give the configuration that a device should have, as it stands on the wire. Raises StoreUnavailable."""
        try:
            async with self._pool.acquire() as connection:
                device_id = await connection.fetchval("SELECT id FROM iot.device WHERE key = $1", device_key)
                found = None if device_id is None else await twin.get(connection, device_id)
        except AWAY as exc:
            raise StoreUnavailable(type(exc).__name__) from exc
        return document(found.version if found else 0, found.desired if found else {})

    async def check(self, device_key: str) -> Twin | None:
        """Read a device's settings back where its driver can, so that drift shows. Raises as `Driver.holds`."""
        unit = self._reach.unit(device_key)
        async with self._pool.acquire() as connection:
            found = await twin.get(connection, unit.device_id)
        if found is None or unit.address.startswith(NATIVE):
            return found
        stands: dict[str, Any] = {}
        for key, value in found.desired.items():
            if (setting := self._carried(unit.class_key, key)) is not None:
                asked = Command(id=0, name=setting.command, params={setting.param: value}, expires=datetime.now(UTC))
                holds = await self._reach.driver(unit).holds(unit, asked)
                stands[key] = value if holds else None
        async with self._pool.acquire() as connection:
            await twin.said_of(connection, unit.device_id, stands)
            return await twin.get(connection, unit.device_id)

    async def run(self) -> None:
        """Tell until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(wake_on(self._pool, CHANNEL, self._wake), name="twins listen")
            while True:
                self._wake.clear()
                wait = _STORE_AWAY_S
                with outlasting(*RETRY):
                    wait = await self._step()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()

    async def _step(self) -> float:
        async with self._pool.acquire() as connection:
            due = await twin.untold(connection, _MOST)
            units = self._reach.by_key() if due else {}
            for each in due:
                unit = units.get(each.key)
                if unit is None:
                    await twin.later(connection, each, _TELL_AGAIN)
                elif unit.address.startswith(NATIVE):
                    await self._publish(connection, each, unit)
                else:
                    await self._order(connection, each)
            open_ = await connection.fetchval("SELECT EXISTS (SELECT FROM iot.twin WHERE reported_version < version)")
        if len(due) == _MOST:
            return 0.0
        return _LOOK_S if open_ else _IDLE_S

    async def _publish(self, connection: asyncpg.Connection, each: Twin, unit: Any) -> None:
        try:
            await self._reach.driver(unit).configure(unit, document(each.version, each.desired))
        except IotError as exc:
            log.info("twin.not_told", device=each.key, reason=exc.code)
            await twin.later(connection, each, _TRY_AGAIN)
        else:
            await twin.told(connection, each, _TELL_AGAIN)

    async def _order(self, connection: asyncpg.Connection, each: Twin) -> None:
        """Order the commands that set what differs, and take up what became of them."""
        orders = {key: order for key, order in each.orders.items() if key in each.desired}
        done: dict[str, Any] = {}
        refused = dict(each.refused)
        for key, value in each.desired.items():
            if each.reported.get(key) == value or key in refused:
                orders.pop(key, None)
                continue
            setting = self._carried(each.class_key, key)
            if setting is None:
                refused[key] = {"code": "twin.no_command", "facts": {}}
                continue
            state, why = await self._state(connection, orders.get(key), {setting.param: value})
            if state == "succeeded":
                done[key] = value
                orders.pop(key)
            elif state == "failed":
                refused[key] = why
                orders.pop(key)
            elif state in {"expired", ""}:
                try:
                    orders[key], _ = await self._commanding.order(_wanted(setting, value), [each.key])
                except IotError as exc:
                    refused[key] = {"code": exc.code, "facts": {name: str(fact) for name, fact in exc.facts.items()}}
        over = not orders
        await twin.ordered(connection, each, orders=orders, done=done, refused=refused, over=over, again_in=_ASK_AGAIN)

    async def _state(
        self, connection: asyncpg.Connection, order: int | None, params: Mapping[str, object]
    ) -> tuple[str, str | dict[str, Any]]:
        """Say where an order stands, and why; '' for none, or one that carries another value."""
        rows = [] if order is None else await commands.list_commands(connection, order_id=order, limit=1)
        if not rows or rows[0].params != params:
            return "", ""
        return rows[0].state, rows[0].detail or rows[0].problem or ""

    async def _keep(self, uplink: Uplink, said: _Reported, refused: Mapping[str, str]) -> None:
        key = uplink.address.removeprefix(NATIVE)
        while True:
            try:
                async with self._pool.acquire() as connection:
                    await twin.report(
                        connection, key, said.config, said.version, at=uplink.received_at, refused=refused
                    )
            except (*AWAY, *RETRY) as exc:
                log.warning("twin.store_away", reason=type(exc).__name__)
                await asyncio.sleep(_STORE_AWAY_S)
            else:
                return

    def _checked(self, class_key: str, changes: Mapping[str, object]) -> dict[str, Any]:
        device_class = self._class(class_key)
        known = {each.metric.key: each for each in device_class.settings}
        checked: dict[str, Any] = {}
        for key, value in changes.items():
            if key not in known:
                raise RequestError("twin.unknown", key=key, device_class=class_key, known=", ".join(known) or "-")
            checked[key] = None if value is None else checked_setting(known[key].metric, value)
        return checked

    def _carried(self, class_key: str, key: str) -> Setting | None:
        found = self._class(class_key).setting(key)
        return found if found is not None and found.command else None

    def _class(self, class_key: str) -> DeviceClass:
        found = self._profiles.classes.get(class_key)
        if found is None:
            raise RequestError("twin.unknown", key="-", device_class=class_key, known="-")
        return found


def document(version: int, config: Mapping[str, Any]) -> bytes:
    """Write a configuration for the wire."""
    return msgspec.json.encode({"version": version, "config": config})


def _read(uplink: Uplink) -> _Reported | None:
    if uplink.retained or len(uplink.payload) > _LARGEST or b"\\u0000" in uplink.payload:
        return None
    try:
        said = msgspec.json.decode(uplink.payload, type=_Reported)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return said if 0 <= said.version < 2**62 else None


def _wanted(setting: Setting, value: object) -> Wanted:
    return Wanted(name=setting.command, params={setting.param: value}, by="twin", ttl=_COMMAND_LIVES, source="twin")
