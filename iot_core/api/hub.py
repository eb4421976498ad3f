"""One listener for all streams: alarm events as PostgreSQL tells them, device states as they change.

    NOTIFY iot_alarm --> fetch events --+
                                        +--> log (bounded) --> a bounded queue a client --> SSE
    every second: map, compared --------+
      NOTIFY iot_command_step, fetched -'

Works only while somebody is connected. A client that comes back says the last id it saw and gets what it missed: from
the log in the order of sending, else (this core is younger) from iot.alarm_event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec
import structlog
from aiohttp import web

from iot_core.alarms.alarm import AlarmRow, from_record
from iot_core.alarms.lifecycle import MEMBERS, PLACE, PLACED
from iot_core.api import shapes
from iot_core.api.alarms import alarm_shape, typed
from iot_core.api.households import PUBLIC
from iot_core.api.sse import Message
from iot_core.cancelled import notice_cancellation
from iot_core.errors import StoreUnavailable
from iot_core.registry.found import MapDevice, map_devices
from iot_core.store.connection import AWAY

if TYPE_CHECKING:
    from iot_core.api.services import Services
    from iot_core.profiles import Profiles

__all__ = ["HUB", "Hub", "Subscriber"]

log = structlog.get_logger()

CHANNEL: Final = "iot_alarm"
ACCESS: Final = "iot_access"
STEPS: Final = "iot_command_step"
_PERIOD_S: Final = 1.0
_SHARE: Final = 10  # looking at the map takes at most a tenth of the time
_LISTENING_S: Final = 5.0
_RETRY_S: Final = 1.0
_LOG: Final = 1_000
_QUEUE: Final = 1_000
_MOST_MISSED: Final = 1_000
_OUT_OF_ORDER: Final = 200  # ids are given before COMMIT, so a lower one can become visible after a higher one

_EVENTS: Final = f"""
SELECT e.id AS event_id, e.kind, e.at, e.recorded_at AS event_recorded_at, e.by, e.value AS event_value, e.note,
    a.*, {PLACE}, r.id AS where_id, '{PUBLIC}' = ANY(d.labels) AS public, {MEMBERS}
