"""Raw bytes -> values and back: fixed fields, or records that each say by a key what they are (TLV)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Reason, Sample
from iot_core.profiles.fields import Field, Trace, collect
from iot_core.profiles.times import parse_time
from iot_core.profiles.values import Cases, ValueSpec
from iot_core.profiles.wire import Endian, TypeName, WireType, wire_type

if TYPE_CHECKING:
    from iot_core.model import Uplink, Value
    from iot_core.profiles.formats import Context

__all__ = ["CHECKSUMS", "ByteSpec", "Bytes", "FixedFormat", "TlvFormat", "TlvRecord"]


class ByteSpec(ValueSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of one field of bytes."""

    at: int = 0
    type: TypeName = "uint8"
    endian: Endian | None = None
    length: int = 0
    mask: int | None = None
    bit: int | None = None


@dataclass(frozen=True, slots=True)
class Bytes:
    """Where a raw value stands among bytes."""

    at: int
    wire: WireType
    endian: Endian
    mask: int = 0

    def locate(self, data: bytes) -> object:
        """Find the raw value."""
        found = data[self.at : self.at + self.wire.size]
        if len(found) < self.wire.size:
            raise DecodeError(Reason.TRUNCATED, f"{len(data)} bytes, {self.at + self.wire.size} expected")
        raw = self.wire.read(found, self.endian)
        return (raw & self.mask) >> _shift(self.mask) if self.mask and isinstance(raw, int) else raw

    def place(self, raw: object, data: bytearray) -> None:
        """Put a raw value where `locate` finds it. Raises ValueError when it does not fit."""
        end = self.at + self.wire.size
        if self.mask:
            whole = int.from_bytes(data[self.at : end], self.endian)
            shifted = int(raw) << _shift(self.mask) if isinstance(raw, (bool, int, float)) else 0
            raw = whole & ~self.mask | (shifted & self.mask)
        data[self.at : end] = self.wire.write(raw, self.endian)


@dataclass(frozen=True, slots=True)
class FixedFormat:
    """A frame of one length, perhaps with a checksum."""

    fields: tuple[Field[bytes], ...]
    extra: tuple[Field[bytes], ...]
    length: int
    checksum: str = ""
    required: tuple[tuple[str, Bytes, object], ...] = ()
    """What must stand where for the frame to be this one; another frame of the same device is not misread."""

    @property
    def keys(self) -> tuple[str, ...]:
        return _keys(self.fields)

    @property
    def channels(self) -> tuple[str, ...]:
        return ("",)

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        data = uplink.payload
        if trace is not None:
            trace("bytes", "", data.hex(" "), f"{len(data)} bytes")
        if len(data) != self.length:
            reason = Reason.EMPTY if not data else Reason.TRUNCATED if len(data) < self.length else Reason.BAD_FIELD
            return Decoded(problems=(Problem(reason, f"{len(data)} bytes, {self.length} expected"),))
        if self.checksum and not CHECKSUMS[self.checksum][0](data):
            return Decoded(problems=(Problem(Reason.CHECKSUM, self.checksum, data.hex()),))
        for name, place, wanted in self.required:
            found = place.locate(data)
            if found != wanted:
                detail = f"{name} is {found}, {wanted} expected"
                return Decoded(problems=(Problem(Reason.WRONG_FORMAT, detail, data.hex()),))
        problems: list[Problem] = []
        values = collect(self.fields, data, problems, trace)
        extra = collect(self.extra, data, problems, trace) or None
        if not values and not problems:
            problems.append(Problem(Reason.NO_VALUES))
        return Decoded((Sample(values, extra=extra),) if values else (), problems)

    def write(self, values: Mapping[str, Value], context: Context) -> bytes:  # noqa: ARG002 - the frame says only values
        data = bytearray(self.length)
        _fill(self.fields, values, data)
        for _, place, wanted in self.required:
            place.place(wanted, data)
        if self.checksum:
            CHECKSUMS[self.checksum][1](data)
        return bytes(data)


@dataclass(frozen=True, slots=True)
class TlvRecord:
    """What follows one key. With `time` it is a sample of its own, from the device's memory."""

    length: int
    fields: tuple[Field[bytes], ...] = ()
    extra: tuple[Field[bytes], ...] = ()
    time: Bytes | None = None


