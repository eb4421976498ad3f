"""What registers hold in every type and order, and one address beside: so that a person sees which reading is right.

point -> registers around it -> candidates -> (the profile's own reading first)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from drivers.modbus.link import Broken, Malformed, Refused, Silent
from drivers.modbus.pdu import BITS, Cells
from iot_core.errors import DecodeError
from iot_core.profiles.modbus import words_of
from iot_core.profiles.wire import reorder, wire_type

if TYPE_CHECKING:
    from drivers.modbus.scan import Exchange
    from iot_core.model import Metric
    from iot_core.profiles import Profile
    from iot_core.profiles.fields import Field
    from iot_core.profiles.wire import Order, TypeName

__all__ = ["Candidate", "Device", "Probed", "Spot", "probe", "spots_at", "spots_of"]

SHIFTS: Final = (0, -1, 1)
TYPES: Final[tuple[tuple[TypeName, tuple[Order, ...]], ...]] = (
    ("uint16", ("ABCD", "BADC")),
    ("int16", ("ABCD", "BADC")),
    ("float32", ("ABCD", "CDAB", "BADC", "DCBA")),
    ("uint32", ("ABCD", "CDAB", "BADC", "DCBA")),
    ("int32", ("ABCD", "CDAB", "BADC", "DCBA")),
    ("float64", ("ABCD", "CDAB", "BADC", "DCBA")),
    ("uint64", ("ABCD", "CDAB", "BADC", "DCBA")),
    ("int64", ("ABCD", "CDAB", "BADC", "DCBA")),
    ("bcd16", ("ABCD",)),
    ("bcd32", ("ABCD", "CDAB")),
)
_WIDEST: Final = 4
_MOST: Final = 125
_LARGEST: Final = 1e12
_SMALLEST: Final = 1e-6
"""What lies outside is no measurement; a float in the wrong order gives such numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to read the registers. `value` is None where they hold no number that way."""

    table: str
    address: int
    shift: int
    type: str
    order: str
    raw: float | int | None
    value: object
    expected: bool
    plausible: bool

    def data(self) -> dict[str, Any]:
        """Give it as scripts read it; what JSON cannot hold is text."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in fields.items()}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """One point: which registers were read around it, and what they may mean."""

    key: str
    metric: Metric | None
    words: tuple[int | None, ...]
    """From one address before the point on; None was not read."""
    first: int
    table: str
    failure: str
    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate | None:
        """The profile's own reading where it is plausible, else the one that is, if it is alone."""
        expected = next((each for each in self.candidates if each.expected), None)
        if expected is not None and expected.plausible:
            return expected
        plausible = [each for each in self.candidates if each.plausible]
        return plausible[0] if len(plausible) == 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where to look, and what a model knows of it."""

    key: str
    table: str
    address: int
    metric: Metric | None = None
    field: Field[Any] | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """The unit that is probed, and the way to it."""

    unit_id: int
    exchange: Exchange
    timeout_s: float


def spots_of(profile: Profile) -> list[Spot]:
    """Give every point of a model; of repeated channels the first, for the others are like it."""
    assert profile.modbus is not None
    metrics = {metric.key: metric for metric in profile.device_class.metrics}
    first = {each.codec.key: each for _, each in reversed(profile.modbus.points) if each.place is not None}
    return [
        Spot(key=key, table=each.place.table, address=each.place.address, metric=metrics.get(key), field=each)
        for key, each in reversed(first.items())
    ]


async def probe(spot: Spot, device: Device) -> Probed:
    """Read the registers around a spot, and list what they may mean. Raises Broken when the place is away."""
    first = max(spot.address - 1, 0)
    last = min(spot.address + (1 if spot.table in BITS else _WIDEST), 0xFFFF)
    words, failure = await _around(spot, first, last, device)
    return Probed(
        key=spot.key, metric=spot.metric, words=tuple(words), first=first, table=spot.table, failure=failure,
        candidates=tuple(_candidates(spot, first, words)),
    )  # fmt: skip


async def _around(spot: Spot, first: int, last: int, device: Device) -> tuple[list[int | None], str]:
    """Read a stretch at once, or, where the device refuses that, what it lets itself be asked."""
    words: list[int | None] = [None] * (last - first + 1)
    failure = ""
    most = last - spot.address + 1
    own = -(-spot.field.place.wire.size // 2) if spot.field is not None and spot.field.place is not None else 2
    stretches = [(first, last - first + 1), *((spot.address, count) for count in dict.fromkeys((own, 2, 1)))]
    for start, count in [(start, count) for start, count in stretches if count <= most or start == first]:
        async with device.exchange() as link:
            try:
                block = Cells(spot.table, start, count)
                read = await link.read(device.unit_id, block, timeout_s=device.timeout_s)
            except (Refused, Malformed) as exc:
                failure = str(exc)
                continue
            except (Silent, Broken) as exc:
                return words, str(exc)
        words[start - first : start - first + count] = read
        return words, ""
    return words, failure


def _candidates(spot: Spot, first: int, words: Sequence[int | None]) -> Iterator[Candidate]:
    own = spot.field.place if spot.field is not None else None
    if own is not None:
        yield _own(spot, first, words)
    for shift in SHIFTS:
        start = spot.address + shift - first
        if spot.table in BITS:
            if 0 <= start < len(words) and words[start] is not None and (own is None or shift):
                yield _made(spot, shift, "bit", "", words[start])
            continue
        for name, order, raw in _readings(words[start:] if start >= 0 else ()):
            if own is None or shift or own.mask or (name, order) != (_name(own), own.order):
                yield _made(spot, shift, name, order, raw)


def _readings(words: Sequence[int | None]) -> Iterator[tuple[str, str, object]]:
    """Read the registers from here on in every type and order."""
    for name, orders in TYPES:
        wire = wire_type(name)
        taken = words[: wire.size // 2]
        if len(taken) < wire.size // 2 or None in taken:
            continue
        data = b"".join((word or 0).to_bytes(2, "big") for word in taken)
        for order in orders:
            try:
                yield name, order, wire.read(reorder(data, order))
            except DecodeError:
                yield name, order, None


def _own(spot: Spot, first: int, words: Sequence[int | None]) -> Candidate:
    """Read the point as the profile does, masks and all."""
    assert spot.field is not None
    place = spot.field.place
    blocks = {f"{spot.table}:{first + at}": [word] for at, word in enumerate(words) if word is not None}
    try:
        raw = place.locate(words_of(blocks))
    except DecodeError:
        raw = None
    return _made(spot, 0, "bit" if place.wire is None else _name(place), place.order, raw, expected=True)


def _made(spot: Spot, shift: int, kind: str, order: str, raw: object, *, expected: bool = False) -> Candidate:
    number = raw if isinstance(raw, (int, float)) else None
    value = _value(number, spot.field)
    return Candidate(
        table=spot.table, address=spot.address + shift, shift=shift, type=kind, order=order, raw=number, value=value,
        expected=expected, plausible=_plausible(value, spot.metric),
    )  # fmt: skip


def _value(raw: float | int | None, field: Field[Any] | None) -> object:
    """Apply scale, offset, maps and sentinels of the profile."""
    if raw is None or field is None:
        return raw
    try:
        read: Any = field.codec.read(raw)
    except DecodeError:
        return None
    return dict(read) if isinstance(read, dict) else read


def _plausible(value: object, metric: Metric | None) -> bool:
    if isinstance(value, dict):
        return bool(value)
    if not isinstance(value, (bool, int, float, str)):
        return False
    size = abs(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 1
    if size and not _SMALLEST <= size <= _LARGEST:  # nor NaN
        return False
    return metric.plausible(value) if metric is not None else True


def _name(point: Any) -> str:
    wire = point.wire
    return f"{wire.kind}{wire.size * 8}" if wire.kind not in {"string", "hex"} else str(wire.kind)


def spots_at(text: str) -> list[Spot]:
    """Read `holding:4` or `input:0-9` as places to look at. Raises ValueError."""
    table, _, where = text.partition(":")
    first, _, last = where.partition("-")
    low, high = int(first), int(last or first)
    if table not in {"holding", "input", "coil", "discrete"} or not 0 <= low <= high <= 0xFFFF or high - low >= _MOST:
        raise ValueError(text)
    return [Spot(key=f"{table}:{address}", table=table, address=address) for address in range(low, high + 1)]
