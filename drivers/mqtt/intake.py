"""Hands messages over to the ingest path: nothing is acknowledged before its commit, nothing grows without bound."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from drivers.mqtt.backoff import Backoff
from drivers.mqtt.discovery import Discovery, find_in
from drivers.mqtt.host import Host
from drivers.mqtt.patience import Patience
from drivers.mqtt.session import opened
from drivers.mqtt.sparkplug import Births
from drivers.mqtt.topics import NATIVE, inside
from iot_core import sparkplug
from iot_core.errors import DriverUnavailable, StoreUnavailable
from iot_core.model import FOUND, Reason, Uplink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from drivers.mqtt.session import Message, Session
    from drivers.mqtt.topics import Topics
    from iot_core.driver import DriverContext, Emit, Sessions, Units
    from iot_core.model import Numbers, Outcome

__all__ = ["Asks", "Intake"]

log = structlog.get_logger()

_MOST_UNFINISHED: Final = 12_000
"""Handed over and not yet done. With the link's own bounds this stays far from MQTT's 65,535 packet ids."""
_ASK_AGAIN_S: Final = 0.25
_TURN: Final = 256
"""Neither the link's queue nor a queue with room ever waits, so others get their turn after this many."""
_TOLD: Final = frozenset({"commands/result", "config/reported"})
"""What devices say of what they were told; it is no telemetry."""
_HEARD_ON: Final = 50_000
_LAST_WORDS_S: Final = 1.0
_SPARKPLUG: Final = f"{sparkplug.NAMESPACE}/"
_BETWEEN_ASKS_S: Final = 0.02
T = TypeVar("T")


