"""Sparkplug B's sessions: what a BIRTH said, so that the DATA after it can be read. No I/O but to remember.

NBIRTH, DBIRTH ---> names, aliases and types, kept over a restart ---> put into each DATA message that lacks them
NDEATH ----------> offline: the node and every device behind it; what was born is forgotten
unknown alias, a gap in seq, a birth from before our restart ---> the node is asked for its births again

Births and data come at QoS 0: while we are away a BIRTH can be missed. Until the node is born again, what rests on an
older BIRTH is marked stale (`uncertain` in the table). A will has QoS 1 and waits in our session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from iot_core import sparkplug
from iot_core.errors import DecodeError
from iot_core.sparkplug import Born, Kind, Topic

if TYPE_CHECKING:
    from iot_core.driver import Count, Sessions

__all__ = ["Births", "Heard", "State"]

log = structlog.get_logger()

_NODES: Final = 20_000
_DEVICES: Final = 2_000
"""Behind one node. It chooses their names, so births of more are read as they come and not remembered."""
_ASK_AGAIN_S: Final = 30.0
_SEQ: Final = 256


class State(msgspec.Struct, frozen=True):
    """What is remembered of a node or device: what it was born with, and when it last died (seconds since 1970)."""

    born: Born | None = None
    died: float = 0.0


@dataclass(slots=True)
class _Node:
    """An edge node; its own state has the name ''."""

    states: dict[str, State] = field(default_factory=dict)
    sure: set[str] = field(default_factory=set)
    """Whose birth is the newest for certain: heard by us, with no gap since."""
    seq: int | None = None
    asked_at: float = float("-inf")

    def born(self, device: str) -> Born | None:
        state = self.states.get(device)
        return None if state is None else state.born

    def has_room(self, device: str) -> bool:
        return device in self.states or not device or len(self.states) < _DEVICES


@dataclass(frozen=True, slots=True)
class Heard:
    """What to do with a message."""

    payload: bytes
    """It, with everything said that a profile needs; as it came where that is not known."""
    dead: tuple[Topic, ...] = ()
    """Devices that went with their node, which say so in no message of their own."""
    kept: Mapping[str, bytes] = field(default_factory=dict)
    """What to remember, by address, before it is acknowledged."""
    ask: bool = False
    """The node shall say its births again."""
    waited_since: datetime | None = None
    """After a birth: what is held for it since then can be read now."""
    outdated: bool = False
    """A will of a connection before the present one: it says nothing."""


class Births:
    """All edge nodes that were heard."""

    def __init__(self, count: Count, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._nodes: dict[str, _Node] = {}

    def connected(self) -> None:
        """Doubt all births: one may have been missed since the connection before."""
        for node in self._nodes.values():
            node.sure.clear()
            node.seq = None

    async def recall(self, topic: Topic, memory: Sessions | None) -> None:
        """Recall a node that this run of the core has not heard yet. Raises StoreUnavailable."""
        address = topic.node_address
        if address in self._nodes:
            return
        remembered = {} if memory is None else await memory.recall(address)
        if len(self._nodes) >= _NODES:  # senders choose the names, so they do not choose the size; nothing is lost
            self._nodes.clear()
        states: dict[str, State] = {}
        for known, said in remembered.items():
            try:
                states[known.removeprefix(address).removeprefix("/")] = msgspec.msgpack.decode(said, type=State)
            except msgspec.DecodeError:
                log.warning("sparkplug.not_recalled", address=known)
        self._nodes[address] = _Node(states)

    def heard(self, topic: Topic, payload: bytes, at: datetime) -> Heard:
        """Take a message of a node that was recalled; whatever its bytes are, it goes on."""
        node = self._nodes[topic.node_address]
        try:
            message = sparkplug.parse(payload) if payload else None
        except DecodeError:
            return Heard(payload)
        if topic.kind is Kind.NDEATH:
            return self._node_died(node, topic, message, payload, at)
        gap = self._count_on(node, topic, message)
        if topic.kind is Kind.DDEATH:
            ended = [topic.device] if node.has_room(topic.device) else []
            return Heard(payload, kept=self._end(node, topic, at, ended), ask=gap and self._may_ask(node))
        if message is None:
            return Heard(payload)
        if topic.kind.birth:
            return self._born(node, topic, message, payload, at)
        return self._data(node, topic, message, payload, gap=gap)

    def completed(self, topic: Topic, payload: bytes) -> bytes | None:
        """Read what was held for want of a birth; None where it is not that which it lacks."""
        node = self._nodes[topic.node_address]
        try:
            message = sparkplug.parse(payload)
        except DecodeError:
            return None
        _, rests = sparkplug.complete(message, node.born(topic.device), sure=topic.device in node.sure)
        return bytes(message.SerializeToString()) if rests else None

    def _data(self, node: _Node, topic: Topic, message: Any, payload: bytes, *, gap: bool) -> Heard:
        born, sure = node.born(topic.device), topic.device in node.sure
        whole, rests = sparkplug.complete(message, born, sure=sure)
        if not whole:
            self._count("sparkplug_unborn")
        ask = (gap or not whole or (rests and not sure)) and self._may_ask(node)
        return Heard(bytes(message.SerializeToString()) if rests else payload, ask=ask)

    def _born(self, node: _Node, topic: Topic, message: Any, payload: bytes, at: datetime) -> Heard:
        if not node.has_room(topic.device):
            self._count("sparkplug_too_many_devices")
            return Heard(payload)
        born, before = sparkplug.born(message), node.states.get(topic.device, State())
        changed = topic.kind is Kind.NBIRTH and before.born is not None and before.born.bd_seq != born.bd_seq
        if topic.kind is Kind.NBIRTH:
            node.sure.clear()  # its devices are born again after it
        node.sure.add(topic.device)
        state = State(born, at.timestamp() if changed else before.died)
        node.states[topic.device] = state
        kept = {} if state == before else {topic.address: msgspec.msgpack.encode(state)}
        ended = max(state.died, node.states.get("", State()).died)
        return Heard(payload, kept=kept, waited_since=datetime.fromtimestamp(ended, UTC))

    def _node_died(self, node: _Node, topic: Topic, message: Any, payload: bytes, at: datetime) -> Heard:
        mine = node.born("")
        said = sparkplug.born(message).bd_seq if message is not None else None
        if mine is not None and None not in {said, mine.bd_seq} and said != mine.bd_seq:
            self._count("sparkplug_outdated_death")
            return Heard(payload, outdated=True)
        own = node.states.get("", State())
        devices = sorted(name for name, state in node.states.items() if name and _goes_with(state, own))
        kept = self._end(node, topic, at, ["", *devices])
        node.seq = None
        dead = tuple(Topic(topic.group, Kind.DDEATH, topic.node, name) for name in devices)
        return Heard(payload, dead=dead, kept=kept)

    def _end(self, node: _Node, topic: Topic, at: datetime, names: list[str]) -> dict[str, bytes]:
        """Forget what was born: whoever speaks again says it anew."""
        ended = State(None, at.timestamp())
        node.states.update(dict.fromkeys(names, ended))
        node.sure.difference_update(names)
        address = topic.node_address
        return {f"{address}/{name}" if name else address: msgspec.msgpack.encode(ended) for name in names}

    def _count_on(self, node: _Node, topic: Topic, message: Any) -> bool:
        """Follow `seq`, which wraps after 255; say whether messages are missing, a birth perhaps among them."""
        if message is None or not message.HasField("seq"):
            return False
        before, node.seq = node.seq, message.seq
        if topic.kind is Kind.NBIRTH or before is None or message.seq in {before, (before + 1) % _SEQ}:
            return False
        node.sure.clear()
        self._count("sparkplug_gap")
        return True

    def _may_ask(self, node: _Node) -> bool:
        now = self._clock()
        if now - node.asked_at < _ASK_AGAIN_S:
            return False
        node.asked_at = now
        return True


def _goes_with(device: State, node: State) -> bool:
    """Say whether a device dies with its node: it lives, or died with it by this will, which comes a second time.

    A will that was heard and not stored (the store went away, the core died) is delivered again, and its devices'
    deaths were lost with it.
    """
    again = node.born is None and node.died > 0
    return device.born is not None or (again and device.died == node.died)
