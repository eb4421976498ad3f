"""The connection that telemetry comes in by: nothing is acknowledged before `done()`, nothing grows without bound."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

import structlog

from drivers.mqtt.backoff import Backoff
from drivers.mqtt.link import connected, content_format
from drivers.mqtt.patience import Patience
from iot_core.errors import DriverUnavailable, StoreUnavailable
from iot_core.model import Uplink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.mqtt.link import Link, Message
    from drivers.mqtt.topics import Topics
    from iot_core.driver import DriverContext, Emit, Units
    from iot_core.model import Settle

__all__ = ["Intake"]

log = structlog.get_logger()

_MOST_UNFINISHED: Final = 12_000
"""Handed over and not yet done. With the link's own bounds this stays far from MQTT's 65,535 packet ids."""
_ASK_AGAIN_S: Final = 0.25
_TURN: Final = 256
"""Neither the link's queue nor a queue with room ever waits, so others get their turn after this many."""
_LAST_WORDS_S: Final = 1.0


class Intake:
    """Connects, hands over, comes back; logs when broker or store go and when they return."""

    def __init__(self, context: DriverContext, topics: Topics) -> None:
        self._context = context
        self._topics = topics
        self._patience_s = context.settings.mqtt.keepalive_s / 2
        self._store_away = False
        self.broker_away = False
        self._backoff = Backoff()
        self.subscribed = asyncio.Event()

    async def run(self, units: Units, emit: Emit) -> None:
        """Deliver until cancelled. The session stays with the broker, so whatever ends a connection loses nothing."""
        while True:
            try:
                await self._connection(units, emit)
                self._broker_is_away("connection closed")
            except DriverUnavailable as exc:
                self._broker_is_away(str(exc.facts.get("detail", "")))
            except StoreUnavailable:
                self._store_is_away()
            await self._backoff.wait()

    async def _connection(self, units: Units, emit: Emit) -> None:
        mqtt = self._context.settings.mqtt
        async with connected(self._context.broker, mqtt.client_id, mqtt, keep_session=True) as link:
            handover = Handover(link, self._context)
            # A backlog stands in front of the SUBACK: whoever waits for that before reading waits for ever.
            subscribing = asyncio.create_task(self._subscribe(link, units), name="mqtt subscribe")
            try:
                await self._read(link, handover, units, emit)
                await _ended(subscribing)
            except asyncio.CancelledError:
                await handover.finished(_LAST_WORDS_S)
                raise
            finally:
                subscribing.cancel()
                await asyncio.gather(subscribing, return_exceptions=True)

    async def _subscribe(self, link: Link, units: Units) -> None:
        try:
            await link.subscribe(self._topics.filters(), qos=1)
        except DriverUnavailable:
            await link.close()  # ends the reading, which says why
            raise
        self.subscribed.set()
        if not self._store_away:
            self._backoff.succeeded()
        if self.broker_away:
            self.broker_away = False
            log.info("mqtt.recovered", broker=self._context.broker.kind)
        await self._follow(link, units)

    async def _follow(self, link: Link, units: Units) -> None:
        """Subscribe to what profiles need that come while the core runs."""
        have = set(self._topics.filters())
        while True:
            await units.changed()
            wanted = [each for each in self._topics.renew() if each not in have]
            if wanted:
                await link.subscribe(wanted, qos=1)
                have.update(wanted)

    async def _read(self, link: Link, handover: Handover, units: Units, emit: Emit) -> None:
        async with Patience(self._patience_s) as patience:
            async for message in link.messages():
                if not link.up:
                    break  # what is left over comes again, and must not be stored for an acknowledgement that is lost
                if not handover.fresh(message):
                    await self._packet_id_twice(handover)
                    break
                sender = self._topics.sender(message.topic, units)
                if sender is None:
                    self._context.count("mqtt_topic_of_nobody")
                    await handover.acknowledge(message)
                    continue
                with patience:
                    await handover.room()
                    await self._hand_over(handover.uplink(message, *sender), emit)
                if handover.handed_over() % _TURN == 0:
                    await asyncio.sleep(0)

    async def _hand_over(self, uplink: Uplink, emit: Emit) -> None:
        """Emit; ask again as long as the connection can bear it, but no longer than once when the store was away."""
        while True:
            try:
                await emit(uplink)
            except StoreUnavailable:
                if self._store_away:
                    raise
                await asyncio.sleep(_ASK_AGAIN_S)
            else:
                if self._store_away:
                    self._store_away = False
                    self._backoff.succeeded()
                    log.info("mqtt.store_back")
                return

    async def _packet_id_twice(self, handover: Handover) -> None:
        """Finish what is under way and begin anew: of two messages with one packet id MQTTium keeps the first only."""
        self._context.count("mqtt_packet_id_twice")
        log.error("mqtt.packet_id_twice", broker=self._context.broker.kind)
        await handover.finished(self._patience_s)

    def _broker_is_away(self, detail: str) -> None:
        self._context.count("mqtt_disconnected")
        if not self.broker_away:
            self.broker_away = True
            log.warning("mqtt.broker_away", broker=self._context.broker.kind, detail=detail)

    def _store_is_away(self) -> None:
        self._context.count("mqtt_store_away")
        if not self._store_away:
            self._store_away = True
            log.warning("mqtt.store_away", waited_s=self._patience_s)


