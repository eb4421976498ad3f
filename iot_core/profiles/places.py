"""Where a raw value stands among bytes, and where a time does. Each place reads and writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeGuard

import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Reason
from iot_core.profiles.values import Scalar, ValueSpec
from iot_core.profiles.wire import Endian, TypeName, WireType, wire_type

if TYPE_CHECKING:
    from iot_core.profiles.document import Document, Place

__all__ = [
    "AtSpec",
    "ByteSpec",
    "Bytes",
    "Stamp",
    "TimeSpec",
    "WhenSpec",
    "compile_bytes",
    "compile_stamp",
    "shift_of",
    "split_sum",
]


class AtSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a raw value stands among bytes."""

    at: int = 0
    """The byte it begins at, counted from 0 in its frame, block or record; -1 is the last byte."""
    type: TypeName = "uint8"
    endian: Endian | None = None
    """`big` or `little`, where it differs from the frame's."""
    length: int = 0
    """The bytes of a `string` or `hex`."""
    mask: int | None = None
    """The bits that count; what they hold is shifted down. With an `int` type it is signed."""
    bit: int | None = None
    """The one bit that counts; 0 is the lowest."""
    bits: tuple[int, int] | None = None
    """`[first, count]` in place of `at`: bits that lie across bytes, bit 0 the highest of byte 0. With an `int` type
    it is signed."""


