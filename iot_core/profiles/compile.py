"""A profile's YAML -> Profile: every key checked, every path and point compiled once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from iot_core.model import Title, is_key
from iot_core.profiles.binary import CHECKSUMS, Bytes, ByteSpec, FixedFormat, TlvFormat, TlvRecord, compile_bytes
from iot_core.profiles.classes import ClassFile, Titles, check_metric_key, read_duration
from iot_core.profiles.envelope import TOPICS, LorawanFormat
from iot_core.profiles.examples import read_examples
from iot_core.profiles.fields import Field, Group
from iot_core.profiles.formats import (
    Format,
    JsonFormat,
    JsonPlace,
    NativeFormat,
    PresenceFormat,
    SenmlFormat,
    SenmlPlace,
    senml_adjust,
    senml_locate,
)
from iot_core.profiles.modbus import ModbusMap, Point, PointSpec, compile_point, field_of, scale_register
from iot_core.profiles.paths import Path, parse_path
from iot_core.profiles.profile import Profile, Route
from iot_core.profiles.units import Linear, conversion
from iot_core.profiles.values import Cases, Codec, ValueSpec, compile_cases, compile_codec
from iot_core.profiles.wire import Endian

if TYPE_CHECKING:
    from iot_core.profiles.document import Document, Place

__all__ = ["compile_profile"]

S = TypeVar("S")
Spec = TypeVar("Spec", bound=ValueSpec)
_FORMATS: Final = ("native", "json", "senml", "bytes", "presence")
_SCHEMES: Final = ("iot:", "mqtt:", "lorawan:", "modbus:")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a file; a key that is not listed is an error."""


class _Profile(_Table, frozen=True, kw_only=True):
    model: str
    vendor: str
    title: Titles
    source: str
    interval: str
    address: str = ""
    native: Any = None
    json: Any = None
    senml: Any = None
    bytes: Any = None
    lorawan: Any = None
    modbus: Any = None
    topics: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    examples: list[dict[str, Any]]


class _Json(_Table, frozen=True, kw_only=True):
    time: str | None = None
    seq: str | None = None
    run: str | None = None
    each: str | None = None
    quiet: bool = False
    constant: dict[str, Any] = msgspec.field(default_factory=dict)
    values: Any = None
    states: Any = None
    extra: Any = None
    channels: dict[str, Any] = msgspec.field(default_factory=dict)


