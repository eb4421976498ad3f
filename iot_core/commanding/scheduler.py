"""Runs schedules: what a device can keep is stored on it days ahead, to the others commands are sent when it is time.

Of what was missed while the core was down only the newest moment is sent, once: a lamp needs the state of now, not the
evening played back.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import structlog

from iot_core.commanding import sun
from iot_core.commanding.orders import Commanding, Wanted
from iot_core.commanding.sun import Place, Point
from iot_core.commanding.twins import SCHEDULE, Twins
from iot_core.errors import IotError
from iot_core.registry import schedules
from iot_core.registry.schedules import Member, Schedule
from iot_core.store.connection import RETRY, outlasting, wake_on

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from datetime import date

    import asyncpg

    from iot_core.profiles import Profiles

__all__ = ["Scheduler"]

log = structlog.get_logger()

_RETRY_S: Final = 1.0
_LONGEST_S: Final = 60.0
"""It looks at least so often: a clock may be set, and what failed is tried again."""
_SHORTEST_S: Final = 0.05
_STORED: Final = timedelta(days=7)
_RENEW: Final = timedelta(days=5)
"""Devices are given a week ahead anew before less than this is left."""
_SHORTEST: Final = timedelta(hours=1)


class Scheduler:
    """Sleeps until the next moment of any schedule, or until one changes."""

    def __init__(
        self, pool: asyncpg.Pool, commanding: Commanding, twins: Twins, profiles: Profiles, timezone: str
    ) -> None:
        self._pool = pool
        self._commanding = commanding
        self._twins = twins
        self._profiles = profiles
        self._zone = ZoneInfo(timezone)

    async def run(self) -> None:
        """Run schedules until cancelled."""
        woken = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(wake_on(self._pool, schedules.CHANNEL, woken), name="schedules listen")
            while True:
                woken.clear()
                wait = _RETRY_S
                with outlasting(*RETRY):
                    wait = await self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await woken.wait()

    async def _look(self) -> float:
        """Do what is due; say for how many seconds nothing will be."""
        async with self._pool.acquire() as connection:
            found = await schedules.schedules(connection)
            holidays = await schedules.holidays(connection)
        for each in found:
            await self.step(each, holidays, datetime.now(UTC))
        now = datetime.now(UTC)
        following = [self._following(each, holidays, now) for each in found]
        ahead = min((at - now for at in following if at is not None), default=timedelta.max).total_seconds()
        return min(_LONGEST_S, max(_SHORTEST_S, ahead))

    def _following(self, schedule: Schedule, holidays: AbstractSet[date], now: datetime) -> datetime | None:
        """Say when something is next to be done for a schedule."""
        try:
            points = [sun.parse(point) for point in schedule.points]
        except IotError:
            return None
        moment = next(sun.coming(points, now, self.place(schedule), holidays, days=1), None)
        renew = None if schedule.stored_until is None else schedule.stored_until - _RENEW
        times = (None if moment is None else moment[0], renew, schedule.override_from, schedule.override_to)
        return min((at for at in times if at is not None and at > now), default=None)

    def place(self, schedule: Schedule) -> Place:
        """Give where a schedule's sun is looked at."""
        return Place(schedule.latitude, schedule.longitude, self._zone)

    async def step(self, schedule: Schedule, holidays: AbstractSet[date], now: datetime) -> None:
        """Store a schedule where it must be renewed, and send the moment that has come, if one has."""
        try:
            points = [sun.parse(point) for point in schedule.points]
            await self._store(schedule, points, holidays, now)
            due = _due(schedule, points, self.place(schedule), holidays, now)
            if due is not None and due[0] > schedule.done_until:
                await self._send(schedule, points, holidays, due)
        except IotError as exc:
            log.warning("schedule.failed", schedule=schedule.key, reason=exc.code)

    async def _send(
        self, schedule: Schedule, points: list[Point], holidays: AbstractSet[date], due: tuple[datetime, Point]
    ) -> None:
        at, point = due
        following = next(sun.coming(points, at, self.place(schedule), holidays, days=8), None)
        lives = max(_SHORTEST, following[0] - datetime.now(UTC)) if following else timedelta(days=1)
        async with self._pool.acquire() as connection:
            found = await schedules.members(connection, schedule.selector)
        to_all = schedule.override_point is not None and at in {schedule.override_from, schedule.override_to}
        keys = [each.key for each in found if to_all or not _keeps(each, schedule, at)]
        if keys:
            asked = Wanted(
                name=point.name, params=point.params, by=f"schedule/{schedule.key}", ttl=lives, source="schedule",
                selector=schedule.selector, idempotency_key=at.isoformat(),
            )  # fmt: skip
            await self._commanding.order(asked, keys)
        async with self._pool.acquire() as connection:
            await schedules.done(connection, schedule.id, at)

    async def _store(self, schedule: Schedule, points: list[Point], holidays: AbstractSet[date], now: datetime) -> None:
        if schedule.stored_until is not None and schedule.stored_until - now > _RENEW:
            return
        until = now + _STORED
        kept: dict[str, Any] = {
            "key": schedule.key,
            "until": until.isoformat(timespec="seconds"),
            "points": [
                {"time": at.astimezone(UTC).isoformat(timespec="seconds"), "name": point.name, "params": point.params}
                for at, point in sun.coming(points, now, self.place(schedule), holidays, days=_STORED.days)
                if not _overridden(schedule, at)
            ],
        }
        async with self._pool.acquire() as connection:
            found = await schedules.members(connection, schedule.selector)
        for each in found:
            device_class = self._profiles.classes.get(each.class_key)
            if each.native and device_class is not None and device_class.keeps_schedule:
                await self._twins.change(each.key, {SCHEDULE: kept}, by=SCHEDULE)
        async with self._pool.acquire() as connection:
            await schedules.stored(connection, schedule, until)


def _due(
    schedule: Schedule, points: list[Point], place: Place, holidays: AbstractSet[date], now: datetime
) -> tuple[datetime, Point] | None:
    """Give the newest moment that is past: of an override that holds, of its end, or of the points."""
    regular = sun.last(points, now, place, holidays)
    begins, ends = schedule.override_from, schedule.override_to
    if schedule.override_point is None or begins is None or ends is None or now < begins:
        return regular
    if now < ends:
        return begins, sun.parse(schedule.override_point)
    return regular if regular is None or regular[0] > ends else (ends, regular[1])


def _overridden(schedule: Schedule, at: datetime) -> bool:
    begins, ends = schedule.override_from, schedule.override_to
    return begins is not None and ends is not None and begins <= at < ends


def _keeps(member: Member, schedule: Schedule, at: datetime) -> bool:
    """Say whether a device carries this moment out by itself."""
    if member.stored_key != schedule.key or member.stored_until is None:
        return False
    try:
        return datetime.fromisoformat(member.stored_until) >= at
    except ValueError:
        return False
