"""JSON and CBOR: values at paths of one object, or of each element of a list or table in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import cbor2
import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Reason, Sample
from iot_core.profiles.fields import MISSING, Added, Group, Trace, collect
from iot_core.profiles.moments import Moment, is_wall_clock
from iot_core.profiles.paths import Path, find, is_number, put, written
from iot_core.profiles.payload import read_cbor, read_json

if TYPE_CHECKING:
    from datetime import datetime

    from iot_core.model import Uplink, Value
    from iot_core.profiles.formats import Context

__all__ = ["KEY", "JsonFormat", "JsonPlace", "read_count"]

KEY: Final = "@key"
"""As a channel: the name under which an element stands in its table."""
_CBOR: Final = 60
_MISSING_CHANNEL: Final = "its channel is missing"
_MOST_CELLS: Final = 200_000
"""Of lists that run parallel: rows times columns."""


@dataclass(frozen=True, slots=True)
class JsonPlace:
    """Where a JSON value stands: the first of several paths that is there."""

    paths: tuple[Path, ...]
    plus: Added[JsonPlace] | None = None

    @property
    def text(self) -> str:
        """Say where it is, for a person."""
        text = " | ".join(written(path) for path in self.paths)
        return text if self.plus is None else f"{text} + {self.plus.place.text}"

    def locate(self, message: object) -> object:
        """Find the raw value."""
        raw = self._first(message)
        return raw if self.plus is None else self.plus.to(raw, self.plus.place.locate(message))

    def _first(self, message: object) -> object:
        for path in self.paths:
            found = find(message, path)
            if found is not MISSING:
                return found
        return MISSING

    def place(self, raw: object, message: Any) -> Any:
        """Put a raw value where `locate` finds it; gives the new message."""
        message = put(message, self.paths[0], raw)
        return message if self.plus is None else self.plus.place.place(0, message)


@dataclass(frozen=True, slots=True)
class _Row:
    """One object that says values: the message, or an element of it with its name."""

    data: object
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFormat:
    """Values at paths of one JSON object, or of each element of an array or table in it."""

    groups: tuple[Group[object], ...]
    time: Moment | None = None
    seq: Path | None = None
    run: Path | None = None
    each: Path | None = None
    columns: bool = False
    """What stands at `each` is a table of lists that run parallel: each position in them is one element."""
    channel: Path | None = None
    """Where an element of `each` names its channel; empty: the name under which it stands."""
    quiet: bool = False
    """Messages without any of our values are normal: they show that the device is there, and are not held."""
    constant: Mapping[str, Any] = field(default_factory=dict)
    cbor: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for group in self.groups for key in group.keys))

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(group.channel for group in self.groups)

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        try:
            binary = self.cbor or uplink.content_format == _CBOR
            data = read_cbor(uplink.payload) if binary else read_json(uplink.payload)
        except DecodeError as exc:
            return Decoded(problems=(Problem(exc.reason, exc.detail),))
        if trace is not None:
            trace("cbor" if binary else "json", "", uplink.payload, data)
        return self.read_data(data, uplink.received_at, trace)

    def read_data(self, data: object, arrival: datetime, trace: Trace | None) -> Decoded:
        """Read what is JSON already."""
        samples: list[Sample] = []
        problems: list[Problem] = []
        if self.each is None:
            if not isinstance(data, dict) and not self._takes(data):
                return Decoded(problems=(Problem(Reason.NOT_AN_OBJECT, part=data),))
            self._read_row(_Row(data), arrival, samples, problems, trace)
        else:
            try:
                rows = self._rows(data)
            except DecodeError as exc:
                return Decoded(problems=(Problem(exc.reason, exc.detail, data),))
            for row in rows:
                self._read_element(row, arrival, samples, problems, trace)
        if not samples and not problems:
            if self.quiet or self._speaks(data):
                return Decoded(online=True)
            problems.append(Problem(Reason.NO_VALUES))
        return Decoded(samples, problems)

    def _speaks(self, data: object) -> bool:
        """Say whether any place of ours is there: what it says is unknown now, or only kept beside a row."""
        rows = [_Row(data)] if self.each is None else self._rows(data)
        fields = [each for group in self.groups for each in (*group.fields, *group.extra)]
        return any(each.locate(row.data) is not MISSING for row in rows for each in fields)

    def _rows(self, data: object) -> list[_Row]:
        """Give the elements. Raises DecodeError when there is no array or table of them."""
        assert self.each is not None
        found = find(data, self.each)
        if isinstance(found, dict):
            if self.columns:
                return [_Row(row, str(index)) for index, row in enumerate(_parallel(found))]
            return [_Row(row, str(name)[:64]) for name, row in found.items()]
        if isinstance(found, list) and not self.columns:
            return [_Row(row, str(index)) for index, row in enumerate(found)]
        wanted = "a table of lists was expected" if self.columns else "an array or a table was expected"
        raise DecodeError(Reason.NOT_AN_OBJECT, wanted)

    def _takes(self, data: object) -> bool:
        """Say whether a message that is no object can hold any of the values."""
        paths = (path for group in self.groups for each in group.fields if each.place for path in each.place.paths)
        if isinstance(data, list):
            return any(path and not isinstance(path[0], str) for path in paths)
        return any(not path for path in paths)

    def _read_element(
        self, row: _Row, arrival: datetime, samples: list[Sample], problems: list[Problem], trace: Trace | None
    ) -> None:
        if not isinstance(row.data, dict) and not self._takes(row.data):
            problems.append(Problem(Reason.NOT_AN_OBJECT, part=row.data))
        elif self.time is not None and self._time(row.data, arrival, problems) is None:
            problems.append(Problem(Reason.NO_TIME, part=row.data))
        else:
            self._read_row(row, arrival, samples, problems if self.time is None else [], trace)

    def _read_row(
        self, row: _Row, arrival: datetime, samples: list[Sample], problems: list[Problem], trace: Trace | None
    ) -> None:
        data = row.data
        time = self._time(data, arrival, problems)
        seq = None if self.seq is None else read_count(find(data, self.seq))
        run = "" if self.run is None else find(data, self.run)
        named = "" if self.channel is None else self._named(row)
        if named is None:
            problems.append(Problem(Reason.BAD_FIELD, _MISSING_CHANNEL, data))
            return
        for group in self.groups:
            values = collect(group.fields, data, problems, trace)
            extra = collect(group.extra, data, problems, trace) or None
            if values:
                samples.append(
                    Sample(
                        values,
                        time,
                        group.channel or named,
                        seq,
                        run if type(run) is str else "",
                        extra=extra,
                        element=self.each is not None and self.time is not None,
                    )
                )

    def _named(self, row: _Row) -> str | None:
        """Name an element's channel; None when it does not say it."""
        if not self.channel:
            return row.name
        said = find(row.data, self.channel)
        return str(said)[:64] if isinstance(said, (str, int)) and said != "" else None

    def _time(self, data: object, arrival: datetime, problems: list[Problem]) -> datetime | None:
        """Read the time; one without a zone is a wall clock that nobody can place, so it counts as not said."""
        stamp = None if self.time is None else find(data, self.time.place)
        if self.time is None or stamp is None or stamp is MISSING:
            return None
        time = self.time.read(stamp, arrival)
        if time is None and not is_wall_clock(stamp):
            problems.append(Problem(Reason.BAD_TIME, part={"time": stamp}))
        return time

    def write(self, values: Mapping[str, Value], context: Context) -> Sequence[bytes]:
        message = self.write_data(values, context)
        if self.cbor:
            return (cbor2.dumps(_numbered(message)),)
        return (cbor2.dumps(message) if context.content_format == _CBOR else msgspec.json.encode(message),)

    def write_data(self, values: Mapping[str, Value], context: Context) -> Any:
        """Write what `read_data` reads."""
        message: Any = copy.deepcopy({} if self.columns else dict(self.constant))
        for group in self.groups:
            if group.channel and group.channel != context.channel:
                continue
            for each in group.fields:
                if each.place is None or not any(key in values for key in each.codec.keys):
                    continue
                raw = each.raw(values)
                if raw is not None:
                    message = each.place.place(raw, message)
                    for place, wanted in each.beside:
                        message = place.place(wanted, message)
        message = self._signed(message, context)
        if self.each is None:
            return message
        if self.columns:
            lists = {key: [said] for key, said in message.items()}
            constant: Any = copy.deepcopy(dict(self.constant))
            return put(constant, self.each, lists) if self.each else constant | lists
        return put({}, self.each, {context.channel: message} if self.channel == () else [message])

    def _signed(self, message: Any, context: Context) -> Any:
        """Write time, number and channel."""
        if self.time is not None and context.time is not None:
            message = put(message, self.time.place, self.time.write(context.time, context.arrival))
        for path, said in ((self.seq, context.seq), (self.run, context.run or None), (self.channel, context.channel)):
            if path and said is not None and said != "":
                message = put(message, path, said)
        return message


