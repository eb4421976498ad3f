"""Sparkplug B as it stands on the wire: topics, the protobuf payload, and what a BIRTH says of the DATA after it. Pure.

    spBv1.0/GROUP/NBIRTH|NDATA|NDEATH/NODE             address sparkplug:GROUP/NODE
    spBv1.0/GROUP/DBIRTH|DDATA|DDEATH/NODE/DEVICE      address sparkplug:GROUP/NODE/DEVICE

A DATA message may say a metric by the alias alone that its BIRTH gave it, and leaves its type out; `complete` puts both
back, so that what goes on to a profile says everything itself. Source of numbers and names: Eclipse Sparkplug
Specification 3.0.0, sections 4.1 (topics), 6.4.1 (the schema) and 6.4.16 (data types).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final

import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Reason

__all__ = [
    "COMMANDS", "FILTERS", "NAMESPACE", "SCHEME", "STALE", "Born", "Kind", "Known", "Metric", "Payload", "Topic",
    "birth", "born", "complete", "parse", "read", "rebirth", "rights", "type_of", "write",
]  # fmt: skip

NAMESPACE: Final = "spBv1.0"
SCHEME: Final = "sparkplug:"
_BD_SEQ: Final = "bdSeq"
_REBIRTH: Final = "Node Control/Rebirth"
BAD, GOOD, STALE = 0, 192, 500
"""A metric's property `Quality`."""
_QUALITY: Final = "Quality"
_MOST_METRICS: Final = 20_000
_UINT64: Final = 1 << 64
_UINT32_SPAN: Final = 1 << 32
_UINT32: Final = 7
"""Of this type senders write `long_value`, as Java has no whole number of 32 bits without a sign; both are read."""

# Data types (6.4.16).
TYPES: Final[Mapping[str, int]] = {
    "Int8": 1, "Int16": 2, "Int32": 3, "Int64": 4, "UInt8": 5, "UInt16": 6, "UInt32": 7, "UInt64": 8, "Float": 9,
    "Double": 10, "Boolean": 11, "String": 12, "DateTime": 13, "Text": 14,
}  # fmt: skip
"""Those that a command may write."""
INT32, INT64, FLOAT, DOUBLE, BOOLEAN, STRING = 3, 4, 9, 10, 11, 12
_SIGNED: Final = {1: 8, 2: 16, 3: 32, 4: 64}
_UNSIGNED: Final = {5: 8, 6: 16, 7: 32, 8: 64, 13: 64}
_BYTES, _FILE = 17, 18
_PACKED: Final = {22: "b", 23: "h", 24: "i", 25: "q", 26: "B", 27: "H", 28: "I", 29: "Q", 30: "f", 31: "d", 34: "Q"}
"""Arrays of numbers: little-endian, one after the other."""
_BOOLEANS, _STRINGS = 32, 33


class Kind(StrEnum):
    """What a message is. Commands are written, never heard."""

    NBIRTH = "NBIRTH"
    NDATA = "NDATA"
    NDEATH = "NDEATH"
    DBIRTH = "DBIRTH"
    DDATA = "DDATA"
    DDEATH = "DDEATH"
    NCMD = "NCMD"
    DCMD = "DCMD"

    @property
    def birth(self) -> bool:
        return self in {Kind.NBIRTH, Kind.DBIRTH}

    @property
    def death(self) -> bool:
        return self in {Kind.NDEATH, Kind.DDEATH}


