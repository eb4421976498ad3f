"""Plain text: one value, values between separators, or `name=value` pairs. No pattern language, so bounded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Reason, Sample
from iot_core.profiles.fields import MISSING, Added, Field, Trace, bare, collect, worded
from iot_core.profiles.layout import keys_of
from iot_core.profiles.moments import Moment, is_wall_clock
from iot_core.profiles.text_checksums import TextChecksum

if TYPE_CHECKING:
    from datetime import datetime

    from iot_core.model import Uplink, Value
    from iot_core.profiles.formats import Context

__all__ = ["Split", "TextFormat", "TextPlace"]

Parts = Mapping[int | str, str]
_MOST_PARTS: Final = 1000
_MOST_ROWS: Final = 1000
_SIGN: Final = r"(?<![eE])(?=[+-])"
_DIGITS: Final = 15
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?")


@dataclass(frozen=True, slots=True)
class TextPlace:
    """Which part of the text, by number from 0 or by name; and what is cut off around its value."""

    field: int | str = 0
    before: str = ""
    after: str = ""
    plus: Added[TextPlace] | None = None

    @property
    def text(self) -> str:
        """Say where it is, for a person."""
        return str(self.field) if self.plus is None else f"{self.field} + {self.plus.place.text}"

    def locate(self, parts: Parts) -> object:
        """Find the raw text; empty is unknown."""
        raw = self._first(parts)
        return raw if self.plus is None else self.plus.to(raw, self.plus.place.locate(parts))

    def _first(self, parts: Parts) -> object:
        found = parts.get(self.field)
        if found is None:
            return MISSING
        return bare(found, self.before, self.after).strip() or None

    def place(self, raw: object, parts: dict[int | str, str]) -> None:
        """Put a raw value where `locate` finds it."""
        parts[self.field] = worded(raw, self.before, self.after)
        if self.plus is not None:
            self.plus.place.place(0, parts)


@dataclass(frozen=True, slots=True)
class Split:
    """What stands between fields: one of several texts, or `sign`, which belongs to the field that it begins."""

    between: tuple[str, ...]
    pattern: re.Pattern[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        each = (_SIGN if text == "sign" else re.escape(text) for text in sorted(self.between, key=len, reverse=True))
        object.__setattr__(self, "pattern", re.compile("|".join(each)))

    def pieces(self, text: str) -> list[str]:
        """Divide a text, at most so often that it stays bounded."""
        return self.pattern.split(text, _MOST_PARTS)

    def join(self, pieces: Sequence[str]) -> str:
        """Put pieces together as `pieces` divides them."""
        if self.between[0] != "sign":
            return self.between[0].join(pieces)
        return "".join(
            f"+{piece}" if index and piece[:1] not in {"+", "-"} else piece for index, piece in enumerate(pieces)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFormat:
    """Values in the parts of a text."""

    fields: tuple[Field[Parts], ...]
    extra: tuple[Field[Parts], ...] = ()
    split: Split | None = None
    pairs: str = ""
    rows: str = ""
    """What stands between rows: with `time` each a message of its own, without it parts of one."""
    time: Moment | None = None
    quiet: bool = False
    checksum: TextChecksum | None = None
    """The checksum that each row ends with."""

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
        problems: list[Problem] = []
        rows = text.split(self.rows, _MOST_ROWS) if self.rows else [text]
        if len(rows) > _MOST_ROWS:
            problems.append(Problem(Reason.TOO_LARGE, f"more than {_MOST_ROWS} rows", rows.pop()[:200]))
        samples: list[Sample] = []
        speaks = self.quiet
        together: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for row in filter(str.strip, rows):
            opened = self._opened(row, problems)
            if opened is None:
                continue
            parts, values, extra = self.row(opened, problems, trace)
            if self.rows and self.time is None:
                together[0].update(values)
                together[1].update(extra or {})
            elif values:
                samples += self._sample(values, extra, parts, uplink, problems)
            speaks = speaks or any(each.place and each.place.field in parts for each in (*self.fields, *self.extra))
        if together[0]:
            samples.append(Sample(together[0], extra=together[1] or None))
        if samples or problems:
            return Decoded(samples, problems)
        return Decoded(online=True) if speaks else Decoded(problems=(Problem(Reason.NO_VALUES, part=text[:200]),))

    def _opened(self, row: str, problems: list[Problem]) -> str | None:
        """Take off the checksum; None when it is not right."""
        try:
            return row if self.checksum is None else self.checksum.opened(row)
        except DecodeError as exc:
            problems.append(Problem(exc.reason, exc.detail, row[:200]))
            return None

    def row(
        self, text: str, problems: list[Problem], trace: Trace | None
    ) -> tuple[Parts, dict[str, Any], dict[str, Any] | None]:
        """Read one row: its parts, values and extra."""
        parts = self._parts(text)
        if trace is not None:
            trace("text", "", text, dict(parts))
        values = collect(self.fields, parts, problems, trace)
        extra = {key: _told(said) for key, said in collect(self.extra, parts, problems, trace).items()}
        return parts, values, extra or None

    def _sample(
        self,
        values: dict[str, Any],
        extra: dict[str, Any] | None,
        parts: Parts,
        uplink: Uplink,
        problems: list[Problem],
    ) -> list[Sample]:
        """Make the sample of a row; one of several rows needs a time of its own."""
        known = len(problems)
        time = self._time(parts, uplink, problems)
        if not self.rows or time is not None:
            return [Sample(values, time, extra=extra, element=bool(self.rows))]
        if len(problems) == known:
            problems.append(Problem(Reason.NO_TIME, part=dict(values)))
        return []

    def _parts(self, text: str) -> dict[int | str, str]:
        pieces = self.split.pieces(text) if self.split is not None else [text]
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
        stamp = None
        if self.time is not None and context.time is not None:
            stamp = str(self.time.write(context.time, context.arrival))
        rows = self._told_apart(values) if self.rows and self.time is None else [values]
        lines = [self.line(each, stamp) for each in rows]
        return (
            self.rows.join(line if self.checksum is None else self.checksum.closed(line) for line in lines).encode(),
        )

    def _told_apart(self, values: Mapping[str, Value]) -> list[dict[str, Value]]:
        """Divide values into the rows that say them: conditions that differ cannot hold in one row."""
        rows: dict[tuple[Any, ...], dict[str, Value]] = {}
        for each in self.fields:
            said = {key: values[key] for key in each.codec.keys if key in values}
            if said:
                asked = () if each.when is None else tuple((place.field, raw) for place, raw in each.when.wanted)
                rows.setdefault(asked, {}).update(said)
        return list(rows.values())

    def line(self, values: Mapping[str, Value], stamp: str | None = None) -> str:
        """Write one row."""
        parts: dict[int | str, str] = {}
        for each in self.fields:
            raw = each.raw(values) if any(key in values for key in each.codec.keys) else None
            if each.place is not None and raw is not None:
                each.place.place(raw, parts)
                for place, wanted in each.beside:
                    place.place(wanted, parts)
        if self.time is not None and stamp is not None:
            parts[self.time.place] = stamp
        numbered = [key for key in parts if isinstance(key, int)]
        pieces = [parts.get(index, "") for index in range(max(numbered) + 1)] if numbered else []
        pieces += [f"{name}{self.pairs}{value}" for name, value in parts.items() if isinstance(name, str)]
        return self.split.join(pieces) if self.split is not None else ",".join(pieces)


def _told(said: object) -> object:
    """Read a number out of text where nothing is lost by it: `007` and `1.50` stay what they are."""
    if isinstance(said, str) and len(said) <= _DIGITS and _NUMBER.fullmatch(said):
        return float(said) if "." in said else int(said)
    return said


def _bare(piece: str) -> str:
    """Take off what stands around a field: spaces, and the quotes that loggers write (`"2026-01-15 08:30:00",12`)."""
    piece = piece.strip()
    return piece[1:-1] if len(piece) > 1 and piece[0] == piece[-1] == '"' else piece
