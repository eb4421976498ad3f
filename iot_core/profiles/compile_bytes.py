"""The `bytes` table of a profile -> frames."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from iot_core.profiles.bytes_format import BytesFormat
from iot_core.profiles.checksums import CHECKSUMS, LITTLE, Checksum, crc
from iot_core.profiles.compile_messages import read_span, text_fields
from iot_core.profiles.fields import Group
from iot_core.profiles.layout import Block, ChannelFrom, Every, Frame, Layout, Record, Records, TextPart
from iot_core.profiles.near import like
from iot_core.profiles.places import (
    AtSpec,
    Bytes,
    ByteSpec,
    TimeSpec,
    WhenSpec,
    compile_bytes,
    compile_stamp,
)
from iot_core.profiles.table import Table
from iot_core.profiles.text_format import TextFormat
from iot_core.profiles.values import scale_of
from iot_core.profiles.wire import Endian, wire_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from iot_core.profiles.document import Place
    from iot_core.profiles.entries import Entries

__all__ = ["BlockSpec", "BytesSpec", "FrameSpec", "RecordSpec", "byte_place", "compile_bytes_format"]

_LONGEST: Final = 10_000
"""Bytes of a frame, block or record."""
_LONGEST_SPAN: Final = 400 * 86400
_MOST_BITS: Final = 8
"""That name a channel."""


class ChecksumSpec(Table, frozen=True, kw_only=True):
    """A checksum at the end of a frame."""

    kind: str
    """One of those by name, or `crc` with the keys below."""
    start: int = 0
    """The first byte that it covers."""
    endian: Endian | None = None
    """How its bytes stand, where they do so otherwise than by its name; of `crc` big unless said."""
    bits: Literal[8, 16, 24, 32] = 16
    polynomial: int | None = None
    """Of `crc`, in normal form as catalogues have it: 0x1021."""
    init: int = 0
    reflected: bool = False
    """The lowest bit of each byte goes first."""
    xor: int = 0
    """What the result is XORed with."""


class ChannelSpec(AtSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A channel whose name stands in the bytes."""

    names: dict[str | int, str] = msgspec.field(default_factory=dict)
    """Raw value -> channel; without it the raw value itself is the name."""