_OF_NODE: Final = (Kind.NBIRTH, Kind.NDATA, Kind.NDEATH)
_OF_DEVICE: Final = (Kind.DBIRTH, Kind.DDATA, Kind.DDEATH)
FILTERS: Final = (
    *(f"{NAMESPACE}/+/{kind}/+" for kind in _OF_NODE),
    *(f"{NAMESPACE}/+/{kind}/+/+" for kind in _OF_DEVICE),
)
"""What the core hears."""
COMMANDS: Final = (f"{NAMESPACE}/+/NCMD/+", f"{NAMESPACE}/+/DCMD/+/+", f"{NAMESPACE}/STATE/+")
"""What it writes."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Who speaks, and what kind of message it is; `device` is empty for an edge node itself."""

    group: str
    kind: Kind
    node: str
    device: str = ""

    @staticmethod
    def read(topic: str) -> Topic | None:
        """Read a topic; None for one that is not of an edge node or a device behind it."""
        levels = topic.split("/")
        if levels[0] != NAMESPACE or len(levels) not in {4, 5} or not all(levels):
            return None
        expected = _OF_NODE if len(levels) == 4 else _OF_DEVICE
        if levels[2] not in expected:
            return None
        return Topic(levels[1], Kind(levels[2]), levels[3], levels[4] if len(levels) == 5 else "")

    @staticmethod
    def of(inner: str, *, node: Kind, device: Kind) -> Topic:
        """Make the topic of GROUP/NODE or GROUP/NODE/DEVICE, for what the one or the other says."""
        group, _, rest = inner.partition("/")
        name, _, behind = rest.partition("/")
        return Topic(group, device if behind else node, name, behind)

    @property
    def node_address(self) -> str:
        return f"{SCHEME}{self.group}/{self.node}"

    @property
    def address(self) -> str:
        return f"{self.node_address}/{self.device}" if self.device else self.node_address

    @property
    def text(self) -> str:
        return f"{NAMESPACE}/{self.group}/{self.kind}/{self.node}{'/' if self.device else ''}{self.device}"


def rights(address: str) -> tuple[list[str], list[str]]:
    """List the topics that the login at an address writes and reads: an edge node also for its devices.

    Empty for an address of another scheme, and for a device, which speaks through its node.
    """
    levels = address.removeprefix(SCHEME).split("/")
    if not address.startswith(SCHEME) or len(levels) != 2 or not all(levels) or set("+#") & set(address):
        return [], []
    group, node = levels
    write = [f"{NAMESPACE}/{group}/{kind}/{node}" for kind in _OF_NODE]
    write += [f"{NAMESPACE}/{group}/{kind}/{node}/+" for kind in _OF_DEVICE]
    read = [f"{NAMESPACE}/{group}/NCMD/{node}", f"{NAMESPACE}/{group}/DCMD/{node}/+", f"{NAMESPACE}/STATE/+"]
    return write, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. `time` is milliseconds since 1970; `value` is None for null, and plain data for all else.

    A DataSet is a list of its rows as tables, a Template a table of its metrics; bytes are hexadecimal text.
    """

    name: str
    alias: int | None = None
    time: int | None = None
    type: int = 0
    value: object = None
    historical: bool = False
    quality: int = GOOD
    whole: bool = True
    """Name and type are known, or not needed to read the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A message's payload; `seq` goes from 0 to 255 and begins again."""

    metrics: tuple[Metric, ...]
    time: int | None = None
    seq: int | None = None


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What a BIRTH says of one metric."""

    name: str
    type: int


class Born(msgspec.Struct, frozen=True, kw_only=True):
    """What a BIRTH says of the messages after it."""

    bd_seq: int | None = None
    """Of a node: NDEATH says the same number, or is an older connection's."""
    aliases: dict[int, Known] = {}
    types: dict[str, int] = {}


def parse(data: bytes) -> Any:
    """Parse a payload into its protobuf message. Raises DecodeError for bytes that are none, and for too much."""
    if not data:
        raise DecodeError(Reason.EMPTY)
    from google.protobuf.message import DecodeError as NotProtobuf  # noqa: PLC0415 - 20 ms that a CLI need not wait

    message = _schema()["Payload"]()
    try:
        message.ParseFromString(data)
    except (NotProtobuf, RecursionError, UnicodeDecodeError, ValueError) as exc:
        raise DecodeError(Reason.NOT_PROTOBUF, str(exc)[:200]) from None
    if len(message.metrics) > _MOST_METRICS:
        raise DecodeError(Reason.TOO_LARGE, f"more than {_MOST_METRICS} metrics")
    return message


def read(data: bytes) -> Payload:
    """Read a payload. Raises DecodeError."""
    message = parse(data)
    return Payload(
        metrics=tuple(_metric(each) for each in message.metrics),
        time=message.timestamp if message.HasField("timestamp") else None,
        seq=message.seq if message.HasField("seq") else None,
    )


