"""Plain text: one value, values between separators, or `name=value` pairs. No pattern language, so bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Reason, Sample
from iot_core.profiles.fields import MISSING, Field, Trace, collect
from iot_core.profiles.layout import keys_of
from iot_core.profiles.moments import Moment, is_wall_clock

if TYPE_CHECKING:
    from datetime import datetime

    from iot_core.model import Uplink, Value
    from iot_core.profiles.formats import Context

__all__ = ["TextFormat", "TextPlace"]

Parts = Mapping[int | str, str]
_MOST_PARTS: Final = 1000


@dataclass(frozen=True, slots=True)
class TextPlace:
    """Which part of the text, by number from 0 or by name; and what is cut off around its value."""

    field: int | str = 0
    before: str = ""
    after: str = ""

    @property
    def text(self) -> str:
        """Say where it is, for a person."""
        return str(self.field)

    def locate(self, parts: Parts) -> object:
        """Find the raw text; empty is unknown."""
        found = parts.get(self.field)
        if found is None:
            return MISSING
        if self.before:
            if not found.startswith(self.before):
                raise DecodeError(Reason.BAD_FIELD, f"{found[:40]} does not begin with {self.before}")
            found = found[len(self.before) :]
        if self.after:
            found = found.removesuffix(self.after)
        return found.strip() or None

    def place(self, raw: object, parts: dict[int | str, str]) -> None:
        """Put a raw value where `locate` finds it."""
        text = str(raw).lower() if isinstance(raw, bool) else f"{raw:.12g}" if isinstance(raw, float) else str(raw)
        parts[self.field] = f"{self.before}{text}{self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFormat:
    """Values in the parts of a text."""

    fields: tuple[Field[Parts], ...]
    extra: tuple[Field[Parts], ...] = ()
    split: str = ""
    pairs: str = ""
    time: Moment | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return keys_of(self.fields)

    @property
    def channels(self) -> tuple[str, ...]:
        return ("",)

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        try:
            text = uplink.payload.decode("utf-8-sig").strip()
        except UnicodeDecodeError as exc:
            return Decoded(problems=(Problem(Reason.NOT_TEXT, f"byte {exc.start}: {exc.reason}"),))
        if not text:
            return Decoded(problems=(Problem(Reason.EMPTY),))
        parts = self._parts(text)
        if trace is not None:
            trace("text", "", text, dict(parts))
        problems: list[Problem] = []
        values = collect(self.fields, parts, problems, trace)
        extra = collect(self.extra, parts, problems, trace) or None
        if not values and not problems:
            problems.append(Problem(Reason.NO_VALUES, part=text[:200]))
        return Decoded((Sample(values, self._time(parts, uplink, problems), extra=extra),) if values else (), problems)

    def _parts(self, text: str) -> dict[int | str, str]:
        pieces = text.split(self.split, _MOST_PARTS) if self.split else [text]
        parts: dict[int | str, str] = {}
        for index, piece in enumerate(pieces):
            parts[index] = _bare(piece)
            if self.pairs:
                name, found, value = piece.partition(self.pairs)
                if found:
                    parts[_bare(name)] = _bare(value)
        return parts

    def _time(self, parts: Parts, uplink: Uplink, problems: list[Problem]) -> datetime | None:
        stamp = None if self.time is None else parts.get(self.time.place)
        if self.time is None or not stamp:
            return None
        time = self.time.read(stamp, uplink.received_at)
        if time is None and not is_wall_clock(stamp):
            problems.append(Problem(Reason.BAD_TIME, part={"time": stamp}))
        return time

    def write(self, values: Mapping[str, Value], context: Context) -> Sequence[bytes]:
        parts: dict[int | str, str] = {}
        for each in self.fields:
            raw = each.raw(values) if any(key in values for key in each.codec.keys) else None
            if each.place is not None and raw is not None:
                each.place.place(raw, parts)
                for place, wanted in each.beside:
                    place.place(wanted, parts)
        if self.time is not None and context.time is not None:
            parts[self.time.place] = str(self.time.write(context.time, context.arrival))
        numbered = [key for key in parts if isinstance(key, int)]
        pieces = [parts.get(index, "") for index in range(max(numbered) + 1)] if numbered else []
        pieces += [f"{name}{self.pairs}{value}" for name, value in parts.items() if isinstance(name, str)]
        return ((self.split or ",").join(pieces).encode(),)


def _bare(piece: str) -> str:
    """Take off what stands around a field: spaces, and the quotes that loggers write (`"2026-01-15 08:30:00",12`)."""
    piece = piece.strip()
    return piece[1:-1] if len(piece) > 1 and piece[0] == piece[-1] == '"' else piece