class Intake:
    """Connects, hands over, comes back; logs when broker or store go and when they return."""

    def __init__(
        self, context: DriverContext, topics: Topics, committed: Callable[[Numbers], None], asks: Asks
    ) -> None:
        self._committed = committed
        self._context = context
        self._asks = asks
        self._births = Births(context.count)
        self._host = Host(context.settings.mqtt.sparkplug_host)
        self._topics = topics
        self._discovery = Discovery(topics)
        self._patience_s = context.settings.mqtt.keepalive_s / 2
        self._store_away = False
        self.broker_away = False
        self._backoff = Backoff()
        self.subscribed = asyncio.Event()
        self.heard_on: dict[str, str] = {}
        """The topic that a LoRaWAN unit was last heard on."""

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
        async with opened(self._context.broker, self._context.settings.mqtt, will=self._host.will()) as session:
            handover = Handover(session, self._context, self._committed)
            self._births.connected()
            # A backlog stands in front of the SUBACK: whoever waits for that before reading waits for ever.
            subscribing = asyncio.create_task(self._subscribe(session, units), name="mqtt subscribe")
            try:
                await self._read(session, handover, units, emit)
                await _ended(subscribing)
            except asyncio.CancelledError:
                await handover.finished(_LAST_WORDS_S)
                raise
            finally:
                subscribing.cancel()
                await asyncio.gather(subscribing, return_exceptions=True)
                if self._host.topic:
                    session.retain(self._host.topic, self._host.offline())

    async def _subscribe(self, session: Session, units: Units) -> None:
        try:
            await self._subscribed_to(session, [*self._topics.filters(), *filter(None, [self._host.topic])])
            self._arrived(session)
            await self._follow(session, units)
        except DriverUnavailable:
            session.close()  # ends the reading, which says why
            raise

    async def _subscribed_to(self, session: Session, filters: Sequence[str]) -> None:
        """Subscribe; a filter of one model that the broker refuses costs that model, not all others."""
        for refused, code in (await session.subscribe(filters)).items():
            if any(inside(own, refused) for own in NATIVE):
                raise DriverUnavailable("broker.away", detail=f"{refused}: SUBACK {code}")
            self._context.count("mqtt_filter_refused")
            log.error("mqtt.filter_refused", broker=self._context.broker.kind, filter=refused, code=code)

    def _arrived(self, session: Session) -> None:
        self.subscribed.set()
        if self._host.topic:
            session.retain(self._host.topic, self._host.online())
        if not self._store_away:
            self._backoff.succeeded()
        if self.broker_away:
            self.broker_away = False
            log.info("mqtt.recovered", broker=self._context.broker.kind)

    async def _follow(self, session: Session, units: Units) -> None:
        """Subscribe to what profiles need that come while the core runs."""
        have = set(self._topics.filters())
        while True:
            await units.changed()
            wanted = [each for each in self._topics.renew() if each not in have]
            if wanted:
                await self._subscribed_to(session, wanted)
                have.update(wanted)

    async def _read(self, session: Session, handover: Handover, units: Units, emit: Emit) -> None:
        async with Patience(self._patience_s) as patience:
            while messages := await session.take():
                for first in range(0, len(messages), _TURN):
                    turn = messages[first : first + _TURN]
                    if not session.up:  # what is left over comes again, and must not be stored twice; but for QoS 0
                        turn = [each for each in turn if each.packet_id is None]
                    with patience:
                        whole = await self._hand_all_over(turn, handover, units, emit)
                    if not whole:
                        await self._packet_id_twice(handover)
                        return
                    await asyncio.sleep(0)

    async def _hand_all_over(self, messages: Sequence[Message], handover: Handover, units: Units, emit: Emit) -> bool:
        """Hand messages over, in order; False at one whose packet id is open already."""
        for message in messages:
            if not handover.fresh(message):
                return False
            if Discovery.meant(message.topic):
                await self._discovered(message, handover, units, emit)
                continue
            if message.topic.startswith(_SPARKPLUG):
                await self._sparkplug(message, handover, units, emit)
                continue
            sender = self._topics.sender(message.topic, units)
            if sender is None:
                self._context.count("mqtt_topic_of_nobody")
                await handover.decline(message)
                continue
            address, kind = sender
            if kind in _TOLD and ((unit := units.at(address)) is None or not unit.revoked):
                await self._context.said(handover.uplink(message, address, kind))
                continue
            if address.startswith("lorawan:"):
                self._note(address, message.topic)
            if handover.full:
                await handover.room()
            await self._hand_over(handover.uplink(message, address, kind), emit)
        return True

    async def _discovered(self, message: Message, handover: Handover, units: Units, emit: Emit) -> None:
        """Let a device that says it is there wait in the inbox, unless it is registered."""
        found = self._discovery.heard(message.topic, message.payload, units)
        if found is None or units.at(found[0]) is not None:
            await handover.decline(message)
            return
        address, find = found
        if handover.full:
            await handover.room()
        await self._hand_over(find_in(handover.uplink(message, address, FOUND), find), emit)

    async def _sparkplug(self, message: Message, handover: Handover, units: Units, emit: Emit) -> None:
        """Hand over what an edge node says, whole; what was held for want of a birth follows that birth."""
        topic, memory = sparkplug.Topic.read(message.topic), self._context.sessions
        if topic is None:
            await self._of_no_node(message, handover)
            return
        if message.retained:  # forbidden, and of any age: nothing is learnt from it
            await self._hand_over(handover.uplink(message, topic.address, "telemetry"), emit)
            return
        await self._stored(partial(self._births.recall, topic, memory))
        heard = self._births.heard(topic, message.payload, message.received_at)
        if heard.outdated:
            await handover.decline(message)
            return
        if heard.kept and memory is not None:
            await self._stored(partial(memory.remember, heard.kept))
        if heard.ask:
            self._asks.put(topic)
        if handover.full:
            await handover.room()
        for dead in heard.dead:  # before the node's own word, which is acknowledged after all of them
            gone = Uplink(driver="mqtt", address=dead.address, topic=dead.text, received_at=message.received_at)
            await self._hand_over(gone, emit)
        uplink = handover.uplink(message, topic.address, "telemetry")
        uplink.payload = heard.payload
        await self._hand_over(uplink, emit)
        if heard.waited_since is not None and memory is not None:
            await self._after_birth(topic, heard.waited_since, memory, units, emit)

    async def _of_no_node(self, message: Message, handover: Handover) -> None:
        """Contradict who says that we are away; all else that no edge node says is nobody's."""
        if message.topic != self._host.topic:
            self._context.count("mqtt_topic_of_nobody")
        elif self._host.contradicted(message.payload):
            handover.retain(self._host.topic, self._host.online())
        await handover.decline(message)

    async def _after_birth(
        self, topic: sparkplug.Topic, since: datetime, memory: Sessions, units: Units, emit: Emit
    ) -> None:
        """Let what is held for want of this birth through the path again; it is held no longer once that is stored.

        What a stranger said waits on in the inbox, whole.
        """
        after = 0
        while rows := await self._stored(partial(memory.waiting, topic.address, since, after)):
            for number, mark, uplink in rows:
                after = number
                whole = self._births.completed(topic, uplink.payload)
                if whole is None:
                    continue
                if units.at(topic.address) is None:
                    await self._stored(partial(memory.mend, mark, whole))
                    continue
                uplink.payload, uplink.done = whole, partial(_let_go, memory, mark)
                await self._hand_over(uplink, emit)

    def _note(self, address: str, topic: str) -> None:
        """Remember through which application of a network server a unit speaks: its commands go back that way."""
        if len(self.heard_on) >= _HEARD_ON and address not in self.heard_on:
            self.heard_on.clear()  # senders choose the addresses, so they do not choose the size
        self.heard_on[address] = topic

    async def _hand_over(self, uplink: Uplink, emit: Emit) -> None:
        await self._stored(partial(emit, uplink))

    async def _stored(self, step: Callable[[], Awaitable[T]]) -> T:
        """Do what needs the store; again as long as the connection can bear it, but only once when it was away."""
        while True:
            try:
                done = await step()
            except StoreUnavailable:
                if self._store_away:
                    raise
                await asyncio.sleep(_ASK_AGAIN_S)
            else:
                if self._store_away:
                    self._store_away = False
                    self._backoff.succeeded()
                    log.info("mqtt.store_back")
                return done

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

    def __init__(self, session: Session, context: DriverContext, committed: Callable[[Numbers], None]) -> None:
        self._committed = committed
        self._inlet = session
        self._context = context
        self._unfinished = 0
        self._open: dict[int, bool] = {}
        """Packet id -> whether its message is committed, in the order of arrival."""
        self._changed = asyncio.Event()
        self.settle = self._settle  # one object for all uplinks of this connection

    def uplink(self, message: Message, address: str, kind: str) -> Uplink:
        """Make the uplink of a message, which from now on is unfinished."""
        self._unfinished += 1
        return Uplink(
            driver="mqtt",
            address=address,
            topic=message.topic,
            kind=kind,
            payload=message.payload,
            content_format=message.content_format,
            retained=message.retained,
            received_at=message.received_at,
            settle=self.settle,
            token=message.packet_id,
        )

    def fresh(self, message: Message) -> bool:
        """Note that a message is open; False when its packet id is, so that the broker used one id for two messages.

        That happens past 65,535 unacknowledged ones (Mosquitto 2.0.11 and a deep socket), and must never go unseen: we
        would acknowledge a message that is not stored.
        """
        packet_id = message.packet_id
        if packet_id is not None:
            if packet_id in self._open:
                return False
            self._open[packet_id] = False
        return True

    async def decline(self, message: Message) -> None:
        """Acknowledge a message that the ingest path has no use for."""
        self._unfinished += 1
        await self._settle([message.packet_id], {})

    async def _settle(self, packet_ids: Sequence[int | None], numbers: Numbers) -> None:
        """Tell the broker that it may forget what a flush committed, if this connection still stands.

        PUBACKs leave in the order of arrival [MQTT-4.6.0-2]: one waits for those of all earlier messages.
        """
        self._unfinished -= len(packet_ids)
        self._changed.set()
        self._committed(numbers)
        opened = self._open
        for packet_id in packet_ids:
            if packet_id is not None:
                opened[packet_id] = True
        ready = list(takewhile(opened.__getitem__, opened))
        for packet_id in ready:
            del opened[packet_id]
        if ready and not self._inlet.acknowledge(ready):
            # The broker delivers them again, and merging finds them stored.
            self._context.count("mqtt_stale_acknowledgement", len(ready))

    def retain(self, topic: str, payload: bytes) -> None:
        """Publish on the connection that this is about, for those who come later as well."""
        self._inlet.retain(topic, payload)

    @property
    def full(self) -> bool:
        """Whether too many are unfinished."""
        return self._unfinished >= _MOST_UNFINISHED

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


