"""The `modbus` table of a profile -> points, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from iot_core.profiles.classes import read_duration
from iot_core.profiles.compile_bytes import bits_of
from iot_core.profiles.detect import Detect, DetectSpec, Sign
from iot_core.profiles.fields import Field, Group
from iot_core.profiles.modbus import (
    ModbusMap,
    Numbering,
    Point,
    PointSpec,
    RegisterSpec,
    ScaleRegister,
    compile_point,
    wire_address,
)
from iot_core.profiles.table import Table

if TYPE_CHECKING:
    from iot_core.profiles.document import Place
    from iot_core.profiles.entries import Entries

__all__ = ["ModbusSpec", "compile_modbus", "register"]

_LONGEST_WAIT_S = 30


class ModbusSpec(Table, frozen=True, kw_only=True):
    """The keys of `modbus`."""

    numbering: Numbering = "wire"
    """How addresses are counted here: `wire` from 0, `one` from 1, `plc` as 40001 and 30001, which name the table."""
    line: str = ""
    """How the device comes out of its box, for people and for scanning: `9600-8N1`."""
    points: Any = None
    """Metrics of the class, each with its register."""
    states: Any = None
    extra: Any = None
    channels: dict[str, Any] = msgspec.field(default_factory=dict)
    """`points`, `states` and `extra` of further devices behind this one, by channel."""
    repeat: Any = None
    """`{count, stride, first}`: the same points again and again, a channel each, named by numbers from `first` on."""
    max_count: int | None = None
    """How many registers the device lets itself be asked for at once."""
    max_gap: int | None = None
    """How many registers between two points may be read along; 0: none, because it refuses them."""
    timeout: str | None = None
    """How long the device may take to answer, where settings allow it less: `3s`."""
    pause: str | None = None
    """How long it must be left alone between two requests: `50ms`."""
    detect: DetectSpec | None = None
    """What tells this model from others on a line: what it says of itself, registers that hold what they must."""


class RepeatSpec(Table, frozen=True, kw_only=True):
    """The same points again and again."""

    count: int
    stride: int
    """Registers from one to the next."""
    first: int = 0
    """The first one's name."""


def compile_modbus(entries: Entries, place: Place) -> ModbusMap:
    """Compile the `modbus` table. Raises ConfigError."""
    spec = entries.document.read(place, ModbusSpec)
    shifts: Iterable[tuple[str, int]] = [("", 0)]
    if spec.repeat is not None:
        repeat = entries.document.read((*place, "repeat"), RepeatSpec)
        if not 1 <= repeat.count <= 256 or not 1 <= repeat.stride <= 0xFFFF // repeat.count:
            raise entries.document.error(
                (*place, "repeat"), "a count from 1 to 256 and a stride that stays below 65536"
            )
        shifts = [(str(repeat.first + index), index * repeat.stride) for index in range(repeat.count)]
    tables = [(name, place, shift) for name, shift in shifts if spec.points or spec.states]
    tables += [(name, (*place, "channels", name), 0) for name in spec.channels]
    if not tables:
        raise entries.document.error(place, "points, states or channels")
    groups: list[Group[Any]] = []
    points: list[tuple[str, Field[Any]]] = []
    for channel, where, shift in tables:
        own = partial(_place, entries, spec.numbering, shift)
        completed = partial(_with_power, entries, spec.numbering)
        fields, extra = entries.read(where, PointSpec, own, section="points", completed=completed)
        extra = tuple(_made_optional(each) for each in extra)
        groups.append(Group(channel, fields, extra))
        # Extra first: where both stand in one register, the values are written last and win.
        points.extend((channel, each) for each in (*extra, *fields))
    return ModbusMap(
        tuple(groups),
        tuple(points),
        spec.max_count,
        spec.max_gap,
        timeout_s=_seconds(entries, (*place, "timeout"), spec.timeout),
        pause_s=_seconds(entries, (*place, "pause"), spec.pause) or 0.0,
        detect=None if spec.detect is None else _detect(entries, (*place, "detect"), spec.detect, spec.numbering),
        line=spec.line,
    )


def _seconds(entries: Entries, place: Place, text: str | None) -> float | None:
    if text is None:
        return None
    seconds = read_duration(entries.document, place, text).total_seconds()
    if not 0 < seconds <= _LONGEST_WAIT_S:
        raise entries.document.error(place, f"more than 0 s, at most {_LONGEST_WAIT_S} s")
    return seconds


def _detect(entries: Entries, place: Place, spec: DetectSpec, numbering: Numbering) -> Detect:
    said = (
        {}
        if spec.device_id is None
        else {key: text for key, text in msgspec.structs.asdict(spec.device_id).items() if text}
    )
    if bool(spec.nothing) == bool(said or spec.points):
        raise entries.document.error(place, "device_id or points, or nothing: why nothing tells it from others")
    signs: list[Sign] = []
    for index, each in enumerate(spec.points):
        where = (*place, "points", index)
        if (each.equals is None) == (each.between is None):
            raise entries.document.error(where, "exactly one of equals and between")
        equals = each.equals if isinstance(each.equals, list) else [each.equals] if each.equals is not None else []
        signs.append(Sign(register(entries, where, each, numbering), tuple(equals), each.between))
    return Detect(said, tuple(signs), spec.nothing)


