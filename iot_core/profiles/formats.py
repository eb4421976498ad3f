"""Message formats of vendors: JSON paths, SenML names, raw bytes, presence text. Each reads and writes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Quality, Reason, Sample
from iot_core.profiles.classes import ClassFile
from iot_core.profiles.fields import MISSING, Group, Trace, collect
from iot_core.profiles.native import decode_native, encode_native
from iot_core.profiles.paths import Path, find, put
from iot_core.profiles.payload import read_json
from iot_core.profiles.senml import CBOR_FORMAT, JSON_FORMAT, Record, read_pack, resolve, sheets, write_pack
from iot_core.profiles.times import parse_time
from iot_core.profiles.units import SAME, Linear, conversion
from iot_core.profiles.values import Cases, Codec

if TYPE_CHECKING:
    from iot_core.model import Uplink, Value

__all__ = ["Context", "Format", "JsonFormat", "JsonPlace", "NativeFormat", "PresenceFormat", "SenmlFormat"]

_TEXT_SHOWN: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a message says beside its values, when it is written."""

    time: datetime | None = None
    seq: int | None = None
    run: str = ""
    address: str = ""
    content_format: int | None = None
    channel: str = ""


class Format(Protocol):
    """One way to say values in a payload."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that it can say."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it feeds; `""` is the unit itself."""
        ...

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        """Decode; total."""
        ...

    def write(self, values: Mapping[str, Value], context: Context) -> bytes:
        """Play it backwards. Raises ValueError for a value that the wire cannot hold."""
        ...


@dataclass(frozen=True, slots=True)
class NativeFormat:
    """The native contract, with the units of its class for SenML."""

    class_file: ClassFile

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(metric.key for metric in self.class_file.device_class.metrics)

    @property
    def channels(self) -> tuple[str, ...]:
        return ("",)

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:  # noqa: ARG002 - nothing on the way to show
        return decode_native(uplink, self.class_file)

    def write(self, values: Mapping[str, Value], context: Context) -> bytes:
        return encode_native(
            values, time=context.time, seq=context.seq, run=context.run, content_format=context.content_format
        )


@dataclass(frozen=True, slots=True)
class PresenceFormat:
    """A topic that only says whether the device is there, in its own words."""

    online: str
    offline: str

    @property
    def keys(self) -> tuple[str, ...]:
        return ()

    @property
    def channels(self) -> tuple[str, ...]:
        return ()

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        said = uplink.payload[: 4 * _TEXT_SHOWN].decode("utf-8", "replace").strip()
        if trace is not None:
            trace("presence", "online", said, said == self.online)
        if said in {self.online, self.offline}:
            return Decoded(online=said == self.online)
        detail = f"presence is {self.online} or {self.offline}"
        return Decoded(problems=(Problem(Reason.BAD_FIELD, detail, said[:_TEXT_SHOWN]),))

    def write(self, values: Mapping[str, Value], context: Context) -> bytes:  # noqa: ARG002 - it holds no values
        return self.online.encode()


@dataclass(frozen=True, slots=True)
class JsonPlace:
    """Where a JSON value stands: the first of several paths that is there, and the unit that it names."""

    paths: tuple[Path, ...]
    unit_path: Path = ()
    units: Mapping[object, Linear] = field(default_factory=dict)

    def locate(self, message: object) -> object:
        """Find the raw value."""
        for path in self.paths:
            found = find(message, path)
            if found is not MISSING:
                return found
        return MISSING

    def adjust(self, message: object) -> Linear | None:
        """Find the conversion for the unit that the message names; none named is none needed."""
        unit = find(message, self.unit_path)
        if unit is MISSING or unit is None:
            return Linear()
        if isinstance(unit, (str, int)) and unit in self.units:
            return self.units[unit]
        raise DecodeError(Reason.BAD_FIELD, f"unit {str(unit)[:_TEXT_SHOWN]} is not known")


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """Values at paths of one JSON object, or of each element of an array in it."""

    groups: tuple[Group[object], ...]
    time: Path | None = None
    seq: Path | None = None
    run: Path | None = None
    each: Path | None = None
    quiet: bool = False
    """Messages without any of our values are normal: they show that the device is there, and are not held."""
    constant: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for group in self.groups for key in group.keys))

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(group.channel for group in self.groups)

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        try:
            data = read_json(uplink.payload)
        except DecodeError as exc:
            return Decoded(problems=(Problem(exc.reason, exc.detail),))
        if trace is not None:
            trace("json", "", uplink.payload, data)
        samples: list[Sample] = []
        problems: list[Problem] = []
        if self.each is None:
            if not isinstance(data, dict):
                return Decoded(problems=(Problem(Reason.NOT_AN_OBJECT, part=data),))
            self._read_object(data, samples, problems, trace)
        else:
            rows = find(data, self.each)
            if not isinstance(rows, list):
                return Decoded(problems=(Problem(Reason.NOT_AN_OBJECT, "an array was expected", data),))
            for row in rows:
                self._read_row(row, samples, problems, trace)
        if not samples and not problems:
            if self.quiet:
                return Decoded(online=True)
            problems.append(Problem(Reason.NO_VALUES))
        return Decoded(samples, problems)

    def _read_row(self, row: object, samples: list[Sample], problems: list[Problem], trace: Trace | None) -> None:
        if not isinstance(row, dict):
            problems.append(Problem(Reason.NOT_AN_OBJECT, part=row))
        elif self._time(row, problems) is None:
            problems.append(Problem(Reason.NO_TIME, part=row))
        else:
            self._read_object(row, samples, [], trace)

    def _read_object(self, data: object, samples: list[Sample], problems: list[Problem], trace: Trace | None) -> None:
        time = self._time(data, problems)
        seq = None if self.seq is None else find(data, self.seq)
        run = "" if self.run is None else find(data, self.run)
        for group in self.groups:
            values = collect(group.fields, data, problems, trace)
            extra = collect(group.extra, data, problems, trace) or None
            if values:
                samples.append(
                    Sample(
                        values,
                        time,
                        group.channel,
                        seq if type(seq) is int and seq >= 0 else None,
                        run if type(run) is str else "",
                        extra=extra,
                    )
                )

    def _time(self, data: object, problems: list[Problem]) -> datetime | None:
        """Read the time; one without a zone is a wall clock that nobody can place, so it counts as not said."""
        stamp = None if self.time is None else find(data, self.time)
        if stamp is None or stamp is MISSING:
            return None
        time = parse_time(stamp)
        if time is None and not _is_wall_clock(stamp):
            problems.append(Problem(Reason.BAD_TIME, part={"time": stamp}))
        return time

    def write(self, values: Mapping[str, Value], context: Context) -> bytes:
        message: Any = copy.deepcopy(dict(self.constant))
        for group in self.groups:
            if group.channel != context.channel and group.channel:
                continue
            for each in group.fields:
                raw = _raw_of(each.codec, values)
                if raw is not None:
                    message = put(message, each.place.paths[0], raw)
        if self.time is not None and context.time is not None:
            message = put(message, self.time, context.time.astimezone(UTC).isoformat())
        if self.seq is not None and context.seq is not None:
            message = put(message, self.seq, context.seq)
        if self.run is not None and context.run:
            message = put(message, self.run, context.run)
        return msgspec.json.encode(message if self.each is None else put({}, self.each, [message]))