class _JsonSpec(ValueSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str | list[str]
    unit_from: str | None = None
    units: dict[str, str] = msgspec.field(default_factory=dict)


class _Senml(_Table, frozen=True, kw_only=True):
    values: Any = None
    states: Any = None
    extra: Any = None


class _SenmlSpec(ValueSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str


class _Presence(_Table, frozen=True, kw_only=True):
    online: str
    offline: str


class _Modbus(_Table, frozen=True, kw_only=True):
    points: Any = None
    states: Any = None
    extra: Any = None
    channels: dict[str, Any] = msgspec.field(default_factory=dict)
    repeat: Any = None
    max_count: int | None = None
    max_gap: int | None = None


class _Repeat(_Table, frozen=True, kw_only=True):
    count: int
    stride: int
    first: int = 0


class _Bytes(_Table, frozen=True, kw_only=True):
    endian: Endian = "big"
    length: int | None = None
    checksum: str = ""
    require: dict[str, ByteSpec] = msgspec.field(default_factory=dict)
    values: Any = None
    states: Any = None
    extra: Any = None
    key_size: int = 2
    records: dict[str, Any] = msgspec.field(default_factory=dict)


class _Record(_Table, frozen=True, kw_only=True):
    length: int
    time: ByteSpec | None = None
    values: Any = None
    states: Any = None
    extra: Any = None


class _Lorawan(_Table, frozen=True, kw_only=True):
    port: int | None = None
    bytes: Any


class _Compiler:
    """Compiles one document against its class."""

    def __init__(self, document: Document, class_file: ClassFile) -> None:
        self.document = document
        self.class_file = class_file
        self.metrics = {metric.key: metric for metric in class_file.device_class.metrics}

    def profile(self) -> Profile:
        document = self.document
        spec = document.read((), _Profile)
        if not is_key(spec.model):
            raise document.error(("model",), "a key of the form [a-z0-9][a-z0-9-]{0,62}")
        interval = read_duration(document, ("interval",), spec.interval)
        if interval.total_seconds() < 1:
            raise document.error(("interval",), "at least 1s")
        modbus, spoken, routes = self._way(spec)
        profile = Profile(
            model=spec.model,
            vendor=spec.vendor,
            title=Title(spec.title.vi, spec.title.en),
            device_class=self.class_file.device_class,
            source=self._text(("source",), spec.source),
            interval=interval,
            address=self._address(spec),
            file=document.file,
            routes=routes,
            format=spoken,
            modbus=modbus,
            examples=read_examples(document),
        )
        if not profile.metrics:
            raise document.error((), "at least one metric of the class")
        return profile

    def _way(self, spec: _Profile) -> tuple[ModbusMap | None, Format | None, tuple[Route, ...]]:
        given = [key for key in (*_FORMATS[:4], "lorawan", "modbus", "topics") if getattr(spec, key, None)]
        if len(given) != 1:
            raise self.document.error((), "exactly one of native, json, senml, bytes, lorawan, modbus and topics")
        match given[0]:
            case "modbus":
                return self._modbus(("modbus",)), None, ()
            case "lorawan":
                spoken = self._lorawan(("lorawan",))
                return None, None, tuple(self._route(("lorawan",), topic, spoken) for topic in TOPICS)
            case "topics":
                return None, None, tuple(self._topic(topic) for topic in spec.topics)
            case kind:
                return None, self._format((kind,), kind), ()

    def _address(self, spec: _Profile) -> str:
        default = "modbus://{address}" if spec.modbus else "lorawan:{address}" if spec.lorawan else ""
        if not default and not spec.topics:
            default = "iot:{address}"
        address = spec.address or default
        if not address.startswith(_SCHEMES) or address.count("{address}") != 1:
            raise self.document.error(("address",), f"{', '.join(_SCHEMES)} followed by a text with {{address}} once")
        return address

    def _topic(self, topic: str) -> Route:
        place: Place = ("topics", topic)
        formats = self.document.table(place)
        kind = next(iter(formats))
        if len(formats) != 1 or kind not in _FORMATS:
            raise self.document.error(place, f"exactly one of {', '.join(_FORMATS)}")
        return self._route(place, topic, self._format((*place, kind), kind))

    def _route(self, place: Place, topic: str, spoken: Format) -> Route:
        levels = topic.split("/")
        if levels.count("{address}") != 1 or "#" in topic or any("+" in level and level != "+" for level in levels):
            raise self.document.error(place, "a topic with {address} as one whole level, and no wildcard but +")
        if any("{" in level and level != "{address}" for level in levels):
            raise self.document.error(place, "{address} as one whole level")
        pattern = "/".join("[^/]+" if level in {"+", "{address}"} else re.escape(level) for level in levels)
        return Route(topic, spoken, re.compile(pattern))

    def _format(self, place: Place, kind: str) -> Format:
        match kind:
            case "native":
                return NativeFormat(self.class_file)
            case "json":
                return self._json(place)
            case "senml":
                return self._senml(place)
            case "bytes":
                return self._bytes(place)
            case _:
                spec = self.document.read(place, _Presence)
                if spec.online == spec.offline:
                    raise self.document.error(place, "two different texts")
                return PresenceFormat(spec.online, spec.offline)

    # ------------------------------------------------------------ values, whatever the format

    def _entries(
        self, place: Place, kind: type[Spec], short: str, make: Callable[[Place, Spec, Codec | Cases], Field[S]]
    ) -> tuple[tuple[Field[S], ...], tuple[Field[S], ...]]:
        """Compile `values` (or `points`), `states` and `extra` of the table at a place."""
        table = self.document.table(place)
        name = "points" if "points" in table else "values"
        fields: list[Field[S]] = []
        extra: list[Field[S]] = []
        for section in (name, "states", "extra"):
            if table.get(section) is None:
                continue
            for key in self.document.table((*place, section)):
                where = (*place, section, key)
                spec = self._spec(where, kind, short)
                codec = self._codec(where, section, key, spec)
                (extra if section == "extra" else fields).append(make(where, spec, codec))
        return tuple(fields), tuple(extra)

    def _spec(self, place: Place, kind: type[Spec], short: str) -> Spec:
        value: Any = self.document.data
        for step in place:
            value = value[step]
        if short and isinstance(value, str):
            return msgspec.convert({short: value}, kind)
        return self.document.read(place, kind)

    def _codec(self, place: Place, section: str, key: str, spec: ValueSpec) -> Codec | Cases:
        check_metric_key(self.document, place, key)
        if section == "states":
            return compile_cases(self.document, place, spec, self.metrics)
        if spec.cases is not None:
            raise self.document.error((*place, "cases"), "cases only under states")
        if section == "extra":
            return compile_codec(self.document, place, spec, None)
        if key not in self.metrics:
            raise self.document.error(place, f"a metric of the class: {', '.join(self.metrics)}")
        return compile_codec(self.document, place, spec, self.metrics[key], self.class_file.molar_mass.get(key))

    # ------------------------------------------------------------ JSON

    def _json(self, place: Place) -> JsonFormat:
        spec = self.document.read(place, _Json)
        groups: list[Group[object]] = []
        if spec.values or spec.states:
            groups.append(Group("", *self._entries(place, _JsonSpec, "path", self._json_field)))
        for name in spec.channels:
            entries = self._entries((*place, "channels", name), _JsonSpec, "path", self._json_field)
            groups.append(Group(name, *entries))
        if not groups:
            raise self.document.error(place, "values, states or channels")
        if spec.each is not None and spec.time is None:
            raise self.document.error((*place, "each"), "time beside it: each element needs its own")
        return JsonFormat(
            groups=tuple(groups),
            time=self._path(place, "time", spec.time),
            seq=self._path(place, "seq", spec.seq),
            run=self._path(place, "run", spec.run),
            each=self._path(place, "each", spec.each),
            quiet=spec.quiet,
            constant=spec.constant,
        )

    def _path(self, place: Place, key: str, text: str | None) -> Path | None:
        if text is None:
            return None
        path = parse_path(text)
        if path is None:
            raise self.document.error((*place, key), "a path such as ENERGY.Power, list[0].x or list[key=value].x")
        return path

    def _json_field(self, place: Place, spec: _JsonSpec, codec: Codec | Cases) -> Field[object]:
        texts = [spec.path] if isinstance(spec.path, str) else spec.path
        paths = [path for text in texts if (path := self._path(place, "path", text))]
        if not paths:
            raise self.document.error((*place, "path"), "at least one path")
        if spec.unit_from is None:
            found = JsonPlace(tuple(paths))
            return Field(codec, found.locate, None, found)
        found = JsonPlace(tuple(paths), self._path(place, "unit_from", spec.unit_from) or (), self._units(place, spec))
        return Field(codec, found.locate, found.adjust, found)

    def _units(self, place: Place, spec: _JsonSpec) -> Mapping[object, Linear]:
        metric = self.metrics.get(str(place[-1]))
        units: dict[object, Linear] = {}
        for said, ucum in spec.units.items():
            mass = self.class_file.molar_mass.get(str(place[-1]))
            linear = None if metric is None else conversion(ucum, metric.ucum, mass)
            if linear is None:
                raise self.document.error((*place, "units", said), "a unit of measure that can be converted")
            units[said] = linear
        if not units:
            raise self.document.error((*place, "units"), "what each unit that unit_from may say means")
        return units

    # ------------------------------------------------------------ SenML

    def _senml(self, place: Place) -> SenmlFormat:
        self.document.read(place, _Senml)
        fields, extra = self._entries(place, _SenmlSpec, "name", self._senml_field)
        lengths = {each.place.name.count("/") + 1 for each in (*fields, *extra)}
        return SenmlFormat(Group("", fields, extra), tuple(sorted(lengths)))

    def _senml_field(self, place: Place, spec: _SenmlSpec, codec: Codec | Cases) -> Field[Any]:
        name = spec.name.strip("/")
        if not name:
            raise self.document.error((*place, "name"), "the end of a record's name, such as 3424/0/1")
        metric = self.metrics.get(str(place[-1])) if isinstance(codec, Codec) and codec.type is not None else None
        if (
            metric is None
            or spec.map
            or spec.equals is not None
            or spec.between
            or metric.type.value not in {"float", "int"}
        ):
            return Field(codec, senml_locate(name), None, SenmlPlace(name))
        mass = self.class_file.molar_mass.get(metric.key)
        if spec.unit:
            assert isinstance(codec, Codec)
            plain = compile_codec(self.document, place, msgspec.structs.replace(spec, unit=""), metric, mass)
            own = SenmlPlace(name, conversion(spec.unit, metric.ucum, mass) or Linear())
            return Field(plain, senml_locate(name), senml_adjust(name, spec.unit, metric.ucum, mass), own)
        return Field(codec, senml_locate(name), senml_adjust(name, metric.ucum, metric.ucum, mass), SenmlPlace(name))

    # ------------------------------------------------------------ bytes

    def _lorawan(self, place: Place) -> LorawanFormat:
        spec = self.document.read(place, _Lorawan)
        return LorawanFormat(self._bytes((*place, "bytes")), spec.port)

    def _bytes(self, place: Place) -> FixedFormat | TlvFormat:
        spec = self.document.read(place, _Bytes)
        if bool(spec.records) == (spec.length is not None):
            raise self.document.error(place, "either length (a fixed frame) or records (TLV)")
        if spec.records and (spec.require or spec.values or spec.states or spec.extra or spec.checksum):
            raise self.document.error(place, "require, checksum, values, states and extra only beside length")
        if spec.records:
            records = {self._key(place, text, spec.key_size): self._record(place, text, spec) for text in spec.records}
            return TlvFormat(spec.key_size, records)
        assert spec.length is not None
        if spec.checksum and spec.checksum not in CHECKSUMS:
            raise self.document.error((*place, "checksum"), f"one of {', '.join(CHECKSUMS)}")
        fields, extra = self._byte_fields(place, spec.endian, spec.length)
        required: list[tuple[str, Bytes, object]] = []
        for name, each in spec.require.items():
            found = compile_bytes(each, spec.endian)
            self._fits((*place, "require", name), found, spec.length)
            if each.equals is None:
                raise self.document.error((*place, "require", name), "equals: what must stand there")
            required.append((name, found, each.equals))
        return FixedFormat(fields, extra, spec.length, spec.checksum, tuple(required))

    def _key(self, place: Place, text: str, size: int) -> bytes:
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != size:
            raise self.document.error((*place, "records", text), f"a key of {size} bytes in hexadecimal, in quotes")
        return key

    def _record(self, place: Place, text: str, spec: _Bytes) -> TlvRecord:
        where = (*place, "records", text)
        record = self.document.read(where, _Record)
        fields, extra = self._byte_fields(where, spec.endian, record.length)
        time = None if record.time is None else compile_bytes(record.time, spec.endian)
        if time is not None:
            self._fits((*where, "time"), time, record.length)
        return TlvRecord(record.length, fields, extra, time)

    def _byte_fields(
        self, place: Place, endian: Endian, length: int
    ) -> tuple[tuple[Field[bytes], ...], tuple[Field[bytes], ...]]:
        def make(where: Place, spec: ByteSpec, codec: Codec | Cases) -> Field[bytes]:
            found = compile_bytes(spec, endian)
            self._fits(where, found, length)
            return Field(codec, found.locate, None, found)

        return self._entries(place, ByteSpec, "", make)

    def _fits(self, place: Place, found: Bytes, length: int) -> None:
        if found.at < 0 or found.wire.size < 1 or found.at + found.wire.size > length:
            raise self.document.error((*place, "at"), f"a place within {length} bytes")

    # ------------------------------------------------------------ Modbus

    def _modbus(self, place: Place) -> ModbusMap:
        spec = self.document.read(place, _Modbus)
        shifts: Iterable[tuple[str, int]] = [("", 0)]
        if spec.repeat is not None:
            repeat = self.document.read((*place, "repeat"), _Repeat)
            if not 1 <= repeat.count <= 256 or not 1 <= repeat.stride <= 0xFFFF // repeat.count:
                raise self.document.error(
                    (*place, "repeat"), "a count from 1 to 256 and a stride that stays below 65536"
                )
            shifts = [(str(repeat.first + index), index * repeat.stride) for index in range(repeat.count)]
        tables = [(name, place, shift) for name, shift in shifts if spec.points or spec.states]
        tables += [(name, (*place, "channels", name), 0) for name in spec.channels]
        if not tables:
            raise self.document.error(place, "points, states or channels")
        groups: list[Group[Any]] = []
        points: list[tuple[str, Codec | Cases, Point]] = []
        scales: dict[Point, int] = {}
        for channel, where, shift in tables:
            fields, extra = self._points(where, shift, scales)
            groups.append(Group(channel, fields, extra))
            # Extra first: where both stand in one register, the values are written last and win.
            points.extend((channel, each.codec, each.place) for each in (*extra, *fields))
        return ModbusMap(tuple(groups), tuple(points), scales, spec.max_count, spec.max_gap)

    def _points(self, place: Place, shift: int, scales: dict[Point, int]) -> tuple[Any, Any]:
        def make(where: Place, spec: PointSpec, codec: Codec | Cases) -> Field[Any]:
            self._check_point(where, spec)
            plus = None
            if spec.plus is not None:
                second = self.document.read((*where, "plus"), PointSpec)
                self._check_point((*where, "plus"), second)
                plus = compile_point(second, shift=shift)
            if where[-2] == "extra":
                spec = msgspec.structs.replace(spec, optional=True)
            point = compile_point(spec, shift=shift, plus=plus)
            scale = scale_register(spec, shift)
            if scale is not None:
                scales[point] = scale
            return field_of(codec, point, scale)

        return self._entries(place, PointSpec, "", make)

    def _check_point(self, place: Place, spec: PointSpec) -> None:
        error = self.document.error
        bits = spec.table in {"coil", "discrete"}
        if not 0 <= spec.address <= 0xFFFF:
            raise error((*place, "address"), "a 0-based address from 0 to 65535")
        if bits and (spec.type not in {None, "bool"} or spec.mask is not None or spec.bit is not None):
            raise error((*place, "type"), "no type, mask or bit: a coil or discrete input is one bit")
        if not bits and (spec.type is None or spec.type in {"bool", "uint24", "int24"}):
            raise error((*place, "type"), "a type such as uint16, int32 or float32")
        if spec.type in {"uint8", "int8", "bcd8"}:
            raise error((*place, "type"), "a type of whole registers; mask takes a byte out of one")
        if (spec.type == "string") != (spec.length > 0):
            raise error((*place, "length"), "a length in bytes exactly for type string")
        if (spec.mask is not None or spec.bit is not None) and not str(spec.type).startswith("uint"):
            raise error((*place, "type"), "an unsigned type beside mask or bit")
        if spec.scale_from is not None and (spec.offset or spec.map or not 0 <= spec.scale_from <= 0xFFFF):
            raise error((*place, "scale_from"), "a register address, and neither offset nor map beside it")

    def _text(self, place: Place, text: str) -> str:
        if not text.strip():
            raise self.document.error(place, "a text that is not empty: every fact comes from a document")
        return text.strip()


def compile_profile(document: Document, class_file: ClassFile) -> Profile:
    """Compile one profile. Raises ConfigError naming file, line, key and what was expected."""
    if not isinstance(document.data, dict):
        raise document.error((), "a mapping with model, vendor, title, source, interval, ...")
    return _Compiler(document, class_file).profile()