def write(payload: Payload) -> bytes:
    """Write a payload of plain values: numbers, truth values, texts and nulls.

    Raises ValueError for any other, and for one that its type cannot hold.
    """
    message = _schema()["Payload"]()
    if payload.time is not None:
        message.timestamp = payload.time
    for each in payload.metrics:
        _put(message.metrics.add(), each)
    if payload.seq is not None:
        message.seq = payload.seq
    return bytes(message.SerializeToString())


def type_of(value: object) -> int:
    """Give the type that a plain value has by itself."""
    kinds = ((bool, BOOLEAN), (int, INT64), (float, DOUBLE), (str, STRING))
    return next((kind for python, kind in kinds if isinstance(value, python)), 0)


def rebirth(group: str, node: str, time: int) -> tuple[str, bytes]:
    """Give topic and payload of the command by which a node is asked for its births again."""
    return f"{NAMESPACE}/{group}/NCMD/{node}", write(
        Payload(time=time, metrics=(Metric(name=_REBIRTH, time=time, type=BOOLEAN, value=True),))
    )


def birth(time: int, bd_seq: int) -> bytes:
    """Write the NBIRTH of a node that says all its metrics by name afterwards; as NDEATH it is the will beside it."""
    return write(Payload(time=time, metrics=(Metric(name=_BD_SEQ, time=time, type=INT64, value=bd_seq),), seq=0))


def born(message: Any) -> Born:
    """Take down what a BIRTH says."""
    known = [(each, Known(each.name, each.datatype)) for each in message.metrics if each.name]
    number = next((_value(each) for each in message.metrics if each.name == _BD_SEQ), None)
    return Born(
        bd_seq=number if isinstance(number, int) else None,
        aliases={each.alias: said for each, said in known if each.HasField("alias")},
        types={said.name: said.type for _, said in known if said.type},
    )


def complete(message: Any, known: Born | None, *, sure: bool) -> tuple[bool, bool]:
    """Put the names and types of a BIRTH into a DATA message; say whether every metric is whole now, and any changed.

    `sure` is False where a later BIRTH may have been missed: what needs this one is then marked stale.
    """
    whole, changed = True, False
    for each in message.metrics:
        if _is_whole(each):
            continue
        said = _said(each, known)
        if said is None or not _fits(each, said):
            whole = False
            continue
        changed = True
        each.name, each.datatype = said.name, said.type
        if not sure and not _has_quality(each):
            each.properties.keys.append(_QUALITY)
            value = each.properties.values.add()
            value.type, value.int_value = INT32, STALE
    return whole, changed


def _said(metric: Any, known: Born | None) -> Known | None:
    if known is None:
        return None
    if metric.name:
        return Known(metric.name, known.types[metric.name]) if metric.name in known.types else None
    return known.aliases.get(metric.alias) if metric.HasField("alias") else None


def _fits(metric: Any, said: Known) -> bool:
    """Say whether a metric can be what its alias stood for: the type, where it says one, and the kind of its value."""
    if metric.HasField("datatype") and metric.datatype and metric.datatype != said.type:
        return False
    field = metric.WhichOneof("value")
    kind = _FIELD_OF.get(said.type)
    return field is None or kind is None or field in kind


def _is_whole(metric: Any) -> bool:
    """Say whether a metric can be read by itself: it has a name, and a type where its value has no meaning without."""
    if not metric.name:
        return False
    return bool(metric.datatype) or metric.WhichOneof("value") not in _NEED_A_TYPE


_NEED_A_TYPE: Final = frozenset({"int_value", "long_value", "bytes_value"})
"""A negative number stands there as its two's complement, an array as bytes."""
_WHOLE_NUMBERS: Final = frozenset({"int_value", "long_value"})
_FIELD_OF: Final[Mapping[int, frozenset[str]]] = {
    **dict.fromkeys((*_SIGNED, *_UNSIGNED), _WHOLE_NUMBERS),
    **dict.fromkeys((FLOAT, DOUBLE), frozenset({"float_value", "double_value"})),
    BOOLEAN: frozenset({"boolean_value"}),
    **dict.fromkeys((STRING, 14, 15), frozenset({"string_value"})),
    16: frozenset({"dataset_value"}),
    19: frozenset({"template_value"}),
    **dict.fromkeys((_BYTES, _FILE, *_PACKED, _BOOLEANS, _STRINGS), frozenset({"bytes_value"})),
}


