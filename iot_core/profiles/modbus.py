"""Registers -> values and back: points in the four Modbus tables, merged into as few requests as possible."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Reason, Sample
from iot_core.profiles.fields import MISSING, Field, Group, Trace, collect
from iot_core.profiles.units import Linear
from iot_core.profiles.values import Cases, Codec, ValueSpec
from iot_core.profiles.wire import Order, TypeName, WireType, reorder, wire_type

if TYPE_CHECKING:
    from iot_core.model import Uplink, Value

__all__ = ["ModbusMap", "Point", "PointSpec", "Read", "Words"]

Table = Literal["holding", "input", "coil", "discrete"]
_BASE: Final[Mapping[str, int]] = {"holding": 0, "input": 1 << 16, "coil": 2 << 16, "discrete": 3 << 16}
_TABLES: Final = tuple(_BASE)
_MOST: Final[Mapping[str, int]] = {"holding": 125, "input": 125, "coil": 2000, "discrete": 2000}
_MAX_WORDS: Final = 65_536

Words = Mapping[int, int]
"""Every word that was read, by table and 0-based address in one number."""


class PointSpec(ValueSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of one point."""

    table: Table = "holding"
    address: int
    type: TypeName | Literal["bool"] | None = None
    order: Order = "ABCD"
    length: int = 0
    mask: int | None = None
    bit: int | None = None
    scale_from: int | None = None
    plus: Mapping[str, Any] | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """One request: `count` registers or bits of a table from a 0-based address on."""

    table: str
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Point:
    """Where a raw value stands."""

    table: str
    address: int
    wire: WireType | None
    """None: one bit of a coil or discrete input."""
    order: Order = "ABCD"
    mask: int = 0
    optional: bool = False
    scale: float = 1
    """Only of a `plus` point: its share of the sum."""
    plus: Point | None = None

    @property
    def count(self) -> int:
        return 1 if self.wire is None else (self.wire.size + 1) // 2

    @property
    def reads(self) -> tuple[Read, ...]:
        own = Read(self.table, self.address, self.count)
        return (own,) if self.plus is None else (own, *self.plus.reads)

    def locate(self, words: Words) -> object:
        """Find the raw value. MISSING when none of its registers was read and it may be absent."""
        raw = self._raw(words)
        if self.plus is None or raw is MISSING or raw is None:
            return raw
        rest = self.plus.locate(words)
        if not isinstance(raw, (int, float)) or not isinstance(rest, (int, float)):
            return None
        return raw + rest * self.plus.scale

    def place(self, raw: object, words: dict[int, int]) -> None:
        """Put a raw value where `locate` finds it. Raises ValueError when it does not fit."""
        if self.plus is not None and isinstance(raw, (int, float)):
            whole = raw // 1
            self.plus.place((raw - whole) / self.plus.scale, words)
            raw = whole
        first = _BASE[self.table] + self.address
        if self.wire is None:
            words[first] = 1 if raw else 0
            return
        if self.mask:
            shift = _shift(self.mask)
            raw = int(raw) if isinstance(raw, (bool, int, float)) else 0
            raw = self._whole_word(words) & ~self.mask | (raw << shift & self.mask)
        data = self.wire.write(raw)
        data = reorder(data.rjust(self.count * 2, b"\x00"), self.order)
        for index in range(self.count):
            words[first + index] = int.from_bytes(data[2 * index : 2 * index + 2], "big")

    def _raw(self, words: Words) -> object:
        first = _BASE[self.table] + self.address
        found = [words.get(first + index) for index in range(self.count)]
        if None in found:
            if self.optional and found.count(None) == len(found):
                return MISSING
            raise DecodeError(Reason.TRUNCATED, f"{self.table}:{self.address} was not read")
        if self.wire is None:
            return found[0]
        data = reorder(b"".join(word.to_bytes(2, "big") for word in found if word is not None), self.order)
        raw = self.wire.read(data[len(data) - self.wire.size :] if self.wire.kind != "string" else data)
        if self.mask and isinstance(raw, int):
            return (raw & self.mask) >> _shift(self.mask)
        return raw

    def _whole_word(self, words: Words) -> int:
        first = _BASE[self.table] + self.address
        data = b"".join(words.get(first + index, 0).to_bytes(2, "big") for index in range(self.count))
        return int.from_bytes(reorder(data, self.order), "big")


