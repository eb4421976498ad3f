"""Registers -> values and back: points in the four Modbus tables, merged into as few requests as possible."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Reason, Sample
from iot_core.profiles.fields import MISSING, Field, Group, Trace, collect
from iot_core.profiles.places import shift_of, split_sum
from iot_core.profiles.values import Scalar, ValueSpec
from iot_core.profiles.wire import Order, TypeName, WireType, reorder, wire_type

if TYPE_CHECKING:
    from iot_core.model import Uplink, Value
    from iot_core.profiles.detect import Detect

__all__ = [
    "ModbusMap",
    "Numbering",
    "Point",
    "PointSpec",
    "Read",
    "RegisterSpec",
    "RegisterWrite",
    "Words",
    "compile_point",
    "wire_address",
    "words_of",
]

Table = Literal["holding", "input", "coil", "discrete"]
_BASE: Final[Mapping[str, int]] = {"holding": 0, "input": 1 << 16, "coil": 2 << 16, "discrete": 3 << 16}
_TABLES: Final = tuple(_BASE)
_MOST: Final[Mapping[str, int]] = {"holding": 125, "input": 125, "coil": 2000, "discrete": 2000}
_MAX_WORDS: Final = 65_536
_PLC: Final[Mapping[int, Table]] = {0: "coil", 1: "discrete", 3: "input", 4: "holding"}

Numbering = Literal["wire", "one", "plc"]
"""How a profile counts: as on the wire from 0; from 1 within a table; as 40001, 30001, 10001, 00001 (or six digits)."""

Words = Mapping[int, int]
"""Every word that was read, by table and 0-based address in one number."""


class RegisterSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a raw value stands among registers."""

    table: Table | None = None
    """`holding` (default), `input`, `coil` or `discrete`."""
    address: int
    """The register's number, counted as `numbering` says: as on the wire, from 0, unless the profile says otherwise."""
    type: TypeName | Literal["bool"] | None = None
    """None for coils and discrete inputs, which are one bit."""
    order: Order = "ABCD"
    """Of bytes and words: `CDAB` low word first, `BADC` bytes swapped, `DCBA` both."""
    length: int = 0
    """The bytes of a `string` or `hex`."""
    mask: int | None = None
    """The bits that count; what they hold is shifted down. With an `int` type it is signed."""
    bit: int | None = None
    """The one bit that counts; 0 is the lowest."""