class PlusSpec(AtSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A second raw value that is added."""

    scale: float | int = 1


class WhenSpec(AtSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A condition: what must stand there. Without equals or between: anything but zero."""

    equals: Scalar | list[Scalar] | None = None
    between: tuple[float | int, float | int] | None = None
    unless: bool = False
    """Turn it round: fulfilled when it is not so."""


class ScaleSpec(AtSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A factor that stands in the message itself."""

    factors: dict[str | int, float | int | str] = msgspec.field(default_factory=dict)
    """What each raw value means: `{0: 1, 1: 0.1, 2: 0.01}`; without it the raw value is the factor."""
    power: float | int | None = None
    """The raw value is a power of this: 10."""


class ByteSpec(ValueSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of one field of bytes."""

    at: int = 0
    """The byte it begins at, counted from 0 in its frame, block or record; -1 is the last byte."""
    type: TypeName = "uint8"
    endian: Endian | None = None
    """`big` or `little`, where it differs from the frame's."""
    length: int = 0
    """The bytes of a `string` or `hex`."""
    mask: int | None = None
    """The bits that count; what they hold is shifted down. With an `int` type it is signed."""
    bit: int | None = None
    """The one bit that counts; 0 is the lowest."""
    bits: tuple[int, int] | None = None
    """`[first, count]` in place of `at`: bits that lie across bytes, bit 0 the highest of byte 0. With an `int` type
    it is signed."""
    parts: list[AtSpec] = msgspec.field(default_factory=list)
    """Pieces that make one number, the highest first: a 12-bit value over three half bytes."""
    plus: PlusSpec | None = None
    """A second raw value, times its own `scale`, that is added to this one before `scale` and `offset`."""
    when: WhenSpec | list[WhenSpec] | None = None
    """What must stand elsewhere in the same frame, block or record for this to be said. Of a list all must hold."""
    delta: Literal["add", "subtract"] | None = None
    """A difference: added to the number before it in the frame, or taken from it where the newest comes first."""
    scale_from: ScaleSpec | list[ScaleSpec] | None = None
    """A factor that the message itself carries; of a list the product."""
    unit_from: AtSpec | None = None
    """Where the message says its unit; `units` lists what it may say."""
    units: dict[str | int, str] = msgspec.field(default_factory=dict)
    """What each raw value of `unit_from` means: `{45: m, 44: "[ft_i]"}`."""


class TimeSpec(AtSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `time` among bytes."""

    form: Literal["seconds", "mbus", "packed", "bcd", "fields"] = "seconds"
    """`seconds` since the epoch; `mbus`: 4 bytes of EN 13757-3 type F; `packed`: 4 bytes of year, month, day, hour,
    minute and two seconds, in 7, 4, 5, 5, 6 and 5 bits; `bcd` or `fields`: a byte each, as `order` says. Years count
    from 2000."""
    order: str = "YMDhms"
    """Of `bcd` and `fields`: year, month, day, hour, minute, second as they stand; `-` is a byte that says none."""
    epoch: str = "1970-01-01"
    """The day that `seconds` counts from."""
    scale: float | int = 1
    """Seconds a count: 60 for minutes, 0.001 for milliseconds."""
    ago: bool = False
    """Counted back from the arrival, not from the epoch."""
    zone: str = "+00:00"
    """What the device's clock shows: `+07:00`."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """Where a raw value stands among bytes."""

    at: int
    wire: WireType
    endian: Endian
    mask: int = 0
    parts: tuple[Bytes, ...] = ()
    plus: Bytes | None = None
    scale: float = 1
    """Only of a `plus`: its share of the sum."""

    def locate(self, data: bytes) -> object:
        """Find the raw value. MISSING where the data ends before it and it is counted from the end."""
        raw = self._joined(data) if self.parts else self.one(data)
        if self.plus is None:
            return raw
        rest = self.plus.locate(data)
        if not isinstance(raw, (int, float)) or not isinstance(rest, (int, float)):
            return None
        return raw + rest * self.plus.scale

    def place(self, raw: object, data: bytearray) -> None:
        """Put a raw value where `locate` finds it. Raises ValueError when it does not fit."""
        if self.plus is not None and isinstance(raw, (int, float)):
            raw, rest = split_sum(raw, self.plus.scale)
            self.plus.place(rest, data)
        if self.parts:
            self._spread(round(raw) if isinstance(raw, (int, float)) else 0, data)
            return
        start = self.at if self.at >= 0 else len(data) + self.at
        end = start + self.wire.size
        if self.mask:
            whole = int.from_bytes(data[start:end], self.endian)
            raw = whole & ~self.mask | (round(raw) << shift_of(self.mask) & self.mask) if _is_number(raw) else whole
            data[start:end] = raw.to_bytes(self.wire.size, self.endian)
            return
        data[start:end] = self.wire.write(raw, self.endian)

    @property
    def size(self) -> int:
        """How many bytes from the start of its block it needs."""
        ends = [part.size for part in self.parts] or [self.at + self.wire.size if self.at >= 0 else -self.at]
        return max(*ends, self.plus.size if self.plus is not None else 0, 0)

    @property
    def width(self) -> int:
        """How many bits it holds."""
        return sum(part.width for part in self.parts) or (self.mask.bit_count() if self.mask else self.wire.size * 8)

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and highest raw value."""
        if not self.mask and not self.parts:
            return self.wire.limits
        return (-(1 << self.width - 1), (1 << self.width - 1) - 1) if self.signed else (0, (1 << self.width) - 1)

    @property
    def signed(self) -> bool:
        return (self.parts[0].wire if self.parts else self.wire).kind == "int"

    @property
    def text(self) -> str:
        """Say where it is, for a person."""
        if self.parts:
            return " | ".join(part.text for part in self.parts)
        last = self.at + self.wire.size - 1
        where = f"{self.at}" if last == self.at else f"{self.at}..{last}"
        kind = self.wire.kind if self.wire.kind in {"string", "hex"} else f"{self.wire.kind}{self.wire.size * 8}"
        return f"{where} {kind}" + (f" & 0x{self.mask:X}" if self.mask else "")

    def one(self, data: bytes) -> object:
        """Find the raw value of this place alone, without parts and plus."""
        start = self.at if self.at >= 0 else len(data) + self.at
        found = data[start : start + self.wire.size] if start >= 0 else b""
        if len(found) < self.wire.size:
            raise DecodeError(Reason.TRUNCATED, f"{len(data)} bytes, {self.size} expected")
        if not self.mask:
            return self.wire.read(found, self.endian)
        raw = (int.from_bytes(found, self.endian) & self.mask) >> shift_of(self.mask)
        return _signed(raw, self.width) if self.signed else raw

    def _joined(self, data: bytes) -> int:
        raw = 0
        for part in self.parts:
            piece = part.one(data)
            raw = raw << part.width | (int(piece) if _is_number(piece) else 0) & (1 << part.width) - 1
        return _signed(raw, self.width) if self.signed else raw

    def _spread(self, raw: int, data: bytearray) -> None:
        low, high = self.limits
        if not low <= raw <= high:
            raise ValueError(f"{raw} does not fit in {self.width} bits")
        for part in reversed(self.parts):
            piece = raw & (1 << part.width) - 1
            part.place(_signed(piece, part.width) if part.signed and not part.mask else piece, data)
            raw >>= part.width


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where a time stands among bytes."""

    place: Bytes
    form: str
    epoch: datetime
    scale: float
    ago: bool
    order: str = ""

    def read(self, data: bytes, arrival: datetime) -> datetime | None:
        """Find the time, aware UTC; None when it is none. Raises DecodeError where the bytes end before it."""
        raw = self.place.locate(data)
        try:
            if self.form == "mbus":
                return _mbus_time(int(str(raw), 16), self.epoch)
            if self.form == "packed":
                return _packed_time(int(str(raw), 16), self.epoch)
            if self.form != "seconds":
                return _split_time(bytes.fromhex(str(raw)), self.order, self.epoch, bcd=self.form == "bcd")
            if not _is_number(raw):
                return None
            span = timedelta(seconds=raw * self.scale)
            return arrival - span if self.ago else self.epoch + span
        except (ValueError, OverflowError):
            return None

    def write(self, time: datetime, arrival: datetime, data: bytearray) -> None:
        """Put a time where `read` finds it. Raises ValueError when it does not fit."""
        if self.form == "seconds":
            span = arrival - time if self.ago else time - self.epoch
            self.place.place(span.total_seconds() / self.scale, data)
            return
        local = time + (datetime(1970, 1, 1, tzinfo=UTC) - self.epoch)
        if self.form in {"mbus", "packed"}:
            self.place.place(_mbus_bytes(local) if self.form == "mbus" else _packed_bytes(local), data)
        else:
            self.place.place(_split_bytes(local, self.order, bcd=self.form == "bcd"), data)


def compile_bytes(spec: AtSpec | ByteSpec, default: Endian) -> Bytes:
    """Compile where a field stands."""
    if getattr(spec, "bits", None) is not None:
        spec = _across(spec)
    own = spec.endian or ("big" if spec.type == "hex" else default)  # text in hexadecimal reads as it is sent
    if isinstance(spec, ByteSpec) and (spec.parts or spec.plus is not None):
        plus = None
        if spec.plus is not None:
            plus = replace(compile_bytes(spec.plus, own), scale=float(spec.plus.scale))
        parts = tuple(compile_bytes(part, own) for part in spec.parts)
        return Bytes(spec.at, wire_type(spec.type, spec.length), own, _mask(spec), parts, plus)
    return Bytes(spec.at, wire_type(spec.type, spec.length), own, _mask(spec))


def compile_stamp(document: Document, place: Place, spec: TimeSpec, default: Endian) -> Stamp:
    """Compile a time. Raises ConfigError."""
    try:
        epoch = datetime.fromisoformat(spec.epoch)
        shown = datetime.fromisoformat(f"2000-01-01T00:00:00{spec.zone}").utcoffset()
    except ValueError:
        raise document.error(place, "an epoch such as 2000-01-01 and a zone such as +07:00") from None
    if shown is None or not spec.scale > 0:
        raise document.error(place, "a zone such as +07:00, and a scale greater than 0")
    epoch = epoch.replace(tzinfo=UTC) - shown if epoch.tzinfo is None else epoch.astimezone(UTC)
    if spec.form != "seconds":
        part = next((key for key in ("bits", "mask", "bit") if getattr(spec, key) is not None), None)
        if part is not None:
            raise document.error((*place, part), "no mask, bit or bits beside a form other than seconds")
        packed = spec.form in {"mbus", "packed"}
        if not packed and (not set("YMD") <= set(spec.order) <= set("YMDhms-") or not _once(spec.order)):
            raise document.error((*place, "order"), "Y, M and D, perhaps h, m and s, each once, and - for other bytes")
        order: Endian = "little" if spec.form == "mbus" else spec.endian or default if packed else "big"
        where = msgspec.structs.replace(spec, type="hex", length=4 if packed else len(spec.order), endian=order)
        zero = datetime(1970, 1, 1, tzinfo=UTC) - shown
        return Stamp(compile_bytes(where, order), spec.form, zero, 1, ago=False, order=spec.order)
    return Stamp(compile_bytes(spec, default), spec.form, epoch, float(spec.scale), spec.ago)


def _across(spec: AtSpec | ByteSpec) -> AtSpec | ByteSpec:
    """Write `bits` as the bytes that they lie in, and a mask."""
    assert spec.bits is not None
    first, count = spec.bits
    at, end = first // 8, -(-(first + count) // 8)
    kind = f"{'int' if spec.type.startswith('int') else 'uint'}{8 * (end - at)}"
    mask = (1 << count) - 1 << 8 * end - first - count
    return msgspec.structs.replace(spec, bits=None, at=at, type=kind, mask=mask, endian="big")


def split_sum(raw: float, share: float) -> tuple[float, float]:
    """Split what `plus` added: whole and fraction, or low and high part where the second counts for more."""
    if share > 1:
        rest = raw // share
        return raw - rest * share, rest
    whole = raw // 1
    return whole, (raw - whole) / share


def shift_of(mask: int) -> int:
    """Say how many zero bits a mask ends with."""
    return (mask & -mask).bit_length() - 1


def _mask(spec: AtSpec | ByteSpec) -> int:
    return 1 << spec.bit if spec.bit is not None else spec.mask or 0


def _signed(raw: int, width: int) -> int:
    return raw - (1 << width) if raw >> width - 1 & 1 else raw


def _is_number(raw: object) -> TypeGuard[float]:
    return isinstance(raw, (int, float))


def _mbus_time(raw: int, zero: datetime) -> datetime | None:
    """Read EN 13757-3 data type F: minute, hour, day, month, year; None when the meter says it is invalid."""
    if raw >> 7 & 1:
        return None
    minute, hour, day, month = raw & 0x3F, raw >> 8 & 0x1F, raw >> 16 & 0x1F, raw >> 24 & 0x0F
    year = 2000 + (raw >> 21 & 0x07 | raw >> 25 & 0x78)
    return _shown(zero, year, month, day, hour, minute, 0)


def _mbus_bytes(local: datetime) -> str:
    year = local.year - 2000
    low = local.minute | local.hour << 8 | local.day << 16 | (year & 7) << 21
    return f"{low | local.month << 24 | (year & 0x78) << 25:08x}"


def _packed_time(raw: int, zero: datetime) -> datetime:
    year, month, day = raw >> 25, raw >> 21 & 0x0F, raw >> 16 & 0x1F
    return _shown(zero, 2000 + year, month, day, raw >> 11 & 0x1F, raw >> 5 & 0x3F, 2 * (raw & 0x1F))


def _packed_bytes(local: datetime) -> str:
    day = (local.year - 2000) << 25 | local.month << 21 | local.day << 16
    return f"{day | local.hour << 11 | local.minute << 5 | local.second // 2:08x}"


def _split_time(data: bytes, order: str, zero: datetime, *, bcd: bool) -> datetime:
    said = {
        letter: int(f"{byte:02x}") if bcd else byte for letter, byte in zip(order, data, strict=True) if letter != "-"
    }
    return _shown(zero, 2000 + said["Y"], said["M"], said["D"], *(said.get(letter, 0) for letter in "hms"))


def _split_bytes(local: datetime, order: str, *, bcd: bool) -> str:
    numbers = (local.year - 2000, local.month, local.day, local.hour, local.minute, local.second)
    said = dict(zip("YMDhms", numbers, strict=True))
    return "".join(f"{said.get(letter, 0):02{'d' if bcd else 'x'}}" for letter in order)


def _once(order: str) -> bool:
    letters = order.replace("-", "")
    return len(set(letters)) == len(letters)


def _shown(zero: datetime, *date_and_time: int) -> datetime:
    year, month, day, hour, minute, second = date_and_time
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC) + (zero - datetime(1970, 1, 1, tzinfo=UTC))