FROM iot.alarm_event e JOIN iot.alarm a ON a.id = e.alarm_id {PLACED}
"""
_THESE: Final = _EVENTS + "WHERE e.id = ANY($1::bigint[]) ORDER BY e.id"
_SINCE: Final = f"SELECT * FROM ({_EVENTS} WHERE e.id > $1 ORDER BY e.id DESC LIMIT $2) newest ORDER BY event_id"
_STEPS: Final = """
SELECT c.id, d.key AS device, o.name, o.params, c.state, c.detail, d.area_id FROM iot.command c
JOIN iot.command_order o ON o.id = c.order_id JOIN iot.device d ON d.id = c.device_id
WHERE c.id = ANY($1::bigint[]) ORDER BY c.id
"""
_NEWEST: Final = "SELECT coalesce(max(id), 0) FROM iot.alarm_event"


class Subscriber:
    """One client's queue. When it is full the client is `dropped`: it comes back and asks for what it missed."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue(_QUEUE)
        self.dropped = asyncio.Event()

    def put(self, message: Message) -> bool:
        """Queue a message; False when there is no room."""
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self.dropped.set()
            return False
        return True

    def wake(self) -> None:
        """Let a waiting stream look around; one that has work to do will anyway."""
        with suppress(asyncio.QueueFull):
            self._queue.put_nowait(None)

    async def next(self, seconds: float) -> Message | None:
        """Wait for a message; None when none came in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._queue.get()
        return None


class Hub:
    """Tells every connected client what happens. `run` works until cancelled; `closing` ends all streams."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._subscribers: set[Subscriber] = set()
        self._wanted = asyncio.Event()
        self._listening = asyncio.Event()
        self._wake = asyncio.Event()
        self._told: deque[int] = deque(maxlen=_QUEUE)
        self._steps: set[int] = set()
        self._log: deque[Message] = deque(maxlen=_LOG)
        self._newest: int | None = None
        self._map: dict[str, MapDevice] = {}
        self._attending = 0
        self.closing = asyncio.Event()
        self.access = 0
        """Counts how often what somebody may do has changed: a stream that sees another number looks again."""
        services.counters.gauge("sse_clients", lambda: len(self._subscribers))

    # ------------------------------------------------------------ for streams
    @asynccontextmanager
    async def subscribe(self, last_id: str) -> AsyncIterator[tuple[Subscriber, Sequence[Message]]]:
        """Give a client its queue, and what it missed since `last_id` (nothing when empty)."""
        subscriber = Subscriber()
        with self._joined(subscriber):
            try:
                async with asyncio.timeout(_LISTENING_S):
                    await self._listening.wait()
            except TimeoutError:
                raise StoreUnavailable("LISTEN") from None
            yield subscriber, await self._missed(last_id)

    async def pause(self, seconds: float) -> None:
        """Sleep, but not past the end of the core."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.closing.wait()

    def close(self) -> None:
        """End all streams: the core stops."""
        self.closing.set()
        for subscriber in self._subscribers:
            subscriber.wake()

    def count_dropped(self) -> None:
        """Count a client that was too slow."""
        self._services.counters.count("sse_dropped")

    @contextmanager
    def _joined(self, subscriber: Subscriber) -> Iterator[None]:
        self._subscribers.add(subscriber)
        self._wanted.set()
        try:
            yield
        finally:
            self._subscribers.discard(subscriber)
            self._rest()

    @contextmanager
    def attend(self) -> Iterator[None]:
        """Keep the listener awake while a stream is open: it hears when what somebody may do changes."""
        self._attending += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._attending -= 1
            self._rest()

    def _rest(self) -> None:
        if not self._subscribers and not self._attending:
            self._wanted.clear()
            self._wake.set()

    async def _missed(self, last_id: str) -> Sequence[Message]:
        if not (last_id.isascii() and last_id.isdecimal() and len(last_id) <= 18):
            return ()
        sent = [message.id for message in self._log]
        if last_id in sent:
            return list(self._log)[sent.index(last_id) + 1 :]
        rows = await self._services.pool.fetch(_SINCE, int(last_id), _MOST_MISSED)
        return [_message(row, self._services.profiles) for row in rows]

    # ------------------------------------------------------------ the listener
    async def run(self) -> None:
        """Listen whenever somebody is connected."""
        away = False
        while True:
            await self._wanted.wait()
            try:
                await self._follow()
                away = False
            except AWAY as exc:
                notice_cancellation()
                if not away:
                    log.warning("events.store_away", reason=type(exc).__name__)
                away = True
                await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        """Tell what happens until nobody is connected any more."""
        async with self._services.pool.acquire() as connection:
            await connection.add_listener(CHANNEL, self._on_notify)
            await connection.add_listener(ACCESS, self._on_access)
            await connection.add_listener(STEPS, self._on_command_step)
            connection.add_termination_listener(self._on_end)
            try:
                await self._catch_up(connection)
                self._listening.set()
                while self._wanted.is_set():
                    await self._step(connection)
            finally:
                self._listening.clear()  # before any await: nobody may join a listener that is about to leave
                with suppress(asyncpg.InterfaceError):  # it ended by itself
                    connection.remove_termination_listener(self._on_end)
                    connection.terminate()  # not UNLISTEN, which waits for ever on a line that went silent
        self._log.clear()  # what happens while nobody listens will not be in it
        self._newest = None

    async def _catch_up(self, connection: asyncpg.Connection) -> None:
        """Begin with now; after a lost connection, tell first what happened meanwhile."""
        if self._newest is not None:
            told = {message.id for message in self._log}
            rows = await connection.fetch(_SINCE, max(0, self._newest - _OUT_OF_ORDER), _MOST_MISSED)
            self._tell_alarms(row for row in rows if str(row["event_id"]) not in told)
        else:
            self._newest = await connection.fetchval(_NEWEST)
            self._map = {each.key: each for each in await map_devices(connection)}

    async def _step(self, connection: asyncpg.Connection) -> None:
        """Tell new alarm events at once, and then, or after a second, which devices look different now."""
        if len(self._told) == _QUEUE:  # more may have been told than remembered
            self._told.clear()
            await self._catch_up(connection)
        elif self._told:
            ids = [self._told.popleft() for _ in range(len(self._told))]
            self._tell_alarms(await connection.fetch(_THESE, ids))
        if self._steps:
            steps, self._steps = list(self._steps), set()
            for row in await connection.fetch(_STEPS, steps):
                self._tell(_step_message(row))
        began = asyncio.get_running_loop().time()
        if self._subscribers:
            self._tell_map({each.key: each for each in await map_devices(connection)})
        took = asyncio.get_running_loop().time() - began
        with suppress(TimeoutError):
            async with asyncio.timeout(max(_PERIOD_S, took * _SHARE)):
                await self._wake.wait()
        self._wake.clear()
        if connection.is_closed():
            raise asyncpg.InterfaceError("the listening connection is gone")

    def _on_notify(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        self._told.extend(int(each) for each in payload.split(",") if each.isdecimal())
        self._wake.set()

    def _on_command_step(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        """Remember it for the next look, within a second: an order to a city must not make a thousand looks."""
        if not self._subscribers or not payload.isdecimal():
            return
        if len(self._steps) < _QUEUE:
            self._steps.add(int(payload))
        else:
            self._services.counters.count("sse_steps_dropped")

    def _on_access(self, *_: object) -> None:
        self.access += 1
        for subscriber in self._subscribers:
            subscriber.wake()

    def _on_end(self, *_: object) -> None:
        self._wake.set()

    def _tell_alarms(self, rows: Iterable[asyncpg.Record]) -> None:
        for row in rows:
            message = _message(row, self._services.profiles)
            self._newest = max(self._newest or 0, row["event_id"])
            self._log.append(message)
            self._tell(message)

    def _tell_map(self, now: dict[str, MapDevice]) -> None:
        before, self._map = self._map, now
        for key, device in now.items():
            if before.get(key) != device:
                if key in before and before[key].area_id != device.area_id:  # first: who sees both areas keeps it
                    self._tell(_retired(before[key]))
                self._tell(_device_message(_map_shape(device), device.area_id))
        for key in before.keys() - now.keys():
            self._tell(_retired(before[key]))

    def _tell(self, message: Message) -> None:
        for subscriber in list(self._subscribers):
            if not subscriber.dropped.is_set() and not subscriber.put(message):
                self.count_dropped()


HUB: Final = web.AppKey("hub", Hub)


def _message(row: asyncpg.Record, profiles: Profiles) -> Message:
    alarm = from_record(row)
    device_class = profiles.classes.get(alarm.class_key or "")
    home = row["public"] is False and device_class is not None and device_class.household
    data, discreet = _happened(row, alarm, profiles), _happened(row, alarm, profiles, hidden=True) if home else ""
    return Message("alarm", data, str(row["event_id"]), row["where_id"], discreet)


def _happened(row: asyncpg.Record, alarm: AlarmRow, profiles: Profiles, *, hidden: bool = False) -> str:
    happened = shapes.AlarmHappened(
        event=shapes.AlarmEvent(
            id=row["event_id"],
            kind=row["kind"],
            at=row["at"],
            recorded_at=row["event_recorded_at"],
            by=row["by"],
            value=typed(row["event_value"], alarm, profiles, hidden=hidden),
            note=row["note"],
        ),
        alarm=alarm_shape(alarm, profiles, hidden=hidden),
    )
    return msgspec.json.encode(happened).decode()


def _step_message(row: asyncpg.Record) -> Message:
    step = msgspec.convert(dict(row), shapes.CommandStep)
    return Message("command", msgspec.json.encode(step).decode(), area_id=row["area_id"])


def _map_shape(device: MapDevice) -> shapes.MapDevice:
    return msgspec.convert(device, shapes.MapDevice, from_attributes=True)


def _retired(device: MapDevice) -> Message:
    """Tell those who saw a device where it was that it is not there any more."""
    gone = msgspec.structs.replace(_map_shape(device), state=shapes.DeviceState.RETIRED)
    return _device_message(gone, device.area_id)


def _device_message(shape: shapes.MapDevice, area_id: int | None) -> Message:
    return Message("device", msgspec.json.encode(shape).decode(), area_id=area_id)
