"""Orders: held against class and profile before anything is kept, and waited for when somebody wants to know."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from iot_core.commanding import words
from iot_core.commanding.handover import Handover
from iot_core.commanding.ledger import Ledger
from iot_core.commanding.reach import NATIVE, Reach
from iot_core.commanding.sender import Sender
from iot_core.commanding.shown import wanted
from iot_core.errors import (
    CommandRejected,
    ConflictError,
    DeviceUnreachable,
    IotError,
    NotFoundError,
    RequestError,
    StoreUnavailable,
)
from iot_core.model import Command, CommandType, DeviceClass, MountedUnit, Uplink, Value
from iot_core.profiles import checked_params
from iot_core.registry import commands, pending
from iot_core.registry.commands import CommandRow, New
from iot_core.store.connection import AWAY
from iot_core.store.status import online

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from iot_core.profiles import Profiles

__all__ = ["EXPIRES", "Commanding", "Wanted"]

log = structlog.get_logger()

EXPIRES: Final = timedelta(minutes=1)
"""How long a command lives when nobody says: a device that gets it later must not carry it out."""
_TO_CONFIRM: Final = timedelta(hours=1)
_GRACE: Final = timedelta(seconds=10)
_CAREFUL: Final = 10.0
"""Commands a second of an order that stops on failures, when nobody says: else all are out before one fails."""
_FETCHED: Final = 10
"""Commands that a device is given at once when it fetches them: what fits into a few datagrams."""
_LAST: Final = frozenset({"succeeded", "failed", "expired"})
_CONFIGURED: Final = "SELECT device_id, every FROM iot.configured_interval WHERE device_id = ANY($1)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of devices. Without a time to live it is a minute, or an hour where a second person confirms.

    `by_user` is the account of who asks; None for a program, a schedule, the local command line.
    """

    name: str
    params: Mapping[str, object]
    by: str
    by_user: int | None = None
    ttl: timedelta | None = None
    selector: str = ""
    source: str = "person"
    tries: int | None = None
    rate: float | None = None
    stop_after: int | None = None
    idempotency_key: str | None = None


