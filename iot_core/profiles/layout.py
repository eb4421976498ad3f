"""Raw bytes -> values and back: a head of fixed fields, then blocks, then records that say by a key what they are.

frame = head | block | block | ... | record | record | ... | tail | checksum
         each may have a time and a channel of its own; what has none is the message's, and one sample
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from iot_core.errors import DecodeError
from iot_core.model import Problem, Reason, Sample, Value
from iot_core.profiles.checksums import Checksum
from iot_core.profiles.fields import Field, Group, Trace, When, collect
from iot_core.profiles.mbus import record_sizes
from iot_core.profiles.places import Bytes, Stamp, shift_of
from iot_core.profiles.values import Cases, Codec

if TYPE_CHECKING:
    from iot_core.profiles.text_format import TextFormat

__all__ = ["Block", "ChannelFrom", "Every", "Frame", "Gathered", "Layout", "Record", "Records", "TextPart", "keys_of"]

_MOST_BLOCKS: Final = 4096


@dataclass(slots=True)
class Gathered:
    """What one frame says, while it is read."""

    arrival: datetime
    trace: Trace | None
    time: datetime | None = None
    """What the frame says of its own time."""
    now: dict[str, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)
    """Channel -> values and extra of what has no time of its own."""
    samples: list[Sample] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    clock: datetime | None = None
    """The last time that a part said: what repetitions after it count from."""
    last: dict[tuple[str, str], float] = field(default_factory=dict)
    """Channel and metric -> the last number: what differences are added to."""

    def collect(self, fields: tuple[Field[bytes], ...], data: bytes, channel: str) -> dict[str, Any]:
        """Read fields; a difference is added to the number before it."""
        values = collect(fields, data, self.problems, self.trace)
        for each in fields:
            key = each.codec.key
            value = values.get(key)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            if each.delta:
                before = self.last.get((channel, key))
                if before is None:
                    del values[key]
                    self.problems.append(Problem(Reason.BAD_FIELD, f"{key}: nothing to count from", data.hex()))
                    continue
                values[key] = value = round(before + each.delta * value, 9)
            self.last[channel, key] = value
        return values

    def add(self, channel: str, time: datetime | None, values: dict[str, Any], extra: dict[str, Any]) -> None:
        """Keep what a part says: with a time of its own it is a sample from memory."""
        if time is not None:
            if values:
                self.samples.append(Sample(values, time, channel, extra=extra or None, element=True))
            return
        if values or extra:
            own = self.now.setdefault(channel, ({}, {}))
            own[0].update(values)
            own[1].update(extra)

    def all(self) -> list[Sample]:
        """Give the samples: what is now first, then what comes from memory."""
        now = [
            Sample(values, self.time, channel, extra=extra or None)
            for channel, (values, extra) in self.now.items()
            if values
        ]
        return [*now, *self.samples]


@dataclass(frozen=True, slots=True)
class ChannelFrom:
    """A channel whose name is fixed, or stands in the bytes."""

    name: str = ""
    place: Bytes | None = None
    names: Mapping[object, str] = field(default_factory=dict)

    def of(self, data: bytes) -> str:
        """Name it. Raises DecodeError when the bytes say a channel that the profile does not know."""
        if self.place is None:
            return self.name
        raw = self.place.locate(data)
        if self.names:
            if not isinstance(raw, (int, str)) or raw not in self.names:
                raise DecodeError(Reason.BAD_FIELD, f"channel {raw} is none of {', '.join(map(str, self.names))}")
            return self.names[raw]
        return str(raw)

    @property
    def known(self) -> tuple[str, ...]:
        """The channels that can be named beforehand."""
        return tuple(self.names.values()) if self.names else (self.name,)

    def raw(self, channel: str) -> object:
        """Give what the bytes say for a channel."""
        return next((raw for raw, name in self.names.items() if name == channel), channel)


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text among bytes: from a byte on, to the end of the head, or behind it to the end."""

    at: int
    format: TextFormat

    def read(self, data: bytes, into: Gathered) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read the row that stands there; what fills up a fixed length is no part of it."""
        text = data[self.at :].decode("utf-8", "replace").strip(" \0\r\n\t")
        _, values, extra = self.format.row(text, into.problems, into.trace)
        return values, extra or {}

    def write(self, values: Mapping[str, Value], head: bytearray) -> bytes:
        """Write it into the head, or give what follows it."""
        said = self.format.line(values).encode()
        room = len(head) - self.at
        if room <= 0:
            return said
        head[self.at :] = said[:room].ljust(room, b"\0")
        return b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A head of `length` bytes, and what follows it."""

    length: int = 0
    fields: tuple[Field[bytes], ...] = ()
    extra: tuple[Field[bytes], ...] = ()
    time: Stamp | None = None
    channel: ChannelFrom | None = None
    groups: tuple[Group[bytes], ...] = ()
    """Further devices that the same head speaks of."""
    blocks: tuple[Block, ...] = ()
    records: Records | None = None
    rest: bool = False
    """More bytes may follow, of which nothing is known."""
    text: TextPart | None = None

    @property
    def open(self) -> bool:
        """Say whether the length of the whole is not fixed."""
        return bool(self.blocks) or self.records is not None or self.rest or self._text_follows

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that its head says, of whichever device."""
        groups = (key for group in self.groups for key in group.keys)
        return tuple(dict.fromkeys((*keys_of(self.fields), *groups, *(self.text.format.keys if self.text else ()))))

    @property
    def _text_follows(self) -> bool:
        return self.text is not None and self.text.at >= self.length

    def parts(self) -> Iterable[Layout]:
        """Give this layout and everything in it."""
        yield self
        for block in self.blocks:
            yield from block.layout.parts()
        if self.records is not None:
            for record in self.records.known.values():
                yield from record.layout.parts()

    def read(self, data: bytes, into: Gathered, channel: str, time: datetime | None) -> int | None:
        """Read it from the beginning of `data`; give how many bytes it took, None when it cannot go on."""
        if len(data) < self.length:
            into.problems.append(Problem(Reason.TRUNCATED, f"{len(data)} bytes, {self.length} expected", data.hex()))
            return None
        try:
            channel = channel if self.channel is None else self.channel.of(data)
        except DecodeError as exc:
            into.problems.append(Problem(exc.reason, exc.detail, data[: self.length].hex()))
            if not self.open:
                return self.length
            into, channel = Gathered(into.arrival, None), ""  # what follows is read only to know where it ends
        values = into.collect(self.fields, data, channel)
        extra = collect(self.extra, data, into.problems, into.trace)
        into.add(channel, time, values, extra)
        for group in self.groups:
            values = into.collect(group.fields, data, group.channel)
            into.add(group.channel, time, values, collect(group.extra, data, into.problems, into.trace))
        at = self.length
        if self.text is not None:
            at = len(data) if self._text_follows else at
            values, extra = self.text.read(data[:at], into)
            into.add(channel, time, values, extra)
        for block in self.blocks:
            end = block.read(data, at, into, channel, time)
            if end is None:
                return None
            at = end
        if self.records is not None:
            self.records.read(data[at:], into, channel, time)
            return len(data)
        return at

    def write(self, values: Mapping[str, Value], channel: str) -> bytearray:
        """Write the head, and the blocks and records that carry any of the values."""
        head = bytearray(self.length)
        _fill((*self.extra, *self.fields), values, head)
        for group in self.groups:
            if group.channel == channel:
                _fill((*group.extra, *group.fields), values, head)
        if self.channel is not None and self.channel.place is not None:
            raw = self.channel.raw(channel)
            self.channel.place.place(int(raw) if isinstance(raw, str) and raw.isdigit() else raw, head)
        tail = bytearray(self.text.write(values, head) if self.text is not None else b"")
        for block in self.blocks:
            whole = len(tail) + block.always
            if block.carries(values, channel):
                tail += block.layout.write(values, channel)
                if block.when is not None:
                    _meet(block.when, head)
                if isinstance(block.count, Bytes):
                    block.count.place(1, head)
            tail += bytes(max(whole - len(tail), 0))
        if self.records is not None:
            tail += self.records.write(values, channel)
        return head + tail


@dataclass(frozen=True, slots=True)
class Every:
    """How far repetitions are apart in time, where the frame itself says it."""

    place: Bytes
    scale: float
    """Seconds a count; below 0 where each is older than the one before."""

    def of(self, data: bytes) -> timedelta | None:
        """Read it; None when the bytes say none."""
        try:
            raw = self.place.locate(data)
            return timedelta(seconds=raw * self.scale) if isinstance(raw, (int, float)) and raw else None
        except (DecodeError, OverflowError, ValueError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part that follows: perhaps only when a flag says so, perhaps again and again."""

    layout: Layout
    when: When[bytes] | None = None
    optional: bool = False
    """It may be missing at the end of the frame."""
    count: Bytes | int | None = None
    """How often; 0: to the end of the frame. None: once."""
    start: timedelta = timedelta(0)
    every: timedelta | Every = timedelta(0)
    """How far repetitions are apart in time; the first is `start` after the last time that was said."""
    reverse: bool = False
    """The last repetition is the first that is read. Of parts of fixed length."""

    def read(self, data: bytes, at: int, into: Gathered, channel: str, time: datetime | None) -> int | None:
        """Read it at its place; give where the next one begins, None when nothing can follow."""
        if self.when is not None and not self._asked(data, into):
            return at
        if self.optional and at >= len(data):
            return at
        times = self._times(data, at)
        every = self.every.of(data) if isinstance(self.every, Every) else self.every
        data = _turned(data, at, self.layout.length, times) if self.reverse else data
        for turn in range(times):
            if self.count == 0 and at >= len(data):
                break  # what is repeated may be longer than its head
            part = data[at:]
            if into.trace is not None:
                into.trace("block", f"+{at}", part[: self.layout.length].hex(" "), f"{self.layout.length} B")
            own, usable = self._time(part, into, time, turn, every)
            if len(part) < self.layout.length or usable:
                took = self.layout.read(part if self.layout.open else part[: self.layout.length], into, channel, own)
            elif self.layout.open:  # its parts are read only to know where it ends
                took = self.layout.read(part, Gathered(into.arrival, None), channel, own)
            else:
                took = self.layout.length
            if took is None:
                return None
            at += took
        if self.count == 0 and at < len(data):
            into.problems.append(Problem(Reason.TRUNCATED, f"byte {at}: {len(data) - at} bytes are left over"))
            return None
        return at

    def carries(self, values: Mapping[str, Value], channel: str) -> bool:
        """Say whether it is written for these values: a memory never is, a repetition once, for its channel."""
        if self.layout.time is not None or self.every:
            return False
        own = self.layout.channel
        if own is not None and channel not in own.known and (own.place is None or own.names):
            return False
        said = any(key in values for part in self.layout.parts() for key in part.keys)
        return said or (self.when is None and not self.optional and self.count is None)

    @property
    def always(self) -> int:
        """The bytes that it takes in every frame, also where it says nothing: a fixed number of repetitions."""
        fixed = isinstance(self.count, int) and self.when is None and not self.optional and not self.layout.open
        return self.layout.length * self.count if fixed and isinstance(self.count, int) else 0

    def _asked(self, data: bytes, into: Gathered) -> bool:
        assert self.when is not None
        try:
            return self.when.holds(data)
        except DecodeError as exc:
            into.problems.append(Problem(exc.reason, exc.detail))
            return False

    def _times(self, data: bytes, at: int) -> int:
        if self.count is None:
            return 1
        if isinstance(self.count, Bytes):
            try:
                raw = self.count.locate(data)
            except DecodeError:
                return 0
            return min(max(int(raw), 0), _MOST_BLOCKS) if isinstance(raw, (int, float)) else 0
        if self.count:
            return self.count
        return min((len(data) - at) // max(self.layout.length, 1), _MOST_BLOCKS)

    def _time(
        self, part: bytes, into: Gathered, time: datetime | None, turn: int, every: timedelta | None
    ) -> tuple[datetime | None, bool]:
        """Give the time of one repetition, and whether its values can be used."""
        if self.layout.time is not None:
            return _own_time(self.layout.time, part, self.layout.length, into)
        if not self.every:
            return time, True
        try:
            if every is not None or not turn:
                return (time or into.clock or into.arrival) + self.start + turn * (every or timedelta(0)), True
        except OverflowError:
            pass
        into.problems.append(Problem(Reason.BAD_TIME, "how far apart these are", part[: self.layout.length].hex()))
        return None, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What follows one key. `size` says where its length stands, if that is not fixed."""

    layout: Layout
    size: Bytes | None = None
    times: int = 1
    add: int = 0

    def carries(self, values: Mapping[str, Value], channel: str) -> bool:
        """Say whether it is written for these values: a memory never is, nor a state without a word for them."""
        own = self.layout.channel
        if self.layout.time is not None or (own is not None and own.place is None and own.name != channel):
            return False
        return not any(
            isinstance(each.codec, Cases) and each.codec.write(values) is None for each in self.layout.fields
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """A chain of records. An unknown key ends it, unless the chain itself says how long each record is."""

    known: Mapping[bytes, Record]
    sized: str = ""
    """`byte`: a byte behind each key says the length. `mbus`: the key does (EN 13757-3 DIF and VIF)."""
    mask: int = 0
    """The bits of a key that say what the record is; 0: all."""
    channel: int = 0
    """The bits of a key that name the channel; 0: none."""

    @property
    def names(self) -> tuple[str, ...]:
        """The channels that a key can name."""
        return tuple(str(number) for number in range((self.channel >> shift_of(self.channel)) + 1))

    @property
    def key_sizes(self) -> tuple[int, ...]:
        """The lengths of the keys, the longest first."""
        return tuple(sorted({len(key) for key in self.known}, reverse=True))

    def read(self, data: bytes, into: Gathered, channel: str, time: datetime | None) -> None:
        """Read records to the end."""
        at = 0
        while at < len(data):
            key = self._key(data, at)
            found = self._measured(data, at, key)
            if found is None:
                shown = data[at : at + min(self.key_sizes)]
                short = len(shown) < min(self.key_sizes)
                detail = f"byte {at}: {shown.hex()} is no key of this model"
                into.problems.append(Problem(Reason.TRUNCATED if short else Reason.BAD_FIELD, detail, data[at:].hex()))
                return
            begin, length = found
            body = data[begin : begin + length]
            if into.trace is not None:
                name = (key if key is not None else data[at:begin]).hex()
                into.trace("record", name, body.hex(" "), f"{len(body)}/{length} B" if key else "-")
            if len(body) < length:
                detail = f"{data[at:begin].hex()}: {len(body)} of {length} bytes"
                into.problems.append(Problem(Reason.TRUNCATED, detail, data[at:].hex()))
                return
            if key is not None:
                named = channel
                if self.channel:
                    bits = int.from_bytes(data[at : at + len(key)]) & self.channel
                    named = str(bits >> shift_of(self.channel))
                self._read_one(self.known[key], body, into, named, time)
            at = begin + length

    def _key(self, data: bytes, at: int) -> bytes | None:
        """Find the key that stands at a place, without the bits that are not part of it; None when none is known."""
        for size in self.key_sizes:
            key = data[at : at + size]
            if self.mask and len(key) == size:
                key = (int.from_bytes(key) & self.mask).to_bytes(size)
            if key in self.known:
                return key
        return None

    def _measured(self, data: bytes, at: int, key: bytes | None) -> tuple[int, int] | None:
        """Say where a record's body begins and how long it is; None when nobody can know."""
        if key is None:
            if self.sized == "byte" and at + min(self.key_sizes) < len(data):
                begin = at + min(self.key_sizes) + 1
                return begin, data[begin - 1]
            return record_sizes(data, at) if self.sized == "mbus" else None
        begin = at + len(key)
        record = self.known[key]
        if self.sized == "byte":
            return (begin + 1, data[begin]) if begin < len(data) else (begin, 1)
        if record.size is not None:
            try:
                raw = record.size.locate(data[begin:])
            except DecodeError:
                return begin, len(data)  # its own length is missing: it is cut off
            length = raw * record.times + record.add if isinstance(raw, int) else -1
            return begin, max(length, record.layout.length)
        return begin, record.layout.length

    @staticmethod
    def _read_one(record: Record, body: bytes, into: Gathered, channel: str, time: datetime | None) -> None:
        usable = True
        if record.layout.time is not None:
            time, usable = _own_time(record.layout.time, body, record.layout.length, into)
        if usable:
            record.layout.read(body, into, channel, time)

    def write(self, values: Mapping[str, Value], channel: str) -> bytes:
        """Write the records that carry any of the values; of several for one value the first."""
        written: set[str] = set()
        chain = bytearray()
        written_ones = [each.layout for each in self.known.values() if each.layout.time is None]  # no memory is
        named = any(each.channel is not None and channel in each.channel.known for each in written_ones)
        for key, record in self.known.items():
            inner = record.layout.records.known.values() if record.layout.records is not None else ()
            said = (*record.layout.keys, *(name for each in inner for name in each.layout.keys))
            wanted = {name for name in said if name in values} - written
            if not wanted or not record.carries(values, channel) or (named and record.layout.channel is None):
                continue
            body = record.layout.write(values, channel)
            if record.size is not None:
                record.size.place((len(body) - record.add) // record.times, body)
            chain += self._named(key, channel) + (bytes([len(body)]) if self.sized == "byte" else b"") + body
            written |= wanted
        return bytes(chain)

    def _named(self, key: bytes, channel: str) -> bytes:
        """Write a channel's number into a key. Raises ValueError when it does not fit."""
        if not self.channel:
            return key
        bits = int(channel or 0) << shift_of(self.channel)
        if bits & ~self.channel:
            raise ValueError(f"channel {channel} does not fit in the key")
        return (int.from_bytes(key) | bits).to_bytes(len(key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One kind of message: a layout, what must stand where for it to be this one, a tail and a checksum."""

    layout: Layout
    required: tuple[tuple[str, When[bytes]], ...] = ()
    checksum: Checksum | None = None
    tail: Block | None = None
    """What stands at the end, whatever comes before it."""

    def mismatch(self, data: bytes) -> Problem | None:
        """Say why these bytes are not this frame; None when they are."""
        for name, when in self.required:
            try:
                if when.holds(data):
                    continue
                reason, found = Reason.WRONG_FORMAT, f"{name} is {when.locate(data)}"
            except DecodeError as exc:
                reason, found = exc.reason, f"{name}: {exc.detail}"
            return Problem(reason if data else Reason.EMPTY, found, data.hex())
        return None

    def damage(self, data: bytes) -> Problem | None:
        """Say what is wrong with bytes that are meant as this frame; None when nothing is."""
        tail = self._tail(data)
        least = self.layout.length + (0 if tail is None else tail.length) + self._apart
        if len(data) < least or (len(data) > least and not self.layout.open):
            reason = Reason.EMPTY if not data else Reason.TRUNCATED if len(data) < least else Reason.BAD_FIELD
            return Problem(reason, f"{len(data)} bytes, {least} expected", data.hex())
        if self.checksum is not None and not self.checksum.holds(data):
            return Problem(Reason.CHECKSUM, self.checksum.name, data.hex())
        return None

    def read(self, data: bytes, into: Gathered) -> None:
        """Read bytes that are this frame."""
        data = data[: len(data) - self._apart]
        if self.layout.time is not None:
            into.time, _ = _own_time(self.layout.time, data, self.layout.length, into)
        data = self._without_tail(data, into)
        took = self.layout.read(data, into, "", None)
        if took is not None and took < len(data) and not self.layout.rest:
            into.problems.append(
                Problem(Reason.BAD_FIELD, f"byte {took}: {len(data) - took} bytes are left over", data[took:].hex())
            )

    @property
    def _apart(self) -> int:
        """The bytes of a checksum behind what the layout counts; those of a fixed frame without a tail are in it."""
        return self.checksum.size if self.checksum is not None and (self.layout.open or self.tail is not None) else 0

    def _tail(self, data: bytes) -> Layout | None:
        """Give the tail that these bytes have."""
        try:
            there = self.tail is not None and (self.tail.when is None or self.tail.when.holds(data))
        except DecodeError:
            return None
        return self.tail.layout if there and self.tail is not None else None

    def _without_tail(self, data: bytes, into: Gathered) -> bytes:
        """Read the tail, whose time is the frame's, and give what stands before it."""
        tail = self._tail(data)
        if tail is None:
            return data
        rest, own = data[: -tail.length], data[-tail.length :]
        if into.trace is not None:
            into.trace("block", f"+{len(rest)}", own.hex(" "), f"{tail.length} B")
        if tail.time is not None:
            into.time, _ = _own_time(tail.time, own, tail.length, into)
        tail.read(own, into, "", None)
        return rest

    def _end(self, values: Mapping[str, Value], channel: str, time: datetime, data: bytearray) -> bytearray:
        """Write the tail, and the flag in the head that says that it is there."""
        assert self.tail is not None
        tail = self.tail.layout.write(values, channel)
        if self.tail.layout.time is not None:
            self.tail.layout.time.write(time, time, tail)
        if self.tail.when is not None:
            _meet(self.tail.when, data)
        return tail

    def write(self, values: Mapping[str, Value], channel: str, time: datetime | None, arrival: datetime) -> bytes:
        """Write it backwards. Raises ValueError for a value that the wire cannot hold."""
        data = self.layout.write(values, channel)
        if self.tail is not None:
            data += self._end(values, channel, time or arrival, data)
        for _, when in self.required:
            if not when.holds(bytes(data)):  # a block may have said there already which kind it is
                _meet(when, data)
        if self.layout.time is not None and time is not None:
            self.layout.time.write(time, arrival, data)
        if self.checksum is not None:
            data += bytes(self._apart)
            self.checksum.put(data)
        return bytes(data)

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that it can say."""
        return tuple(dict.fromkeys(key for part in self.parts() for key in part.keys))

    def parts(self) -> Iterable[Layout]:
        """Give the layouts of head and tail, and everything in them."""
        yield from self.layout.parts()
        if self.tail is not None:
            yield from self.tail.layout.parts()

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it names; those that stand in the bytes without a list cannot be told."""
        names: list[str] = []
        keyed: set[int] = set()
        for part in self.parts():
            if part.records is not None and part.records.channel:
                names += part.records.names
                keyed.update(id(each) for record in part.records.known.values() for each in record.layout.parts())
            if part.channel is None and id(part) in keyed:
                continue
            if part.channel is None:
                names += [""] if (part.fields or part.text) and "" not in names else []
            else:
                names += part.channel.known
            names += [group.channel for group in part.groups]
        return tuple(dict.fromkeys(names))


def _meet(when: When[bytes], data: bytearray) -> None:
    """Write what must stand there for a condition to hold."""
    for place, raw in when.wanted:
        place.place(raw, data)


def _turned(data: bytes, at: int, length: int, times: int) -> bytes:
    """Turn round the order of the parts from `at` on; what follows them, or is cut off, stays where it is."""
    whole = min(times, (len(data) - at) // length)
    parts = [data[at + length * turn : at + length * (turn + 1)] for turn in reversed(range(whole))]
    return data[:at] + b"".join(parts) + data[at + length * whole :]


def keys_of(fields: tuple[Field[Any], ...]) -> tuple[str, ...]:
    """List the metrics that fields say."""
    return tuple(dict.fromkeys(key for each in fields for key in each.codec.keys))


def _own_time(stamp: Stamp, data: bytes, length: int, into: Gathered) -> tuple[datetime | None, bool]:
    """Read the time of a frame, block or record, and say whether there is one; bytes that are short are told later."""
    try:
        time = stamp.read(data[:length], into.arrival)
    except DecodeError:
        return None, len(data) < length
    if into.trace is not None:
        into.trace("time", "", stamp.place.text, time)
    if time is None:
        into.problems.append(Problem(Reason.BAD_TIME, part=data[:length].hex()))
    else:
        into.clock = time
    return time, time is not None


def _fill(fields: tuple[Field[bytes], ...], values: Mapping[str, Value], data: bytearray) -> None:
    """Write fields into their bytes; what is not given is unknown where the device has a word for that, else 0."""
    given = [each for each in fields if any(key in values for key in each.codec.keys)]
    # What is given comes last: where two stand in one place, it wins; and before it asks for a raw value of its own,
    # a truth about the same bytes ("it is 0xFFFF") is held against what stands there already.
    given.sort(key=_is_truth)
    written = (*(each for each in fields if each.when is None and each not in given), *given)
    for each in written:
        if each.place is not None and not (each in given and _says_so(each, values, data)):
            raw = each.raw(values)
            unknown = math.nan if each.place.wire.kind == "float" else 0
            each.place.place(unknown if raw is None else raw, data)
    for each in written:
        for place, wanted in each.beside:
            place.place(wanted, data)


def _is_truth(each: Field[bytes]) -> bool:
    return isinstance(each.codec, Codec) and each.codec.test is not None


def _says_so(each: Field[bytes], values: Mapping[str, Value], data: bytearray) -> bool:
    """Say whether the bytes, as they are filled so far, are read as this truth."""
    if not _is_truth(each) or not isinstance(each.codec, Codec):
        return False
    return each.codec.read(each.place.locate(bytes(data))) == values[each.codec.key]