class LengthSpec(AtSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record's length, where the record says it: bytes behind the key = raw x times + add."""

    times: int = 1
    add: int = 0


class KeySpec(Table, frozen=True, kw_only=True):
    """What the bits of a record's key mean, where not all of them say what it is."""

    mask: int
    """The bits that say what it is: 0x1F."""
    channel: int = 0
    """The bits that name its channel, a number from 0 on: 0xE0."""


class LayoutSpec(Table, frozen=True, kw_only=True):
    """A head of fixed length, and what follows it."""

    length: int = 0
    """The bytes of the head. A frame without blocks, records or `rest` is exactly so long."""
    time: TimeSpec | None = None
    """When this was measured. In a block or record it makes a sample of its own, from the device's memory."""
    channel: str | int | ChannelSpec | None = None
    """Which of the unit's devices it speaks of."""
    values: Any = None
    states: Any = None
    extra: Any = None
    channels: dict[str, Any] = msgspec.field(default_factory=dict)
    """`values`, `states` and `extra` of further devices that the same bytes speak of, by channel."""
    blocks: list[Any] = msgspec.field(default_factory=list)
    """What follows the head, one after the other; places in a block count from its own beginning."""
    records: dict[str, Any] = msgspec.field(default_factory=dict)
    """What follows then: records by their key in hexadecimal (of any size; the longest that fits is meant)."""
    key: KeySpec | None = None
    """Of `records`: the bits of a key that count, and those that name the channel: `{mask: 0x1F, channel: 0xE0}`."""
    sized: Literal["", "byte", "mbus"] = ""
    """How unknown records are stepped over: `byte`, each key is followed by the length; `mbus`, by DIF and VIF."""
    rest: bool = False
    """More bytes may follow, and are not looked at."""
    text: Any = None
    """Text among the bytes: an SDI-12 answer behind a battery's voltage."""


class TextPartSpec(Table, frozen=True, kw_only=True):
    """Text among bytes; its values as in `text`."""

    at: int = 0
    """The byte it begins at. Within the head it ends with it, filled up with zeros; behind it, it goes to the end."""
    split: str | list[str] = ""
    """What stands between the fields, as in `text`."""
    pairs: str = ""
    """What stands between a field's name and its value: `=`."""
    values: Any = None
    states: Any = None
    extra: Any = None


class FrameSpec(LayoutSpec, frozen=True, kw_only=True):
    """One kind of message."""

    endian: Endian | None = None
    """`big` (default) or `little`; a field may have its own."""
    require: dict[str, WhenSpec] = msgspec.field(default_factory=dict)
    """What must stand where for the message to be this one: `{kind: {at: 1, equals: 0x11}}`."""
    checksum: str | ChecksumSpec = ""
    """The last bytes, over all before them: `sum8 sum8_zero sum16 xor8 crc8 crc8_sensirion crc16_modbus crc16_ccitt
    crc16_xmodem crc16_arc crc16_x25`, or a table."""
    tail: Any = None
    """A block at the end of the frame, of fixed length, before the checksum: its `time` is the frame's. The frame's
    `length` then counts neither of the two."""


class BytesSpec(FrameSpec, frozen=True, kw_only=True):
    """The keys of `bytes`."""

    encoding: Literal["raw", "hex", "base64"] = "raw"
    """How the bytes are written, where they come as text."""
    frames: list[Any] = msgspec.field(default_factory=list)
    """Several kinds of message, told apart by `require` and by length; the first that fits is meant."""


class EverySpec(AtSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place in the head before the block that says how far repetitions are apart."""

    scale: float | int
    """Seconds a count, below 0 where each is older than the one before: -60 for minutes back."""


class BlockSpec(LayoutSpec, frozen=True, kw_only=True):
    """The keys of a block."""

    when: WhenSpec | list[WhenSpec] | None = None
    """It is there only when this holds in the head before it: a bit of a flags word. Of a list all must hold."""
    optional: bool = False
    """It may be missing at the end."""
    repeat: Literal["end"] | int | AtSpec | None = None
    """Again and again: to the `end`, a number of times, or as often as a place in the head says."""
    start: str = "0s"
    every: str | EverySpec = ""
    """Of repetitions without a time of their own: how far apart, `-10m` when each is older than the one before, or
    where the frame says it: `{at: 1, scale: -60}`, minutes. The first is `start` from the last time that the frame
    said, else from the message's."""
    reverse: bool = False
    """The last of the repetitions is read first: of differences or times that count back from a newest at the end."""


class RecordSpec(LayoutSpec, frozen=True, kw_only=True):
    """The keys of a record."""

    length: int | LengthSpec = 0  # type: ignore[assignment]
    """The bytes behind the key, or where the record itself says how many."""


def compile_bytes_format(entries: Entries, place: Place) -> BytesFormat:
    """Compile the `bytes` table at a place. Raises ConfigError."""
    spec = entries.document.read(place, BytesSpec)
    if not spec.frames:
        return BytesFormat((_frame(entries, place, spec, "big"),), spec.encoding)
    own = {"frames", "endian", "encoding"}
    other = [key for key in entries.document.table(place) if key not in own]
    if other:
        raise entries.document.error((*place, other[0]), "this key inside a frame, because there are frames")
    frames = []
    for index in range(len(spec.frames)):
        where = (*place, "frames", index)
        frames.append(_frame(entries, where, entries.document.read(where, FrameSpec), spec.endian or "big"))
    return BytesFormat(tuple(frames), spec.encoding)


def _frame(entries: Entries, place: Place, spec: FrameSpec, default: Endian) -> Frame:
    endian = spec.endian or default
    document = entries.document
    if not spec.length and not spec.blocks and not spec.records and not spec.text:
        raise document.error(place, "length (of a fixed frame or head), blocks, records, text or frames")
    layout = _layout(entries, place, spec, endian)
    required = []
    for name, condition in spec.require.items():
        where = (*place, "require", name)
        if condition.equals is None and condition.between is None:
            raise document.error(where, "equals: what must stand there")
        size = spec.length or _LONGEST
        required.append((name, entries.condition(where, condition, partial(byte_place, entries, endian, size))))
    return Frame(
        layout=layout,
        required=tuple(required),
        checksum=_checksum(entries, (*place, "checksum"), spec.checksum),
        tail=_tail(entries, (*place, "tail"), endian, spec.length) if spec.tail is not None else None,
    )


def _tail(entries: Entries, place: Place, endian: Endian, head: int) -> Block:
    tail = _block(entries, place, endian, head)
    if tail.layout.open or tail.count is not None or tail.optional or not tail.layout.length:
        raise entries.document.error(place, "a block of fixed length, and nothing repeated or optional in it")
    return tail


def _checksum(entries: Entries, place: Place, spec: str | ChecksumSpec) -> Checksum | None:
    if not spec:
        return None
    spec = ChecksumSpec(kind=spec) if isinstance(spec, str) else spec
    if spec.start < 0:
        raise entries.document.error((*place, "start"), "a byte from 0 on")
    if (spec.kind == "crc") != (spec.polynomial is not None):
        raise entries.document.error((*place, "polynomial"), "a polynomial exactly beside kind: crc")
    if spec.polynomial is not None:
        if not all(0 <= each < 1 << spec.bits for each in (spec.polynomial, spec.init, spec.xor)):
            raise entries.document.error(place, f"polynomial, init and xor of {spec.bits} bits")
        reckon = partial(
            crc, bits=spec.bits, polynomial=spec.polynomial, init=spec.init, reflected=spec.reflected, xor=spec.xor
        )
        size, endian = spec.bits // 8, spec.endian or "big"
        return Checksum(f"crc{spec.bits}", size, lambda data: reckon(data).to_bytes(size, endian), spec.start)
    if spec.kind not in CHECKSUMS:
        raise entries.document.error(place, f"one of {', '.join(CHECKSUMS)}, crc{like(spec.kind, CHECKSUMS)}")
    size, make = CHECKSUMS[spec.kind]
    turned = spec.endian is not None and (spec.endian == "little") != (spec.kind in LITTLE)
    return Checksum(spec.kind, size, (lambda data: make(data)[::-1]) if turned else make, spec.start)


def _layout(entries: Entries, place: Place, spec: LayoutSpec, endian: Endian, length: int | None = None) -> Layout:
    document = entries.document
    length = spec.length if length is None else length
    if not 0 <= length <= _LONGEST:
        raise document.error((*place, "length"), f"a number of bytes from 0 to {_LONGEST}")
    where = partial(byte_place, entries, endian, length)
    if (spec.values or spec.states or spec.extra) and not length:
        raise document.error((*place, "length"), "length: how many bytes these values stand in")
    if spec.values or spec.states or spec.extra:
        _placed(entries, place, spec, length)
    fields, extra = entries.read(place, ByteSpec, where)
    time = None
    if spec.time is not None:
        if spec.time.form == "seconds":
            _check_place(entries, (*place, "time"), spec.time)
        time = compile_stamp(document, (*place, "time"), spec.time, endian)
        _fits(entries, (*place, "time"), time.place, length)
    if spec.key is not None and not spec.records:
        raise document.error((*place, "key"), "records beside it: what their keys are made of")
    blocks = tuple(_block(entries, (*place, "blocks", index), endian, length) for index in range(len(spec.blocks)))
    return Layout(
        length=length,
        fields=fields,
        extra=extra,
        time=time,
        channel=_channel(entries, (*place, "channel"), spec.channel, endian, length),
        groups=tuple(Group(name, *entries.read((*place, "channels", name), ByteSpec, where)) for name in spec.channels),
        blocks=blocks,
        records=_records(entries, place, spec, endian) if spec.records else None,
        rest=spec.rest,
        text=None if spec.text is None else _text(entries, (*place, "text"), spec, length),
    )


def _text(entries: Entries, place: Place, spec: LayoutSpec, length: int) -> TextPart:
    part = entries.document.read(place, TextPartSpec)
    if not 0 <= part.at <= length:
        raise entries.document.error((*place, "at"), f"a byte from 0 to {length}: of the head, or behind it")
    if part.at == length and (spec.blocks or spec.records):
        raise entries.document.error(place, "text within the head, or no blocks and records: it goes to the end")
    fields, extra, split = text_fields(entries, place, part.split, part.pairs)
    return TextPart(part.at, TextFormat(fields=fields, extra=extra, split=split, pairs=part.pairs))


def _block(entries: Entries, place: Place, endian: Endian, head: int) -> Block:
    document = entries.document
    spec = document.read(place, BlockSpec)
    layout = _layout(entries, place, spec, endian)
    inside = partial(byte_place, entries, endian, head)
    when = None if spec.when is None else entries.condition((*place, "when"), spec.when, inside)
    every = _every(entries, (*place, "every"), spec.every, inside)
    count: Bytes | int | None = None
    if spec.repeat is not None:
        if isinstance(spec.repeat, AtSpec):
            count = inside((*place, "repeat"), spec.repeat)
        else:
            count = 0 if spec.repeat == "end" else spec.repeat
        if layout.length < 1:
            raise document.error((*place, "length"), "at least one byte in what is repeated")
        if isinstance(count, int) and not 0 <= count <= 4096:
            raise document.error((*place, "repeat"), "a number from 1 to 4096, end, or a place in the head")
        if layout.fields and layout.time is None and layout.channel is None and not every:
            raise document.error(place, "time, every or channel beside repeat: else each turn would overwrite the last")
    elif every or spec.reverse:
        raise document.error((*place, "every" if every else "reverse"), "repeat beside it")
    if spec.reverse and layout.open:
        raise document.error((*place, "reverse"), "repetitions of fixed length: no blocks, records or rest in them")
    return Block(
        layout=layout, when=when, optional=spec.optional, count=count,
        start=read_span(entries.document, (*place, "start"), spec.start), every=every, reverse=spec.reverse,
    )  # fmt: skip


def _every(
    entries: Entries, place: Place, spec: str | EverySpec, inside: Callable[[Place, Any], Bytes]
) -> timedelta | Every:
    if isinstance(spec, str):
        return read_span(entries.document, place, spec) if spec else timedelta(0)
    if not spec.scale or not abs(spec.scale) < _LONGEST_SPAN:
        raise entries.document.error((*place, "scale"), "seconds a count, below 0 where each is older than before")
    return Every(inside(place, spec), float(spec.scale))


def _records(entries: Entries, place: Place, spec: LayoutSpec, endian: Endian) -> Records:
    known: dict[bytes, Record] = {}
    for text in spec.records:
        where = (*place, "records", text)
        if spec.records[text] is None:
            continue
        record = entries.document.read(where, RecordSpec)
        size = None
        length = record.length if isinstance(record.length, int) else 0
        if isinstance(record.length, LengthSpec):
            _check_place(entries, (*where, "length"), record.length)
            size = compile_bytes(record.length, endian)
            length = size.size
        layout = _layout(entries, where, record, endian, length)
        times, add = (record.length.times, record.length.add) if isinstance(record.length, LengthSpec) else (1, 0)
        known[_key(entries, where, text)] = Record(layout=layout, size=size, times=times, add=add)
    if not known:
        raise entries.document.error((*place, "records"), "at least one record")
    if spec.key is None:
        return Records(known=known, sized=spec.sized)
    _check_key(entries, place, spec.key, known)
    return Records(known=known, sized=spec.sized, mask=spec.key.mask, channel=spec.key.channel)


def _check_key(entries: Entries, place: Place, key: KeySpec, known: Mapping[bytes, Record]) -> None:
    """Refuse bits that the keys do not have, or that say two things."""
    sizes = {len(each) for each in known}
    full = (1 << 8 * min(sizes)) - 1
    if not 0 < key.mask <= full or len(sizes) > 1:
        raise entries.document.error((*place, "key", "mask"), f"bits from 1 to 0x{full:X}, and keys of one length")
    if key.channel & ~(full & ~key.mask) or key.channel.bit_count() > _MOST_BITS:
        raise entries.document.error(
            (*place, "key", "channel"), f"bits within 0x{full & ~key.mask:X}, {_MOST_BITS} at most"
        )
    for each in known:
        if int.from_bytes(each) & ~key.mask:
            raise entries.document.error(
                (*place, "records", each.hex()),
                f"a key within the mask 0x{key.mask:X}: the other bits say something else",
            )


def _key(entries: Entries, place: Place, text: object) -> bytes:
    try:
        key = bytes.fromhex(str(text)) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if not key:
        raise entries.document.error(place, 'a key in hexadecimal, in quotes, such as "0367"')
    return key


def _channel(
    entries: Entries, place: Place, spec: str | int | ChannelSpec | None, endian: Endian, length: int
) -> ChannelFrom | None:
    if spec is None:
        return None
    if isinstance(spec, ChannelSpec):
        found = byte_place(entries, endian, length, place, spec)
        return ChannelFrom(place=found, names={raw: str(name) for raw, name in spec.names.items()})
    return ChannelFrom(str(spec))


def bits_of(width: int) -> str:
    """Say which bits a type has."""
    return f"a bit from 0 to {width - 1}, or a mask of these bits other than 0"


def byte_place(entries: Entries, endian: Endian, length: int, place: Place, spec: Any) -> Bytes:
    """Compile where a raw value stands, and check that it does so within its head."""
    pieces = [(place, spec), *((place, part) for part in getattr(spec, "parts", ()))]
    plus = getattr(spec, "plus", None)
    if plus is not None:
        pieces.append(((*place, "plus"), plus))
        scale_of(entries.document, (*place, "plus", "scale"), plus.scale)
    for where, each in pieces:
        _check_place(entries, where, each)
    found = compile_bytes(spec, endian)
    _fits(entries, place, found, length)
    return found


def _check_place(entries: Entries, place: Place, spec: Any) -> None:
    """Refuse a length, mask or bit that its type does not have."""
    error = entries.document.error
    kind = str(spec.type)
    if getattr(spec, "bits", None) is not None:
        _check_bits(entries, place, spec)
        return
    if (kind in {"string", "hex"}) != (spec.length > 0) or spec.length > _LONGEST:
        raise error((*place, "length"), f"a length in bytes, at most {_LONGEST}, exactly for the types string and hex")
    if (spec.mask is not None or spec.bit is not None) and not kind.startswith(("uint", "int")):
        raise error((*place, "type"), "a whole-number type beside mask or bit")
    if spec.mask is not None and spec.bit is not None:
        raise error((*place, "bit"), "either mask or bit")
    width = 8 * wire_type(spec.type, spec.length).size
    if not 0 <= (spec.bit or 0) < width or not 0 <= (spec.mask or 0) < 1 << width or spec.mask == 0:
        raise error((*place, "mask" if spec.mask is not None else "bit"), bits_of(width))


def _check_bits(entries: Entries, place: Place, spec: AtSpec | ByteSpec) -> None:
    if spec.bits is None:
        return
    if spec.at or spec.mask is not None or spec.bit is not None or not spec.type.startswith(("uint", "int")):
        raise entries.document.error((*place, "bits"), "no at, mask or bit beside bits, and a whole-number type")
    first, count = spec.bits
    if first < 0 or not 1 <= count <= 64 - first % 8:
        raise entries.document.error((*place, "bits"), "[first bit from 0 on, how many]: within 8 bytes")


def _fits(entries: Entries, place: Place, found: Bytes, length: int) -> None:
    if found.size < 1 or found.size > length:
        raise entries.document.error((*place, "at"), f"a place within {length} bytes")


def _placed(entries: Entries, place: Place, spec: LayoutSpec, length: int) -> None:
    """Refuse a value without `at` where it could stand in several places: it would silently be read from byte 0."""
    named = [
        ((*place, section, key), value)
        for section in ("values", "states", "extra")
        if isinstance(getattr(spec, section), dict)
        for key, value in getattr(spec, section).items()
        if isinstance(value, dict)
    ]
    placed = [where for where, value in named if not value.keys() & {"value", "parts", "bits"}]
    for where, value in named:
        if where in placed and len(placed) > 1 and "at" not in value:
            kind = value.get("type", "uint8")
            size = int("".join(filter(str.isdigit, str(kind))) or 8) // 8
            if size < length:
                raise entries.document.error(
                    (*where, "at"), "at: the byte it begins at, because there are several values"
                )