class PlusRegister(RegisterSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A second register that is added."""

    scale: float | int = 1


class WhenRegister(RegisterSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A condition: what must stand there. Without equals or between: anything but zero."""

    equals: Scalar | list[Scalar] | None = None
    between: tuple[float | int, float | int] | None = None
    unless: bool = False
    """Turn it round: fulfilled when it is not so."""


class ScaleRegister(RegisterSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A factor that stands in a register: a ratio of transformers, a multiplier."""

    factors: dict[str | int, float | int | str] = msgspec.field(default_factory=dict)
    """What each raw value means: `{0: 1, 1: 0.1, 2: 0.01}`; without it the raw value is the factor."""
    power: float | int | None = None
    """The raw value is a power of this: 10."""


class PointSpec(ValueSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of one point."""

    table: Table | None = None
    """`holding` (default), `input`, `coil` or `discrete`."""
    address: int
    """The register's number, counted as `numbering` says: as on the wire, from 0, unless the profile says otherwise."""
    type: TypeName | Literal["bool"] | None = None
    """None for coils and discrete inputs, which are one bit."""
    order: Order = "ABCD"
    """Of bytes and words: `CDAB` low word first, `BADC` bytes swapped, `DCBA` both."""
    length: int = 0
    """The bytes of a `string` or `hex`."""
    mask: int | None = None
    """The bits that count; what they hold is shifted down. With an `int` type it is signed."""
    bit: int | None = None
    """The one bit that counts; 0 is the lowest."""
    scale_from: int | ScaleRegister | list[ScaleRegister] | None = None
    """A factor that stands in another register; a number alone is the address of a power of ten (SunSpec `sunssf`). Of
    a list the product: the ratios of voltage and current transformers."""
    plus: PlusRegister | None = None
    """A second register, times its own `scale`, that is added before `scale` and `offset`."""
    when: WhenRegister | list[WhenRegister] | None = None
    """What another register must hold for this one to be said. Of a list all must hold."""
    unit_from: RegisterSpec | None = None
    """The register that names the unit; `units` lists what it may say."""
    units: dict[str | int, str] = msgspec.field(default_factory=dict)
    """What each raw value of `unit_from` means: `{0: Cel, 1: "[degF]"}`."""
    optional: bool = False
    """It may be missing from an answer; else that part is held as `truncated`."""


@dataclass(frozen=True, slots=True)
class Read:
    """One request: `count` registers or bits of a table from a 0-based address on."""

    table: str
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class RegisterWrite:
    """One write of a command. `mask`: of a single register only these bits, the others stay.

    `single` asks for the functions 5 and 6 instead of 15 and 16. What was written is read back unless `read_back` is
    False, for registers that only take.
    """

    table: Literal["holding", "coil"]
    address: int
    words: tuple[int, ...]
    mask: int = 0xFFFF
    single: bool = False
    read_back: bool = True


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
    also: tuple[Point, ...] = ()
    """What must be read with it: its unit, its factor, its condition."""

    @property
    def count(self) -> int:
        return 1 if self.wire is None else (self.wire.size + 1) // 2

    @property
    def reads(self) -> tuple[Read, ...]:
        beside = (*self.also, *(() if self.plus is None else (self.plus,)))
        return (Read(self.table, self.address, self.count), *(read for each in beside for read in each.reads))

    @property
    def text(self) -> str:
        """Say where it is, for a person."""
        kind = "bit" if self.wire is None else f"{self.wire.kind}{self.wire.size * 8}"
        order = f" {self.order}" if self.order != "ABCD" else ""
        return f"{self.table}:{self.address} {kind}{order}" + (f" & 0x{self.mask:X}" if self.mask else "")

    @property
    def width(self) -> int:
        """How many bits it holds."""
        return 1 if self.wire is None else self.mask.bit_count() if self.mask else self.wire.size * 8

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and highest raw value."""
        if self.wire is None:
            return 0, 1
        if not self.mask:
            return self.wire.limits
        return (-(1 << self.width - 1), (1 << self.width - 1) - 1) if self.signed else (0, (1 << self.width) - 1)

    @property
    def signed(self) -> bool:
        return self.wire is not None and self.wire.kind == "int"

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
            raw, rest = split_sum(raw, self.plus.scale)
            self.plus.place(rest, words)
        first = _BASE[self.table] + self.address
        if self.wire is None:
            words[first] = 1 if raw else 0
            return
        if self.mask:
            raw = round(raw) if isinstance(raw, (bool, int, float)) else 0
            raw = self._whole_word(words) & ~self.mask | (raw << shift_of(self.mask) & self.mask)
            data = raw.to_bytes(self.wire.size, "big")
        else:
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
        data = data[len(data) - self.wire.size :] if self.wire.kind not in {"string", "hex"} else data
        if not self.mask:
            return self.wire.read(data)
        raw = (int.from_bytes(data, "big") & self.mask) >> shift_of(self.mask)
        return raw - (1 << self.width) if self.signed and raw >> self.width - 1 else raw

    def _whole_word(self, words: Words) -> int:
        first = _BASE[self.table] + self.address
        data = b"".join(words.get(first + index, 0).to_bytes(2, "big") for index in range(self.count))
        return int.from_bytes(reorder(data, self.order), "big")


@dataclass(frozen=True, slots=True)
class ModbusMap:
    """A profile's points. `longest` and `gap` are bounds that the device itself sets."""

    groups: tuple[Group[Words], ...]
    points: tuple[tuple[str, Field[Words]], ...]
    """Channel and field of every point; what wins where two stand in one register comes last."""
    longest: int | None = None
    gap: int | None = None
    timeout_s: float | None = None
    """How long this model may take to answer; None: as settings say."""
    pause_s: float = 0.0
    """How long it must be left alone between two requests."""
    detect: Detect | None = None
    line: str = ""
    """How it comes out of its box: `9600-8N1`."""

    def reads(self, max_gap: int = 0, channels: Collection[str] | None = None) -> tuple[Read, ...]:
        """Merge the points into requests, bridging at most `max_gap` unneeded registers; see `atoms`."""
        return self.merge(self.atoms(channels), self.most_gap(max_gap))

    def most_gap(self, max_gap: int) -> int:
        """Say how many unneeded registers a request may bridge: as many as asked for, or fewer for this device."""
        return max_gap if self.gap is None else min(max_gap, self.gap)

    def atoms(self, channels: Collection[str] | None = None) -> tuple[Read, ...]:
        """List what has to be read, each value by itself, in the order of tables and addresses.

        Of the unit itself and these channels only; without any, all channels of a device that is nothing by itself.
        """
        alone = not any(group.channel == "" for group in self.groups)
        wanted = {
            read
            for channel, each in self.points
            if each.place is not None and (not channel or (channel in channels if channels else alone))
            for read in each.place.reads
        }
        return tuple(sorted(wanted, key=lambda each: (_TABLES.index(each.table), each.address, each.count)))

    def merge(self, atoms: Sequence[Read], gap: int) -> tuple[Read, ...]:
        """Merge neighbours (in order) into requests that bridge at most `gap` unneeded registers or bits.

        None is longer than the device takes, nor than the protocol allows: 125 registers, 2000 bits.
        """
        merged: list[Read] = []
        for read in atoms:
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
        mine = [each for name, each in self.points if each.place is not None and name in {"", channel}]
        # What is not given is written first: of several entries that share a register the given one stays.
        for each in sorted(mine, key=lambda each: any(key in values for key in each.codec.keys)):
            raw = each.raw(values)
            if raw is None:
                each.place.place(0, words)
                for place in each.place.also:  # read along with it, so it must be there to be read
                    place.place(0, words)
                continue
            power = each.power is not None and isinstance(raw, (int, float))
            each.place.place(raw / 10 ** exponents[each.power] if power else raw, words)
            for place, wanted in each.beside:
                place.place(exponents.get(place, wanted), words)
        return blocks_of(words)

    def _exponents(self, values: Mapping[str, Value], channel: str) -> dict[Point, int]:
        """For each register with a power of ten the finest that all of its values fit with."""
        chosen: dict[Point, int] = {}
        for name, each in self.points:
            if each.place is None or each.power is None or (name and name != channel):
                continue
            raw = each.raw(values)
            exponent = chosen.setdefault(each.power, -3)
            if isinstance(raw, (int, float)):
                low, high = each.place.limits
                while exponent < 10 and not low <= raw / 10**exponent <= high - 1:
                    exponent += 1
                chosen[each.power] = exponent
        return chosen


def _was_read(group: Group[Words], words: Words) -> bool:
    places: list[Point] = [each.place for each in group.fields if each.place is not None]
    return any(_BASE[place.table] + place.address in words for place in places)


def compile_point(spec: RegisterSpec | PointSpec, numbering: Numbering = "wire", *, shift: int = 0) -> Point | None:
    """Compile where a point stands; `shift` moves it for a repeated channel. None for a number that is none."""
    found = wire_address(spec, numbering)
    if found is None:
        return None
    table, address = found
    bits = table in {"coil", "discrete"}
    name: TypeName = "uint16" if spec.type in {None, "bool"} else spec.type  # type: ignore[assignment]
    mask = 1 << spec.bit if spec.bit is not None else spec.mask or 0
    return Point(
        table=table,
        address=address + shift,
        wire=None if bits else wire_type(name, spec.length),
        order=spec.order,
        mask=mask,
        optional=isinstance(spec, PointSpec) and spec.optional,
        scale=float(spec.scale) if isinstance(spec, PlusRegister) else 1,
    )


def wire_address(spec: RegisterSpec | PointSpec, numbering: Numbering) -> tuple[Table, int] | None:
    """Give table and address as on the wire; None for a number that `numbering` does not know."""
    number = spec.address
    if numbering == "wire":
        return (spec.table or "holding", number) if 0 <= number <= 0xFFFF else None
    if numbering == "one":
        return (spec.table or "holding", number - 1) if 1 <= number <= 0x10000 else None
    digit, rest = divmod(number, 100_000 if number >= 100_000 else 10_000)
    table = _PLC.get(digit)
    if table is None or spec.table not in {None, table} or not 1 <= rest <= 0x10000:
        return None
    return table, rest - 1


def words_of(registers: Mapping[str, Sequence[int]]) -> Words:
    """Give the blocks of an uplink as single words; what is none is left out."""
    return _flatten(registers, [])


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


def blocks_of(words: Mapping[int, int]) -> dict[str, list[int]]:
    """Give single words as the blocks of an uplink."""
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