class Asks:
    """Edge nodes that are asked for their births, at a pace that a broker and a mobile network bear."""

    def __init__(self, ask: Callable[[str, bytes], Awaitable[bool]]) -> None:
        self._ask = ask
        self._nodes: dict[str, sparkplug.Topic] = {}
        self._news = asyncio.Event()

    def put(self, topic: sparkplug.Topic) -> None:
        """Let a node be asked soon, once however often this is said."""
        self._nodes[topic.node_address] = topic
        self._news.set()

    async def run(self) -> None:
        """Ask until cancelled; a question that nobody took is asked when the node speaks again."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._nodes:
                _, topic = self._nodes.popitem()
                await self._ask(*sparkplug.rebirth(topic.group, topic.node, round(time.time() * 1000)))
                await asyncio.sleep(_BETWEEN_ASKS_S)


async def _let_go(memory: Sessions, mark: bytes, outcome: Outcome) -> None:
    """Hold a message no longer, unless it only came when there were too many."""
    if all(problem.reason is not Reason.RATE for problem in outcome.problems):
        await memory.let_go(mark)


async def _ended(subscribing: asyncio.Task[None]) -> None:
    """Raise what ended the subscription, if that is why the connection is gone."""
    if subscribing.done() and not subscribing.cancelled():
        await subscribing