def register(entries: Entries, place: Place, spec: RegisterSpec | PointSpec, numbering: Numbering) -> Point:
    """Check and compile where one raw value stands among registers. Raises ConfigError."""
    return _place(entries, numbering, 0, place, spec)


def _place(entries: Entries, numbering: Numbering, shift: int, place: Place, spec: Any) -> Point:
    if isinstance(spec, PointSpec):
        _check(entries, place, spec, numbering)
        own = partial(_place, entries, numbering, shift)
        point = compile_point(spec, numbering, shift=shift)
        assert point is not None
        beside: list[Point] = []
        if spec.plus is not None:
            point = replace(point, plus=own((*place, "plus"), spec.plus), scale=1)
        for key in ("when", "unit_from", "scale_from"):
            other = getattr(spec, key)
            if isinstance(other, list):
                beside.extend(own((*place, key, index), each) for index, each in enumerate(other))
            elif other is not None:
                beside.append(own((*place, key), other))
        return replace(point, also=tuple(beside))
    _check(entries, place, spec, numbering)
    found = compile_point(spec, numbering, shift=shift)
    assert found is not None
    return found


def _with_power(entries: Entries, numbering: Numbering, place: Place, spec: PointSpec) -> PointSpec:
    """Write out `scale_from: ADDRESS`: a power of ten in a register of the same table."""
    if not isinstance(spec.scale_from, int):
        return spec
    if spec.offset or spec.map:
        raise entries.document.error((*place, "scale_from"), "neither offset nor map beside a power of ten")
    table = None if numbering == "plc" else spec.table
    power = ScaleRegister(table=table, address=spec.scale_from, type="int16", power=10)
    return msgspec.structs.replace(spec, scale_from=power)


def _made_optional(field: Field[Any]) -> Field[Any]:
    """Let what is only kept beside the row be missing from an answer."""
    if field.place is None:
        return field
    point = replace(field.place, optional=True)
    return replace(field, place=point, locate=point.locate)


def _check(entries: Entries, place: Place, spec: RegisterSpec | PointSpec, numbering: Numbering) -> None:
    error = entries.document.error
    found = wire_address(spec, numbering)
    if found is None and spec.table is not None and wire_address(_without_table(spec), numbering) is not None:
        raise error(
            (*place, "table"), "no table: the number says it (4xxxx holding, 3xxxx input, 1xxxx discrete, 0xxxx coil)"
        )
    if found is None or not 0 <= found[1] <= 0xFFFF:
        where = place if place[-1] == "scale_from" else (*place, "address")
        raise error(where, _NUMBERS[numbering])
    kind = str(spec.type)
    if found[0] in {"coil", "discrete"}:
        if spec.type not in {None, "bool"} or spec.mask is not None or spec.bit is not None:
            raise error((*place, "type"), "no type, mask or bit: a coil or discrete input is one bit")
        return
    if spec.type is None or kind in {"bool", "uint24", "int24", "uint40", "int40", "uint56", "int56", "bcd24"}:
        raise error((*place, "type"), "a type such as uint16, int32 or float32")
    if spec.type in {"uint8", "int8", "bcd8"}:
        raise error((*place, "type"), "a type of whole registers; mask takes a byte out of one")
    if (kind in {"string", "hex"}) != (spec.length > 0):
        raise error((*place, "length"), "a length in bytes exactly for the types string and hex")
    if spec.mask is not None or spec.bit is not None:
        _check_bits(entries, place, spec)


def _without_table(spec: RegisterSpec | PointSpec) -> RegisterSpec | PointSpec:
    """Leave the table away."""
    return msgspec.structs.replace(spec, table=None)


def _check_bits(entries: Entries, place: Place, spec: RegisterSpec | PointSpec) -> None:
    error = entries.document.error
    kind = str(spec.type)
    if not kind.startswith(("uint", "int")):
        raise error((*place, "type"), "an unsigned type beside mask or bit")
    if spec.mask is not None and spec.bit is not None:
        raise error((*place, "bit"), "either mask or bit")
    width = int("".join(filter(str.isdigit, kind)))
    if not 0 <= (spec.bit or 0) < width or not 0 <= (spec.mask or 0) < 1 << width or spec.mask == 0:
        raise error((*place, "mask" if spec.mask is not None else "bit"), bits_of(width))


_NUMBERS = {
    "wire": "a 0-based address from 0 to 65535 (a number such as 40001 needs numbering: plc)",
    "one": "a number from 1 to 65536, as numbering: one says",
    "plc": "a number as numbering: plc writes it (40001 holding, 30001 input, 10001 discrete, 1 coil)",
}