class Handover:
    """What one connection handed over and has not yet heard the outcome of."""

    def __init__(self, link: Link, context: DriverContext) -> None:
        self._link = link
        self._context = context
        self._unfinished = 0
        self._all = 0
        self._open: set[int | None] = set()
        self._changed = asyncio.Event()
        self._settle = cast("Settle", self._acknowledge_all)  # one object for all uplinks of this connection

    def uplink(self, message: Message, address: str, kind: str) -> Uplink:
        """Make the uplink of a message."""
        return Uplink(
            driver="mqtt",
            address=address,
            topic=message.topic,
            kind=kind,
            payload=message.payload,
            content_format=content_format(message),
            retained=message.retain,
            settle=self._settle,
            token=message,
        )

    async def _acknowledge_all(self, messages: Sequence[Message]) -> None:
        """Acknowledge what a flush committed."""
        for message in messages:
            await self.acknowledge(message)
        self._unfinished -= len(messages)
        self._changed.set()

    def fresh(self, message: Message) -> bool:
        """Note that a message is open; False when its packet id is, so that the broker used one id for two messages.

        That happens past 65,535 unacknowledged ones (Mosquitto 2.0.11 and a deep socket), and must never go unseen: we
        would acknowledge a message that we never read.
        """
        if message.mid is None:
            return True
        if message.mid in self._open:
            return False
        self._open.add(message.mid)
        return True

    async def acknowledge(self, message: Message) -> None:
        """Tell the broker that it may forget the message, if this connection still stands."""
        self._open.discard(message.mid)
        if await self._link.acknowledge(message):
            return
        # The broker delivers it again, and merging finds it stored.
        self._context.count("mqtt_stale_acknowledgement")
        if self._link.up:  # its id is in use for another message that we have not seen
            await self._link.close()

    def handed_over(self) -> int:
        """Count one more that the ingest path has; give how many it had from this connection."""
        self._unfinished += 1
        self._all += 1
        return self._all

    async def room(self) -> None:
        """Wait while too many are unfinished."""
        await self._below(_MOST_UNFINISHED)

    async def finished(self, seconds: float) -> None:
        """Wait until all are done, but not longer than that."""
        try:
            async with asyncio.timeout(seconds):
                await self._below(1)
        except TimeoutError:
            log.warning("mqtt.left_unacknowledged", messages=self._unfinished)

    async def _below(self, bound: int) -> None:
        while self._unfinished >= bound:
            self._changed.clear()
            await self._changed.wait()


async def _ended(subscribing: asyncio.Task[None]) -> None:
    """Raise what ended the subscription, if that is why the connection is gone."""
    if subscribing.done() and not subscribing.cancelled():
        await subscribing
