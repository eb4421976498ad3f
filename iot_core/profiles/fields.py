"""Fields: where each value stands in a message, read one by one so that a bad one spoils no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from iot_core.errors import DecodeError
from iot_core.model import Problem, Reason
from iot_core.profiles.units import Linear
from iot_core.profiles.values import Cases, Codec, apply

if TYPE_CHECKING:
    from iot_core.model import Value

__all__ = ["MISSING", "Field", "Group", "Trace", "collect"]

S = TypeVar("S")


class _Missing:
    """Stands for "the message does not say this"."""


MISSING: Final = _Missing()
Trace = Callable[[str, str, object, object], None]
"""Told of each step while somebody watches: step, key, before, after."""


@dataclass(frozen=True, slots=True)
class Field(Generic[S]):
    """One entry of `values`, `states` or `extra`.

    `place` is where its format writes it; `adjust` gives a further scale that the message itself names.
    """

    codec: Codec | Cases
    locate: Callable[[S], object]
    adjust: Callable[[S], Linear | None] | None = None
    place: Any = None


@dataclass(frozen=True, slots=True)
class Group(Generic[S]):
    """The fields of one channel; the channel without a name is the unit itself."""

    channel: str
    fields: tuple[Field[S], ...]
    extra: tuple[Field[S], ...] = field(default=())

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for each in self.fields for key in each.codec.keys))


def collect(
    fields: tuple[Field[S], ...], source: S, problems: list[Problem], trace: Trace | None = None
) -> dict[str, Any]:
    """Read fields out of a message; what is not said or unknown is absent, what is wrong becomes a Problem."""
    values: dict[str, Any] = {}
    for each in fields:
        raw: object = MISSING
        try:
            raw = each.locate(source)
            if raw is MISSING or raw is None:
                continue
            found = _read(each, raw, source)
        except DecodeError as exc:
            part = None if raw is MISSING else {each.codec.key: raw}
            problems.append(Problem(exc.reason, exc.detail or each.codec.key, part))
            continue
        if trace is not None:
            trace("value", each.codec.key, raw, dict(found) or None)
        for key, value in found.items():
            if values.setdefault(key, value) is not value and values[key] != value:
                problems.append(Problem(Reason.BAD_FIELD, f"{key}: the message says it twice, differently"))
    return values


def _read(each: Field[S], raw: object, source: S) -> Mapping[str, Value]:
    if isinstance(each.codec, Cases):
        return each.codec.read(raw)
    value: Any = each.codec.read(raw)
    if value is not None and each.adjust is not None:
        linear = each.adjust(source)
        value = apply(linear, value) if linear is not None and not isinstance(value, (bool, str)) else None
    return {} if value is None else {each.codec.key: value}