def _numbered(message: object) -> object:
    """Write keys of digits as the whole numbers that they are in CBOR."""
    if isinstance(message, list):
        return [_numbered(each) for each in message]
    if not isinstance(message, dict):
        return message
    return {int(key) if is_number(key) else key: _numbered(value) for key, value in message.items()}


def _parallel(table: dict[Any, Any]) -> list[dict[Any, Any]]:
    """Turn lists that run parallel into rows. What is no list holds for each row; a shorter list says nothing there.

    Raises DecodeError when there is no list, or too much.
    """
    lists = {key: said for key, said in table.items() if isinstance(said, list)}
    if not lists:
        raise DecodeError(Reason.NOT_AN_OBJECT, "a table of lists was expected")
    count = max(map(len, lists.values()))
    if count * len(table) > _MOST_CELLS:
        raise DecodeError(Reason.TOO_LARGE, f"{count} rows of {len(table)} columns")
    beside = {key: said for key, said in table.items() if key not in lists}
    return [beside | {key: said[index] for key, said in lists.items() if index < len(said)} for index in range(count)]


def read_count(said: object) -> int | None:
    """Read a sequence number; some senders write numbers as text. None when it is none: 0 would be a number too."""
    if isinstance(said, str) and said.isdecimal() and len(said) <= 18:
        said = int(said)
    return said if type(said) is int and said >= 0 else None