Pack = Mapping[str, Record]


@dataclass(frozen=True, slots=True)
class SenmlFormat:
    """Values under the names of a vendor's or a standard's objects (LwM2M `3424/0/1`)."""

    group: Group[Pack]
    lengths: tuple[int, ...]
    """How many `/`-separated parts the profile's names have: that many are compared, from the end."""

    @property
    def keys(self) -> tuple[str, ...]:
        return self.group.keys

    @property
    def channels(self) -> tuple[str, ...]:
        return ("",)

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        content = uplink.content_format
        if content not in {None, JSON_FORMAT, CBOR_FORMAT}:
            return Decoded(problems=(Problem(Reason.WRONG_FORMAT, f"content format {content}"),))
        problems: list[Problem] = []
        try:
            records = resolve(read_pack(uplink.payload, content), uplink.received_at, problems)
        except DecodeError as exc:
            return Decoded(problems=(Problem(exc.reason, exc.detail),))
        samples: list[Sample] = []
        for sheet in sheets(records, lambda record: record.name):
            pack = self._pack(sheet, trace)
            values = collect(self.group.fields, pack, problems, trace)
            extra = collect(self.group.extra, pack, problems, trace) or None
            if values:
                quality = Quality.UNCERTAIN if sheet[0].relative else Quality.GOOD
                samples.append(Sample(values, sheet[0].time, quality=quality, extra=extra))
        if not samples and not problems:
            problems.append(Problem(Reason.NO_VALUES))
        return Decoded(samples, problems)

    def _pack(self, sheet: list[Record], trace: Trace | None) -> dict[str, Record]:
        pack: dict[str, Record] = {}
        for record in sheet:
            parts = record.name.strip("/").split("/")
            pack.update(("/".join(parts[-length:]), record) for length in self.lengths)
            if trace is not None:
                trace("record", record.name, record.unit, record.value)
        return pack

    def write(self, values: Mapping[str, Value], context: Context) -> bytes:
        fields: dict[str, object] = {}
        for each in self.group.fields:
            place: SenmlPlace = each.place
            raw = _raw_of(each.codec, place.own(values, each.codec))
            if raw is not None:
                fields[f"/{place.name}"] = raw
        return write_pack(fields, context.time, context.content_format or JSON_FORMAT)


@dataclass(frozen=True, slots=True)
class SenmlPlace:
    """A record's name, and how its own unit becomes the metric's."""

    name: str
    linear: Linear = SAME

    def own(self, values: Mapping[str, Value], codec: Codec | Cases) -> Mapping[str, Value]:
        """Give the values with this one in the record's own unit."""
        value = values.get(codec.key)
        if self.linear == SAME or value is None or isinstance(value, (bool, str)):
            return values
        return {codec.key: (value - self.linear.offset) / self.linear.factor}


def senml_locate(name: str) -> Callable[[Pack], object]:
    """Make the function that finds a record's value."""

    def locate(pack: Pack) -> object:
        record = pack.get(name)
        return MISSING if record is None else record.value

    return locate


def senml_adjust(name: str, own: str, ucum: str, molar_mass: float | None) -> Callable[[Pack], Linear | None]:
    """Make the function that converts from the unit a record names, where it is not the profile's `own`."""
    default = conversion(own, ucum, molar_mass) or Linear()

    def adjust(pack: Pack) -> Linear | None:
        unit = pack[name].unit
        if not unit or unit == own:
            return default
        linear = conversion(unit, ucum, molar_mass)
        if linear is None:
            raise DecodeError(Reason.BAD_FIELD, f"unit {unit[:_TEXT_SHOWN]} is not one of {ucum}'s")
        return linear

    return adjust


def _raw_of(codec: Codec | Cases, values: Mapping[str, Value]) -> object:
    if isinstance(codec, Cases):
        return codec.write(values) if any(key in values for key in codec.keys) else None
    return codec.write(values[codec.key]) if codec.key in values else None


def _is_wall_clock(stamp: object) -> bool:
    try:
        return isinstance(stamp, str) and datetime.fromisoformat(stamp).tzinfo is None
    except ValueError:
        return False