def _metric(metric: Any) -> Metric:
    return Metric(
        name=metric.name,
        alias=metric.alias if metric.HasField("alias") else None,
        time=metric.timestamp if metric.HasField("timestamp") else None,
        type=metric.datatype,
        value=_value(metric),
        historical=metric.is_historical,
        quality=_quality(metric),
        whole=_is_whole(metric),
    )


def _value(metric: Any) -> object:
    """Give a metric's value as plain data; None for null, and where none stands."""
    field = None if metric.is_null else metric.WhichOneof("value")
    if field == "dataset_value":
        return list(_rows(metric.dataset_value))
    if field == "template_value":
        return {each.name: _value(each) for each in metric.template_value.metrics}
    if field == "bytes_value":
        return _unpacked(metric.datatype, metric.bytes_value)
    return None if field is None or field == "extension_value" else _typed(metric.datatype, getattr(metric, field))


def _typed(kind: int, raw: Any) -> object:
    """Read a number by its type: in its width, and signed where it is."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        if kind in _SIGNED:
            half = 1 << (_SIGNED[kind] - 1)
            return ((raw & (2 * half - 1)) ^ half) - half
        if kind in _UNSIGNED:
            return raw & ((1 << _UNSIGNED[kind]) - 1)
    return raw


def _rows(dataset: Any) -> Iterator[Mapping[str, object]]:
    types = [*dataset.types, *([0] * len(dataset.columns))]
    for row in dataset.rows:
        cells = (None if (field := each.WhichOneof("value")) in {None, "extension_value"} else getattr(each, field)
                 for each in row.elements)  # fmt: skip
        yield {name: _typed(kind, cell) for name, kind, cell in zip(dataset.columns, types, cells, strict=False)}


def _unpacked(kind: int, data: bytes) -> object:
    """Read an array; bytes and files are hexadecimal text, as is what cannot be an array."""
    if kind in _PACKED:
        size = struct.calcsize(f"<{_PACKED[kind]}")
        if len(data) % size == 0:
            return list(struct.unpack(f"<{len(data) // size}{_PACKED[kind]}", data))
    if kind == _BOOLEANS and len(data) >= 4:
        count = int.from_bytes(data[:4], "little")
        if count <= 8 * (len(data) - 4):
            return [bool(data[4 + at // 8] & (0x80 >> at % 8)) for at in range(count)]
    if kind == _STRINGS:
        return [part.decode("utf-8", "replace") for part in data.split(b"\0")[:-1]]
    return data.hex()


def _quality(metric: Any) -> int:
    found = GOOD
    for name, value in zip(metric.properties.keys, metric.properties.values, strict=False):
        if name == _QUALITY and value.WhichOneof("value") in _WHOLE_NUMBERS:
            found = value.int_value or value.long_value
    return found


def _has_quality(metric: Any) -> bool:
    return _QUALITY in metric.properties.keys


def _put(metric: Any, said: Metric) -> None:
    metric.name = said.name
    for name, given in (("alias", said.alias), ("timestamp", said.time), ("datatype", said.type or None)):
        if given is not None:
            setattr(metric, name, given)
    if said.historical:
        metric.is_historical = True
    _put_value(metric, said)
    if said.quality != GOOD:
        metric.properties.keys.append(_QUALITY)
        found = metric.properties.values.add()
        found.type, found.int_value = INT32, said.quality


def _put_value(metric: Any, said: Metric) -> None:
    """Write the value into the field of its type, or of its own where the metric says none."""
    value, bits = said.value, _SIGNED.get(said.type) or _UNSIGNED.get(said.type) or 64
    if value is None:
        metric.is_null = True
    elif isinstance(value, bool):
        metric.boolean_value = value
    elif isinstance(value, (int, float)) and said.type in {FLOAT, DOUBLE}:
        setattr(metric, "float_value" if said.type == FLOAT else "double_value", value)
    elif isinstance(value, int):
        low, high = (-(1 << bits - 1), 1 << bits - 1) if said.type in _SIGNED else (0, 1 << bits)
        if said.type and not low <= value < high:
            raise ValueError(f"{said.name}: {value} is none of {low}..{high - 1}")
        if bits < 64 and said.type != _UINT32:
            metric.int_value = value % _UINT32_SPAN
        else:
            metric.long_value = value % _UINT64
    elif isinstance(value, float):
        metric.double_value = value
    elif isinstance(value, str):
        metric.string_value = value
    else:
        raise ValueError(f"{said.name}: {type(value).__name__} has no metric")


_VALUES: Final = {
    "int_value": "uint32", "long_value": "uint64", "float_value": "float", "double_value": "double",
    "boolean_value": "bool", "string_value": "string",
}  # fmt: skip
_FIELDS: Final[Mapping[str, Mapping[str, tuple[int, str]]]] = {
    "Payload": {
        "timestamp": (1, "uint64"), "metrics": (2, "*Metric"), "seq": (3, "uint64"), "uuid": (4, "string"),
        "body": (5, "bytes"),
    },
    "Metric": {
        "name": (1, "string"), "alias": (2, "uint64"), "timestamp": (3, "uint64"), "datatype": (4, "uint32"),
        "is_historical": (5, "bool"), "is_transient": (6, "bool"), "is_null": (7, "bool"),
        "properties": (9, "PropertySet"),
        **{name: (10 + at, f"|{kind}") for at, (name, kind) in enumerate(_VALUES.items())},
        "bytes_value": (16, "|bytes"), "dataset_value": (17, "|DataSet"), "template_value": (18, "|Template"),
        "extension_value": (19, "|Extension"),
    },
    "PropertySet": {"keys": (1, "*string"), "values": (2, "*PropertyValue")},
    "PropertyValue": {
        "type": (1, "uint32"), "is_null": (2, "bool"),
        **{name: (3 + at, f"|{kind}") for at, (name, kind) in enumerate(_VALUES.items())},
        "propertyset_value": (9, "|PropertySet"), "extension_value": (11, "|Extension"),
    },
    "DataSet": {
        "num_of_columns": (1, "uint64"), "columns": (2, "*string"), "types": (3, "*uint32"), "rows": (4, "*Row"),
    },
    "Row": {"elements": (1, "*Cell")},
    "Cell": {
        **{name: (1 + at, f"|{kind}") for at, (name, kind) in enumerate(_VALUES.items())},
        "extension_value": (7, "|Extension"),
    },
    "Template": {
        "version": (1, "string"), "metrics": (2, "*Metric"), "template_ref": (4, "string"),
    },
    "Extension": {},
}  # fmt: skip
"""The schema of section 6.4.1, as far as it is read here: message -> field -> number and type. `*` is repeated, `|` one
of the message's `value`. What is not listed is skipped, as protobuf has it."""


@cache
def _schema() -> Mapping[str, Any]:
    """Make the message types; a pool of our own, so that another copy of the schema in the process does not collide."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: PLC0415 - as in parse

    types = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="iot/sparkplug.proto", package="iot.sparkplug", syntax="proto2")
    for message, fields in _FIELDS.items():
        made = file.message_type.add(name=message)
        if any(kind.startswith("|") for _, kind in fields.values()):
            made.oneof_decl.add(name="value")
        for name, (number, kind) in fields.items():
            field = made.field.add(name=name, number=number)
            field.label = types.LABEL_REPEATED if kind[0] == "*" else types.LABEL_OPTIONAL
            if kind[0] == "|":
                field.oneof_index = 0
            bare = kind.lstrip("*|")
            if bare in _FIELDS:
                field.type, field.type_name = types.TYPE_MESSAGE, f".iot.sparkplug.{bare}"
            else:
                field.type = types.Type.Value(f"TYPE_{bare.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"iot.sparkplug.{name}")) for name in _FIELDS
    }