@dataclass(frozen=True, slots=True)
class ModbusMap:
    """A profile's points. `longest` and `gap` are bounds that the device itself sets."""

    groups: tuple[Group[Words], ...]
    points: tuple[tuple[str, Codec | Cases, Point], ...]
    """Channel, codec and place of every point."""
    scales: Mapping[Point, int]
    """Points whose power of ten stands in another holding or input register, and that register."""
    longest: int | None = None
    gap: int | None = None

    def reads(self, max_gap: int = 0, channels: Collection[str] | None = None) -> tuple[Read, ...]:
        """Merge the points into requests, bridging at most `max_gap` unneeded registers.

        Of the unit itself and these channels only; without any, all channels of a device that is nothing by itself.
        """
        alone = not any(group.channel == "" for group in self.groups)
        wanted = {
            read
            for channel, _, point in self.points
            if not channel or (channel in channels if channels else alone)
            for read in (*point.reads, *self._scale_read(point))
        }
        gap = max_gap if self.gap is None else min(max_gap, self.gap)
        merged: list[Read] = []
        for read in sorted(wanted, key=lambda each: (_TABLES.index(each.table), each.address, each.count)):
            last = merged[-1] if merged else None
            if last is not None and last.table == read.table:
                end = max(last.address + last.count, read.address + read.count)
                most = min(_MOST[read.table], self.longest or _MOST[read.table])
                if read.address <= last.address + last.count + gap and end - last.address <= most:
                    merged[-1] = Read(last.table, last.address, end - last.address)
                    continue
            merged.append(read)
        return tuple(merged)

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        """Decode one poll: all values have the time of the answer."""
        problems: list[Problem] = []
        words = _flatten(uplink.registers or {}, problems)
        samples: list[Sample] = []
        for group in self.groups:
            if group.channel and not _was_read(group, words):
                continue
            found: list[Problem] = []
            values = collect(group.fields, words, found, trace)
            extra = collect(group.extra, words, found, trace) or None
            problems.extend(found)
            if values:
                samples.append(Sample(values, uplink.received_at, group.channel, extra=extra))
        if not samples and not problems:
            problems.append(Problem(Reason.NO_VALUES))
        return Decoded(samples, problems)

    def write(self, values: Mapping[str, Value], channel: str = "") -> dict[str, list[int]]:
        """Fill the registers: what is not given is unknown where the device has a word for that, else 0."""
        words: dict[int, int] = {}
        exponents = self._exponents(values, channel)
        for name, codec, point in self.points:
            if name and name != channel:
                continue
            raw = codec.write(values) if isinstance(codec, Cases) else self._raw_of(codec, values)
            if point in self.scales and isinstance(raw, (int, float)):
                register = self.scales[point]
                words[register] = exponents[register] & 0xFFFF
                raw = raw / 10 ** exponents[register]
            point.place(0 if raw is None else raw, words)
        return _blocks(words)

    @staticmethod
    def _raw_of(codec: Codec, values: Mapping[str, Value]) -> object:
        return codec.write(values[codec.key]) if codec.key in values else codec.nothing()

    def _exponents(self, values: Mapping[str, Value], channel: str) -> dict[int, int]:
        """For each scale register the finest power of ten that all of its values fit with."""
        chosen = dict.fromkeys(self.scales.values(), -3)
        for name, codec, point in self.points:
            if point not in self.scales or isinstance(codec, Cases) or (name and name != channel):
                continue
            raw = self._raw_of(codec, values)
            register = self.scales[point]
            if isinstance(raw, (int, float)) and point.wire is not None:
                low, high = point.wire.limits
                while chosen[register] < 10 and not low <= raw / 10 ** chosen[register] <= high - 1:
                    chosen[register] += 1
        return chosen

    def _scale_read(self, point: Point) -> tuple[Read, ...]:
        register = self.scales.get(point)
        return () if register is None else (Read(point.table, register & 0xFFFF, 1),)


def _was_read(group: Group[Words], words: Words) -> bool:
    places: list[Point] = [each.place for each in group.fields]
    return any(_BASE[place.table] + place.address in words for place in places)


def compile_point(spec: PointSpec, *, shift: int = 0, plus: Point | None = None) -> Point:
    """Compile where a point stands; `shift` moves it for a repeated channel."""
    bits = spec.table in {"coil", "discrete"}
    mask = 1 << spec.bit if spec.bit is not None else spec.mask or 0
    name: TypeName = "uint16" if spec.type in {None, "bool"} else spec.type  # type: ignore[assignment]
    wire = None if bits else wire_type(name, spec.length)
    return Point(
        table=spec.table,
        address=spec.address + shift,
        wire=wire,
        order=spec.order,
        mask=mask,
        optional=spec.optional,
        scale=float(spec.scale) if plus is None else 1,
        plus=plus,
    )


def scale_register(spec: PointSpec, shift: int = 0) -> int | None:
    """Give the register that holds a point's power of ten, as one number with its table."""
    return None if spec.scale_from is None else _BASE[spec.table] + spec.scale_from + shift


def field_of(codec: Codec | Cases, point: Point, scale: int | None) -> Field[Words]:
    """Make the field that reads a point."""
    return Field(codec, point.locate, None if scale is None else _power_of_ten(scale), point)


def _power_of_ten(register: int) -> Any:
    def adjust(words: Words) -> Linear | None:
        raw = words.get(register)
        if raw is None:
            raise DecodeError(Reason.TRUNCATED, f"scale register {register & 0xFFFF} was not read")
        exponent = raw - 0x10000 if raw >= 0x8000 else raw
        if exponent == -0x8000:  # SunSpec: not implemented
            return None
        if not -10 <= exponent <= 10:
            raise DecodeError(Reason.BAD_FIELD, f"power of ten {exponent}")
        return Linear(10.0**exponent)

    return adjust


def _flatten(registers: Mapping[str, Sequence[int]], problems: list[Problem]) -> dict[int, int]:
    words: dict[int, int] = {}
    for name, block in registers.items():
        table, _, address = name.partition(":")
        if table not in _BASE or not address.isdecimal() or len(address) > 5:
            problems.append(Problem(Reason.BAD_FIELD, f"no register is called {name[:40]}"))
            continue
        first = int(address)
        for index, word in enumerate(block[:_MAX_WORDS]):
            if type(word) is not int or not 0 <= word <= 0xFFFF or first + index > 0xFFFF:
                problems.append(Problem(Reason.BAD_FIELD, f"{table}:{first + index} is not a 16-bit word"))
                break
            words[_BASE[table] + first + index] = word
    return words


def _blocks(words: Mapping[int, int]) -> dict[str, list[int]]:
    blocks: dict[str, list[int]] = {}
    last = -2
    name = ""
    for at in sorted(words):
        if at != last + 1 or at % 0x10000 == 0:
            name = f"{_TABLES[at >> 16]}:{at & 0xFFFF}"
            blocks[name] = []
        blocks[name].append(words[at])
        last = at
    return blocks


def _shift(mask: int) -> int:
    return (mask & -mask).bit_length() - 1
