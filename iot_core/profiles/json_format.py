"""JSON, CBOR and protobuf: values at paths of one object, or of each element of a list or table in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import cbor2
import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Reason, Sample
from iot_core.profiles.fields import MISSING, Added, Group, Trace, bare, collect, worded
from iot_core.profiles.moments import Moment, is_wall_clock
from iot_core.profiles.paths import Nth, Path, find, is_number, put, written
from iot_core.profiles.payload import read_cbor, read_json
from iot_core.profiles.protobuf import Message, read_protobuf, write_protobuf
from iot_core.profiles.values import number_of

if TYPE_CHECKING:
    from iot_core.model import Uplink, Value
    from iot_core.profiles.formats import Context

__all__ = ["KEY", "JsonEvery", "JsonFormat", "JsonPlace", "read_count"]

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
    before: str = ""
    after: str = ""

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
                return bare(found, self.before, self.after) if isinstance(found, str) else found
        return MISSING

    def place(self, raw: object, message: Any) -> Any:
        """Put a raw value where `locate` finds it; gives the new message."""
        raw = worded(raw, self.before, self.after) if self.before or self.after else raw
        message = put(message, self.paths[0], raw)
        return message if self.plus is None else self.plus.place.place(0, message)


@dataclass(frozen=True, slots=True)
class _Row:
    """One object that says values: the message, or an element of it with its name."""

    data: object
    name: str | None = None
    time: datetime | None = None
    """Where elements have none of their own, and `every` says how far apart they are."""

    @property
    def shown(self) -> object:
        """What is told of it where it cannot be read."""
        return {"position": self.data.index} if isinstance(self.data, Nth) else self.data


@dataclass(frozen=True, slots=True)
class JsonEvery:
    """How far elements are apart in time: fixed, or where the message itself says it."""

    span: timedelta = timedelta(0)
    paths: tuple[Path, ...] = ()
    """Numbers that are multiplied."""
    scale: float = 1
    """Seconds a count; below 0 where each is older than the one before."""

    def of(self, data: object) -> timedelta | None:
        """Read it; None when the message says none."""
        if not self.paths:
            return self.span
        seconds = self.scale
        for path in self.paths:
            number = number_of(find(data, path))
            if not number:
                return None
            seconds *= number
        try:
            return timedelta(seconds=seconds)
        except (OverflowError, ValueError):
            return None


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
    every: JsonEvery | None = None
    """How far elements without a time of their own are apart; `time` then is the first one's, in the whole message."""
    cbor: bool = False
    message: Message | None = None
    """Of protobuf: what each field number is."""

    @property
    def binary(self) -> bool:
        """Say whether its messages are bytes, not text."""
        return self.cbor or self.message is not None

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for group in self.groups for key in group.keys))

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(group.channel for group in self.groups)

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        problems: list[Problem] = []
        cbor = self.cbor or uplink.content_format == _CBOR
        data: object
        try:
            if self.message is not None:
                data = read_protobuf(uplink.payload, self.message, problems)
            else:
                data = read_cbor(uplink.payload) if cbor else read_json(uplink.payload)
        except DecodeError as exc:
            return Decoded(problems=(Problem(exc.reason, exc.detail),))
        if trace is not None:
            name = "protobuf" if self.message is not None else "cbor" if cbor else "json"
            trace(name, "", uplink.payload, data)
        return self.read_data(data, uplink.received_at, trace, problems)

    def read_data(self, data: object, arrival: datetime, trace: Trace | None, wrong: Sequence[Problem] = ()) -> Decoded:
        """Read what is plain data already. `wrong`: what could not be read of it."""
        samples: list[Sample] = []
        problems = list(wrong)
        if self.each is None:
            if not isinstance(data, dict) and not self._takes(data):
                return Decoded(problems=(Problem(Reason.NOT_AN_OBJECT, part=data),))
            self._read_row(_Row(data), arrival, samples, problems, trace)
        else:
            try:
                rows = self._rows(data, arrival)
            except DecodeError as exc:
                return Decoded(problems=(*problems, Problem(exc.reason, exc.detail, data)))
            for row in rows:
                self._read_element(row, arrival, samples, problems, trace)
        if not samples and not problems:
            if self.quiet or self._speaks(data, arrival):
                return Decoded(online=True)
            problems.append(Problem(Reason.NO_VALUES))
        return Decoded(samples, problems)

    def _speaks(self, data: object, arrival: datetime) -> bool:
        """Say whether any place of ours is there: what it says is unknown now, or only kept beside a row."""
        rows = [_Row(data)] if self.each is None else self._rows(data, arrival)
        fields = [each for group in self.groups for each in (*group.fields, *group.extra)]
        return any(each.locate(row.data) is not MISSING for row in rows for each in fields)

    def _rows(self, data: object, arrival: datetime) -> list[_Row]:
        """Give the elements. Raises DecodeError when there is no array or table of them, or when nobody knows when."""
        assert self.each is not None
        found = find(data, self.each)
        named: list[tuple[object, str]]
        if self.columns and isinstance(found, dict):
            named = [(Nth(found, index), str(index)) for index in range(self._longest(found))]
        elif isinstance(found, dict):
            named = [(row, str(name)[:64]) for name, row in found.items()]
        elif isinstance(found, list) and not self.columns:
            named = [(row, str(index)) for index, row in enumerate(found)]
        else:
            wanted = "a table of lists was expected" if self.columns else "an array or a table was expected"
            raise DecodeError(Reason.NOT_AN_OBJECT, wanted)
        if self.every is None:
            return [_Row(row, name) for row, name in named]
        times = self._times(data, arrival, len(named), self.every)
        return [_Row(row, name, time) for (row, name), time in zip(named, times, strict=True)]

    def _times(self, data: object, arrival: datetime, count: int, every: JsonEvery) -> list[datetime]:
        """Count the times of elements from the first one's. Raises DecodeError when the message does not say it."""
        first = arrival
        if self.time is not None:
            problems: list[Problem] = []
            said = self._time(data, arrival, problems)
            if said is None:
                raise DecodeError(problems[0].reason if problems else Reason.NO_TIME)
            first = said
        step = every.of(data)
        if step is None and count > 1:
            raise DecodeError(Reason.BAD_TIME, "how far apart these are")
        try:
            return [first + (step or timedelta(0)) * index for index in range(count)]
        except OverflowError:
            raise DecodeError(Reason.BAD_TIME, "how far apart these are") from None

    def _longest(self, table: dict[Any, Any]) -> int:
        """Count the positions of lists that run parallel. Raises DecodeError when there is no list, or too much."""
        fields = [each for group in self.groups for each in (*group.fields, *group.extra)]
        paths = [path for each in fields if each.place is not None for path in each.place.paths]
        if self.time is not None and self.every is None:
            paths.append(self.time.place)
        lists = [found for path in paths for found in (_list_at(table, path),) if found is not None]
        if not lists:
            raise DecodeError(Reason.NOT_AN_OBJECT, "a table of lists was expected")
        count = max(map(len, lists))
        if count * len(paths) > _MOST_CELLS:
            raise DecodeError(Reason.TOO_LARGE, f"{count} rows of {len(paths)} columns")
        return count

    def _takes(self, data: object) -> bool:
        """Say whether a message that is no object can hold any of the values."""
        paths = (path for group in self.groups for each in group.fields if each.place for path in each.place.paths)
        if isinstance(data, list):
            return any(path and not isinstance(path[0], str) for path in paths)
        return any(not path for path in paths)

    def _read_element(
        self, row: _Row, arrival: datetime, samples: list[Sample], problems: list[Problem], trace: Trace | None
    ) -> None:
        if not isinstance(row.data, (dict, Nth)) and not self._takes(row.data):
            problems.append(Problem(Reason.NOT_AN_OBJECT, part=row.data))
        elif self.every is None and self.time is not None and self._time(row.data, arrival, problems) is None:
            problems.append(Problem(Reason.NO_TIME, part=row.shown))
        else:
            own = problems if self.time is None or self.every is not None else []
            self._read_row(row, arrival, samples, own, trace)

    def _read_row(
        self, row: _Row, arrival: datetime, samples: list[Sample], problems: list[Problem], trace: Trace | None
    ) -> None:
        data = row.data
        time = self._time(data, arrival, problems) if self.every is None else row.time
        seq = None if self.seq is None else read_count(find(data, self.seq))
        run = "" if self.run is None else find(data, self.run)
        named = "" if self.channel is None else self._named(row)
        if named is None:
            problems.append(Problem(Reason.BAD_FIELD, _MISSING_CHANNEL, row.shown))
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
                        element=self.each is not None and time is not None,
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
        if self.message is not None:
            return (write_protobuf(message, self.message),)
        if self.cbor:
            return (cbor2.dumps(_numbered(message)),)
        return (cbor2.dumps(message) if context.content_format == _CBOR else msgspec.json.encode(message),)

    def write_data(self, values: Mapping[str, Value], context: Context) -> Any:
        """Write what `read_data` reads."""
        message: Any = copy.deepcopy({} if self.columns else dict(self.constant))
        columns: list[Path] = [self.time.place] if self.time is not None and self.every is None else []
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
                    columns.append(each.place.paths[0])
        message = self._signed(message, context)
        if self.each is None:
            return message
        if self.columns:
            for path in dict.fromkeys(columns):
                said = find(message, path)
                message = message if said is MISSING else put(message, path, [said])
            constant: Any = copy.deepcopy(dict(self.constant))
            whole = put(constant, self.each, message) if self.each else constant | message
        else:
            whole = put({}, self.each, {context.channel: message} if self.channel == () else [message])
        return whole if self.every is None else self._timed(whole, context)

    def _timed(self, message: Any, context: Context) -> Any:
        """Write the time."""
        if self.time is None or context.time is None:
            return message
        return put(message, self.time.place, self.time.write(context.time, context.arrival))

    def _signed(self, message: Any, context: Context) -> Any:
        """Write time, number and channel."""
        if self.every is None:
            message = self._timed(message, context)
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


def _list_at(table: object, path: Path) -> list[Any] | None:
    """Find the list that a path leads to, or through to a key of its tables; None where there is none."""
    for at in range(len(path) + 1):
        found = find(table, path[:at])
        if type(found) is list and (at == len(path) or isinstance(path[at], str)):
            return found
    return None


def read_count(said: object) -> int | None:
    """Read a sequence number; some senders write numbers as text. None when it is none: 0 would be a number too."""
    if isinstance(said, str) and said.isdecimal() and len(said) <= 18:
        said = int(said)
    return said if type(said) is int and said >= 0 else None
