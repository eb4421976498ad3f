"""The query language of NGSI-LD (ETSI GS CIM 009, 4.9 and 4.10) over entities that are at hand. Pure.

    pm25>50;areaServed=="Hồng Gai"        and                 level>=3|danger==true       or, also in parentheses
    pm25                                  it is there         level==1..3                 a range, ends included
    name~="^Trạm"                         begins with         pm25.observedAt>2026-09-01T00:00:00Z

A pattern is no regular expression, which could take minutes: `^` at its begin and `$` at its end bind it, the rest is
looked for as it is. Times are compared as times.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from iot_core.api.entities import Attribute
from iot_core.errors import RequestError

__all__ = ["Entity", "Wanted", "geo", "query"]

Entity = Mapping[str, Attribute]
Wanted = Callable[[Entity], bool]

_EARTH_M: Final = 6_371_008.8
"""Mean radius of the earth (IUGG)."""
_DEEPEST: Final = 20
_MOST_CORNERS: Final = 1_000
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<mark>[();|])|(?P<op>==|!=|>=|<=|~=|!~=|>|<)|(?P<text>\"(?:[^\"\\]|\\.)*\")|(?P<word>[^\s();|=!<>~\",]+)"
    r"|(?P<comma>,))"
)
_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le,
}  # fmt: skip


def query(said: str) -> Wanted:
    """Read `q`. Raises RequestError."""
    parser = _Parser(said)
    wanted = parser.either(0)
    if parser.at < len(parser.tokens):
        raise parser.broken()
    return wanted


class _Parser:
    def __init__(self, said: str) -> None:
        self.said = said
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(said.rstrip()):
            found = _TOKEN.match(said, at)
            if found is None or found.lastgroup is None:
                raise self.broken()
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()
        self.at = 0

    def broken(self) -> RequestError:
        return RequestError("ngsi.bad_query", q=self.said[:200])

    def next(self, *kinds: str) -> str:
        if self.at < len(self.tokens) and self.tokens[self.at][0] in kinds:
            self.at += 1
            return self.tokens[self.at - 1][1]
        raise self.broken()

    def sees(self, word: str) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at][1] == word and self.tokens[self.at][0] != "text":
            self.at += 1
            return True
        return False

    def either(self, depth: int) -> Wanted:
        terms = [self.both(depth)]
        while self.sees("|"):
            terms.append(self.both(depth))
        return lambda entity: any(term(entity) for term in terms)

    def both(self, depth: int) -> Wanted:
        terms = [self.term(depth)]
        while self.sees(";"):
            terms.append(self.term(depth))
        return lambda entity: all(term(entity) for term in terms)

    def term(self, depth: int) -> Wanted:
        if depth > _DEEPEST:
            raise self.broken()
        if self.sees("("):
            inner = self.either(depth + 1)
            self.next_is(")")
            return inner
        name = self.next("word")
        if self.at >= len(self.tokens) or self.tokens[self.at][0] != "op":
            return lambda entity: _value_of(entity, name) is not None
        op = self.next("op")
        values = [self.value()]
        while self.sees(","):
            values.append(self.value())
        return lambda entity: _holds(_value_of(entity, name), op, values)

    def next_is(self, word: str) -> None:
        if not self.sees(word):
            raise self.broken()

    def value(self) -> Any:
        said = self.next("text", "word")
        if said.startswith('"'):
            try:
                return msgspec.json.decode(said)
            except (msgspec.DecodeError, UnicodeError) as exc:
                raise self.broken() from exc
        low, dots, high = said.partition("..")
        return (_read(low), _read(high)) if dots else _read(said)


def _read(said: str) -> Any:
    if said in ("true", "false"):
        return said == "true"
    try:
        return float(said)
    except ValueError:
        return _moment(said)


def _moment(said: str) -> Any:
    """Read a time as a time; leave other texts."""
    try:
        at = datetime.fromisoformat(said)
    except ValueError:
        return said
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _value_of(entity: Entity, name: str) -> Any:
    name, _, inner = name.partition(".")
    found = entity.get(name)
    if found is None or inner not in ("", "value", "object", "observedAt", "unitCode"):
        return None
    value: Any = {"observedAt": found.at, "unitCode": found.unit}.get(inner, found.value)
    return _moment(value) if isinstance(value, str) else value


def _holds(value: Any, op: str, wanted: Sequence[Any]) -> bool:
    if value is None:
        return False
    if op in ("~=", "!~="):
        return isinstance(value, str) and (_fits(value, str(wanted[0])) is (op == "~="))
    several = value if isinstance(value, list) else [value]
    if op in ("==", "!="):
        same = any(_equal(one, each) for one in several for each in wanted)
        return same is (op == "==")
    limit = wanted[0]
    return any(_alike(one, limit) and _ORDER[op](one, limit) for one in several)


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, tuple):
        low, high = wanted
        return _alike(value, low) and _alike(value, high) and low <= value <= high
    return _alike(value, wanted) and bool(value == wanted)


def _alike(one: Any, other: Any) -> bool:
    """Say whether two can be compared: a bool is no number here."""
    if isinstance(one, bool) or isinstance(other, bool):
        return isinstance(one, bool) and isinstance(other, bool)
    if isinstance(one, int | float):
        return isinstance(other, int | float)
    return isinstance(other, type(one)) or isinstance(one, type(other))


def _fits(value: str, pattern: str) -> bool:
    begins, ends = pattern.startswith("^"), pattern.endswith("$")
    inner = pattern.removeprefix("^").removesuffix("$")
    if begins and ends:
        return value == inner
    return value.startswith(inner) if begins else value.endswith(inner) if ends else inner in value


# ------------------------------------------------------------------ where
@dataclass(frozen=True, slots=True)
class _Shape:
    """A point, or the rings of polygons, as [longitude, latitude]."""

    point: tuple[float, float] | None
    rings: tuple[tuple[tuple[float, float], ...], ...] = ()


def geo(georel: str, geometry: str | None, coordinates: str | None, geoproperty: str | None) -> Wanted:
    """Read a geo-query about points. Raises RequestError."""
    relation, *limits = georel.split(";")
    shape = _shape(geometry or "", coordinates or "")
    name = geoproperty or "location"
    if relation == "near" and shape.point is not None:
        low, high = _distances(limits)
        center = shape.point
        return lambda entity: (at := _point(entity, name)) is not None and low <= _apart(at, center) <= high
    if relation not in ("within", "intersects", "disjoint") or limits or not shape.rings:
        raise RequestError("ngsi.bad_georel", georel=georel[:200])
    inside = relation != "disjoint"
    return lambda entity: (
        (at := _point(entity, name)) is not None
        and (sum(_in_ring(at, ring) for ring in shape.rings) % 2 == 1) is inside
    )


def _shape(geometry: str, coordinates: str) -> _Shape:
    try:
        if geometry == "Point":
            return _Shape(msgspec.json.decode(coordinates, type=tuple[float, float]))
        if geometry == "Polygon":
            rings = msgspec.json.decode(coordinates, type=tuple[tuple[tuple[float, float], ...], ...])
            if rings and sum(map(len, rings)) <= _MOST_CORNERS:
                return _Shape(None, rings)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    raise RequestError("ngsi.bad_geometry", geometry=geometry[:40])


def _distances(limits: Sequence[str]) -> tuple[float, float]:
    found = {"minDistance": 0.0, "maxDistance": math.inf}
    for limit in limits:
        name, _, metres = limit.partition("==")
        try:
            found[name if name in found else "?"] = float(metres)
        except ValueError as exc:
            raise RequestError("ngsi.bad_georel", georel=";".join(limits)[:200]) from exc
    if not limits or "?" in found:
        raise RequestError("ngsi.bad_georel", georel=";".join(limits)[:200] or "near")
    return found["minDistance"], found["maxDistance"]


def _point(entity: Entity, name: str) -> tuple[float, float] | None:
    found = entity.get(name)
    if found is None or found.kind != "GeoProperty":
        return None
    longitude, latitude = found.value["coordinates"]
    return longitude, latitude


def _apart(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Give the distance of two points in metres (haversine)."""
    (x1, y1), (x2, y2) = (map(math.radians, each) for each in (one, other))
    half = math.sin((y2 - y1) / 2) ** 2 + math.cos(y1) * math.cos(y2) * math.sin((x2 - x1) / 2) ** 2
    return 2 * _EARTH_M * math.asin(math.sqrt(min(half, 1.0)))


def _in_ring(at: tuple[float, float], ring: Sequence[tuple[float, float]]) -> bool:
    """Count how often a ray to the east crosses the ring."""
    x, y = at
    inside = False
    for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], *ring[:1]], strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            inside = not inside
    return inside