@dataclass(frozen=True, slots=True)
class TlvFormat:
    """A chain of records; an unknown key ends it, as nobody can know how long that record is."""

    key_size: int
    records: Mapping[bytes, TlvRecord]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for record in self.records.values() for key in _keys(record.fields)))

    @property
    def channels(self) -> tuple[str, ...]:
        return ("",)

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        data = uplink.payload
        samples: list[Sample] = []
        problems: list[Problem] = []
        now: dict[str, object] = {}
        beside: dict[str, object] = {}
        at = 0
        while at < len(data):
            key = data[at : at + self.key_size]
            record = self.records.get(key)
            if record is None:
                reason = Reason.TRUNCATED if len(key) < self.key_size else Reason.BAD_FIELD
                problems.append(Problem(reason, f"byte {at}: {key.hex()} is no key of this model", data[at:].hex()))
                break
            at += self.key_size
            body = data[at : at + record.length]
            at += record.length
            if trace is not None:
                trace("record", key.hex(), body.hex(" "), f"{len(body)} of {record.length} bytes")
            if len(body) < record.length:
                problems.append(Problem(Reason.TRUNCATED, f"{key.hex()}: {len(body)} of {record.length} bytes"))
                break
            values = collect(record.fields, body, problems, trace)
            extra = collect(record.extra, body, problems, trace)
            if record.time is None:
                now.update(values)
                beside.update(extra)
            elif values:
                self._remember(record, body, values, samples, problems)
        if now:
            samples.insert(0, Sample(now, extra=beside or None))
        if not samples and not problems:
            problems.append(Problem(Reason.NO_VALUES if data else Reason.EMPTY))
        return Decoded(samples, problems)

    @staticmethod
    def _remember(
        record: TlvRecord, body: bytes, values: dict[str, object], samples: list[Sample], problems: list[Problem]
    ) -> None:
        assert record.time is not None
        stamp = record.time.locate(body)
        time = parse_time(stamp)
        if time is None:
            problems.append(Problem(Reason.BAD_TIME, part=body.hex()))
        else:
            samples.append(Sample(values, time))

    def write(self, values: Mapping[str, Value], context: Context) -> bytes:  # noqa: ARG002 - the records say only values
        written: set[str] = set()
        frame = bytearray()
        for key, record in self.records.items():
            wanted = {name for name in _keys(record.fields) if name in values} - written
            if record.time is not None or not wanted or _cannot_say(record, values):
                continue
            body = bytearray(record.length)
            _fill(record.fields, values, body)
            frame += key + body
            written |= wanted
        return bytes(frame)


def compile_bytes(spec: ByteSpec, default: Endian) -> Bytes:
    """Compile where a field stands."""
    mask = 1 << spec.bit if spec.bit is not None else spec.mask or 0
    return Bytes(spec.at, wire_type(spec.type, spec.length), spec.endian or default, mask)


def _cannot_say(record: TlvRecord, values: Mapping[str, Value]) -> bool:
    """Say whether one of a record's states has no word for what is given."""
    return any(isinstance(each.codec, Cases) and each.codec.write(values) is None for each in record.fields)


def _fill(fields: tuple[Field[bytes], ...], values: Mapping[str, Value], data: bytearray) -> None:
    """Write fields into a frame; what is not given is unknown where the device has a word for that, else 0."""
    for each in fields:
        place: Bytes = each.place
        if isinstance(each.codec, Cases):
            raw: object = each.codec.write(values)
        else:
            raw = each.codec.write(values[each.codec.key]) if each.codec.key in values else each.codec.nothing()
        place.place(0 if raw is None else raw, data)


def _keys(fields: tuple[Field[bytes], ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for each in fields for key in each.codec.keys))


def _shift(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _sums_to_zero(data: bytes) -> bool:
    return sum(data) & 0xFF == 0


def _make_sum_zero(data: bytearray) -> None:
    data[-1] = -sum(data[:-1]) & 0xFF


def _crc16_holds(data: bytes) -> bool:
    return len(data) > 2 and _crc16(data[:-2]) == int.from_bytes(data[-2:], "little")


def _add_crc16(data: bytearray) -> None:
    data[-2:] = _crc16(bytes(data[:-2])).to_bytes(2, "little")


def _crc16(data: bytes) -> int:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


CHECKSUMS: Final[Mapping[str, tuple[Callable[[bytes], bool], Callable[[bytearray], None]]]] = {
    "sum8_zero": (_sums_to_zero, _make_sum_zero),  # all bytes together make 0 modulo 256; the last one sees to it
    "crc16_modbus": (_crc16_holds, _add_crc16),  # the last two bytes, low one first
}