class Commanding:
    """Takes orders, and hears what devices say of them."""

    def __init__(self, pool: asyncpg.Pool, reach: Reach, profiles: Profiles, handover: Handover) -> None:
        self._pool = pool
        self._profiles = profiles
        self._handover = handover
        self.reach = reach
        self.ledger = Ledger(pool)
        self._sender = Sender(pool, reach, self.ledger, handover)
        self.reported: Callable[[Uplink], Awaitable[None]] | None = None
        """Told of `config/reported` (the twin)."""

    async def run(self) -> None:
        """Send, hear and write until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.ledger.run(), name="commands ledger")
            group.create_task(self._sender.run(), name="commands sender")

    async def said(self, uplink: Uplink) -> None:
        """Take what a native device says of a command or its configuration; nobody may answer for another one."""
        if uplink.kind == "config/reported" and self.reported is not None:
            await self.reported(uplink)
            return
        step = words.result(uplink)
        if step is not None:
            if step.proof:
                await self._handover.shown(step.device_key, step.proof)
            await self.ledger.add(step, uplink)
            return
        log.info("command.unreadable_result", address=uplink.address)
        if uplink.settle is not None:
            await uplink.settle([uplink.token], {})

    async def fetched(self, device_key: str) -> Sequence[Command]:
        """Give what a native device is asked to do to one that fetches it (CoAP): from now on that is sent.

        Raises StoreUnavailable.
        """
        given = []
        try:
            async with self._pool.acquire() as connection:
                found = await commands.fetch(connection, device_key, _FETCHED)
            for command, source in found:
                own = source == pending.SOURCE
                with suppress(NotFoundError):  # a secret that another one has overtaken meanwhile
                    given.append(await self._handover.to_give(command, device_key) if own else command)
        except AWAY as exc:
            raise StoreUnavailable(type(exc).__name__) from exc
        return given

    async def order(self, asked: Wanted, keys: Sequence[str]) -> tuple[int, bool]:
        """Keep an order for devices of one class; give its number and whether it is new.

        A device that cannot be told becomes a failed command with the reason, when there are several; for a single one
        it is raised. Raises NotFoundError for a device that is not there, RequestError for a command or parameter that
        the class does not know, ConflictError for nobody's order where the class wants two persons.
        """
        mounted = self.reach.by_key()
        class_key, ids = await self._class_of(keys)
        device_class, kind = self._kind(class_key, asked.name)
        checked = checked_params(kind, asked.params)
        if kind.confirm_two and asked.by_user is None:
            raise ConflictError("command.no_person", by=asked.by)
        reading = wanted(kind, device_class, checked)
        every = dict(await self._pool.fetch(_CONFIGURED, list(ids.values()))) if reading else {}
        new = [
            self._new(key, ids[key], mounted.get(key), kind, checked, reading, every.get(ids[key])) for key in keys
        ]  # fmt: skip
        if len(new) == 1 and (problem := new[0].problem) is not None:
            raise _raised(problem)
        async with self._pool.acquire() as connection:
            return await commands.create(
                connection, asked.name, checked, new,
                by=asked.by, by_user=asked.by_user,
                expires_at=datetime.now(UTC) + (asked.ttl or (_TO_CONFIRM if kind.confirm_two else EXPIRES)),
                selector=asked.selector, source=asked.source, again=not kind.once, most_tries=asked.tries,
                rate=asked.rate or (_CAREFUL if asked.stop_after else None), stop_after=asked.stop_after,
                second_person=kind.confirm_two, idempotency_key=asked.idempotency_key,
            )  # fmt: skip

    async def send(
        self, device_key: str, name: str, params: Mapping[str, object], *, wait_s: float, by: str = "core",
        by_user: int | None = None,
    ) -> CommandRow:  # fmt: skip
        """Send a command now or not at all, and wait up to `wait_s` for a native device's own word.

        Raises as `order`, and CommandRejected when model or device refuses, DeviceUnreachable when it is not there.
        """
        unit = self.reach.unit(device_key)
        _, kind = self._kind(unit.class_key, name)
        native = unit.address.startswith(NATIVE)
        if native and await online(self._pool, unit.device_id) is not True:
            checked_params(kind, params)
            raise DeviceUnreachable("command.offline", device=device_key)
        order_id, _ = await self.order(Wanted(name=name, params=params, by=by, by_user=by_user, tries=1), [device_key])
        row = await self.wait(order_id, wait_s, until=_LAST if native else None)
        if row.state == "failed" and row.problem is not None and row.problem.get("kind"):
            raise _raised(row.problem)
        return row

    async def wait(self, order_id: int, wait_s: float, until: frozenset[str] | None = None) -> CommandRow:
        """Give the (first) command of an order once it is in one of the states `until`, or has left; or as it is."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (wait_s if until else max(wait_s, _GRACE.total_seconds()))
        left = loop.time() + _GRACE.total_seconds()
        while True:
            async with self._pool.acquire() as connection:
                (row, *_) = await commands.list_commands(connection, order_id=order_id, limit=1)
            done = row.state in _LAST or (row.state in until if until else row.state != "queued")
            now = loop.time()
            over = now >= deadline and (row.state != "queued" or now >= left)
            if done or row.waits_for_second or over:
                return row
            await self.ledger.changed(0.5 if now < deadline - 0.5 else 0.05)

    async def _class_of(self, keys: Sequence[str]) -> tuple[str, dict[str, int]]:
        """Find the one class of devices, and their numbers."""
        rows = await self._pool.fetch(
            "SELECT key, id, class_key FROM iot.device WHERE key = ANY($1) AND retired_at IS NULL", list(keys)
        )
        found = {row["key"]: row["id"] for row in rows}
        for key in keys:
            if key not in found:
                raise NotFoundError("registry.no_device", key=key)
        classes = sorted({row["class_key"] for row in rows})
        if len(classes) != 1:
            raise RequestError("command.several_classes", classes=", ".join(classes) or "-")
        return classes[0], found

    def _kind(self, class_key: str, name: str) -> tuple[DeviceClass, CommandType]:
        device_class = self._profiles.classes.get(class_key)
        kind = None if device_class is None else device_class.command(name)
        if device_class is None or kind is None:
            known = ", ".join(each.key for each in (device_class.commands if device_class else ())) or "-"
            raise RequestError("command.unknown", command=name, device_class=class_key, known=known)
        return device_class, kind

    def _new(  # noqa: PLR0917 - one device of an order
        self, key: str, device_id: int, unit: MountedUnit | None, kind: CommandType, params: Mapping[str, Value],
        reading: Mapping[str, tuple[float, float]] | None, every: timedelta | None,
    ) -> New:  # fmt: skip
        if unit is None:
            return New(device_id=device_id, problem=_problem(NotFoundError("asking.not_mounted", key=key)))
        try:
            self.reach.driver(unit)
            native = unit.address.startswith(NATIVE)
            if not native:
                self._profiles.get(unit.profile).downlink(kind.key, params, "0")
            interval = every or self._profiles.get(unit.profile).interval
        except (CommandRejected, NotFoundError) as exc:
            return New(device_id=device_id, problem=_problem(exc))
        grace = _GRACE + (1.5 * interval if reading else timedelta(0))
        return New(device_id=device_id, wanted=reading, grace=grace, presence=native)


def _problem(error: IotError) -> dict[str, Any]:
    kind = "missing" if isinstance(error, NotFoundError) else "rejected"
    return {"code": error.code, "facts": {name: str(fact) for name, fact in error.facts.items()}, "kind": kind}


def _raised(problem: Mapping[str, Any]) -> IotError:
    """Make the error again that a problem was kept of."""
    raised: type[IotError] = {"missing": NotFoundError, "unreachable": DeviceUnreachable}.get(
        problem["kind"], CommandRejected
    )
    return raised(problem["code"], **problem["facts"])
