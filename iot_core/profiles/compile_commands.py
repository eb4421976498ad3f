"""The `commands` table of a profile -> how each is written; and that of a class."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from iot_core.model import CommandType, Metric
from iot_core.profiles.checksums import CHECKSUMS, Checksum
from iot_core.profiles.command_examples import read_command_examples
from iot_core.profiles.commands import CommandCodec, MetricWrite, Parameter, Register
from iot_core.profiles.compile_bytes import byte_place
from iot_core.profiles.compile_modbus import register
from iot_core.profiles.modbus import Numbering, RegisterSpec
from iot_core.profiles.near import like
from iot_core.profiles.table import Table
from iot_core.profiles.values import Scalar, ValueSpec, compile_codec
from iot_core.profiles.wire import Endian, TypeName
from iot_core.sparkplug import TYPES

if TYPE_CHECKING:
    from iot_core.profiles.document import Place
    from iot_core.profiles.entries import Entries

__all__ = ["CommandSpec", "ParamSpec", "WriteSpec", "compile_commands"]

_KINDS = ("text", "json", "cbor", "hex")
_PARAM = re.compile(r"\{([a-z][a-z0-9_]*)\}")


class ParamSpec(Table, frozen=True, kw_only=True):
    """How a parameter is written; the keys mean what they mean in reading: value = raw x scale + offset."""

    param: str = ""
    """In `json` and `cbor`: which parameter stands in this place."""
    scale: float | int | str = 1
    offset: float | int = 0
    unit: str = ""
    map: dict[Any, Scalar] = msgspec.field(default_factory=dict)
    """Raw value -> value, as in reading: `{"ON": true, "OFF": false}`."""
    round: bool = False
    """The wire takes whole numbers only."""
    at: int | None = None
    """In `hex`: the byte it begins at; with `type`, `endian`, `mask` and `bit` as in reading."""
    type: TypeName = "uint8"
    endian: Endian = "big"
    length: int = 0
    mask: int | None = None
    bit: int | None = None


class WriteSpec(RegisterSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One write of registers: of a parameter, or of a value that is always the same."""

    param: str = ""
    value: Scalar | None = None
    scale: float | int | str = 1
    offset: float | int = 0
    unit: str = ""
    map: dict[Any, Scalar] = msgspec.field(default_factory=dict)
    single: bool = False
    """By the functions 5 and 6, which write one, in place of 15 and 16."""
    read_back: bool = True
    """Read again what was written; false for a register that only takes."""


class MetricWriteSpec(Table, frozen=True, kw_only=True):
    """One metric that a Sparkplug command writes: a parameter, or a value that is always the same."""

    param: str = ""
    value: Scalar | None = None
    datatype: str = ""
    """As the node's birth says it: `Int32`, `Float`...; without it Boolean, Int64, Double or String by the value."""
    scale: float | int | str = 1
    offset: float | int = 0
    unit: str = ""
    map: dict[Any, Scalar] = msgspec.field(default_factory=dict)


class CommandSpec(Table, frozen=True, kw_only=True):
    """How a model is told to do what its class calls by this name."""

    topic: str = ""
    """MQTT: where it is published, `{address}` in it."""
    retain: bool = False
    port: int | None = None
    """LoRaWAN: the fPort."""
    confirmed: bool = False
    """LoRaWAN: the device shall acknowledge it."""
    put: str = ""
    """CoAP: the path that it is PUT to."""
    post: str = ""
    """CoAP: the path that it is POSTed to."""
    text: str | None = None
    """What is sent, `{param}` in it."""
    json: Any = None
    """What is sent as JSON; `{param: level, scale: 100/254}` stands for a parameter."""
    cbor: Any = None
    """What is sent as CBOR, likewise."""
    hex: str | None = None
    """The bytes that are sent; parameters with `at` are written into them."""
    checksum: str = ""
    """The last bytes of `hex`, as in reading."""
    params: dict[str, ParamSpec] = msgspec.field(default_factory=dict)
    """How the parameters of `text` and `hex` are written."""
    metrics: dict[str, Any] = msgspec.field(default_factory=dict)
    """Sparkplug B: the metrics that are written by NCMD or DCMD: `{Outputs/E: {param: "on"}}`."""
    write: list[Any] = msgspec.field(default_factory=list)
    """Modbus: `[{table, address, type, param}]`, one after the other."""
    examples: list[Any] = msgspec.field(default_factory=list)
    """What goes out for which parameters: `[{params: {level: 50}, payload: "50"}]`; `iot profile check` plays them."""


def compile_commands(entries: Entries, numbering: Numbering) -> dict[str, CommandCodec]:
    """Compile `commands`. Raises ConfigError."""
    document = entries.document
    if document.at(("commands",)) is None:
        return {}
    known = {each.key: each for each in entries.class_file.device_class.commands}
    commands: dict[str, CommandCodec] = {}
    for name in document.table(("commands",)):
        place: Place = ("commands", name)
        if document.at(place) is None:
            continue
        if name not in known:
            if document.inherited(place):
                continue  # the class of this model has no such command
            raise document.error(
                place, f"a command of the class: {', '.join(known) or 'it has none'}{like(name, known)}"
            )
        codec = _command(entries, place, known[name], numbering)
        examples = read_command_examples(document, place, known[name])
        commands[name] = replace(codec, examples=examples)
    return commands


def _command(entries: Entries, place: Place, command: CommandType, numbering: Numbering) -> CommandCodec:
    document = entries.document
    spec = document.read(place, CommandSpec)
    ways = [way for way in ("topic", "put", "post", "metrics", "write") if getattr(spec, way)]
    ways += ["port"] if spec.port is not None else []
    if len(ways) != 1:
        raise document.error(place, "exactly one of topic, port, put, post, metrics and write: where it goes")
    params = {metric.key: metric for metric in command.params}
    if spec.write:
        writes = tuple(_write(entries, (*place, "write", index), params, numbering) for index in range(len(spec.write)))
        return CommandCodec(name=command.key, registers=writes)
    if spec.metrics:
        written = tuple(_metric(entries, (*place, "metrics", each), params) for each in spec.metrics)
        return CommandCodec(name=command.key, metrics=written)
    kinds = [kind for kind in _KINDS if getattr(spec, kind) is not None]
    if len(kinds) != 1:
        raise document.error(place, f"exactly one of {', '.join(_KINDS)}: what is sent")
    if spec.port is not None and not 1 <= spec.port <= 223:
        raise document.error((*place, "port"), "an fPort from 1 to 223")
    kind = "bytes" if kinds[0] == "hex" else kinds[0]
    content, parameters = _content(entries, place, spec, kind, params)
    return CommandCodec(
        name=command.key, parameters=parameters, topic=spec.topic, retain=spec.retain, port=spec.port,
        confirmed=spec.confirmed, method="PUT" if spec.put else "POST" if spec.post else "", path=spec.put or spec.post,
        kind=kind, content=content, checksum=_checksum(entries, place, spec),
    )  # fmt: skip


def _content(
    entries: Entries, place: Place, spec: CommandSpec, kind: str, params: dict[str, Metric]
) -> tuple[Any, dict[str, Parameter]]:
    """Compile what is sent, and the parameters that text and bytes name."""
    document = entries.document
    for name in spec.params:
        _known(entries, (*place, "params", name), name, params)
    if kind in {"json", "cbor"}:
        return _template(entries, (*place, kind), getattr(spec, kind), params), {}
    if kind == "text":
        named = _PARAM.findall(spec.text or "")
        for name in named:
            _known(entries, (*place, "text"), name, params)
        return spec.text, {
            name: _parameter(entries, (*place, "params", name), spec.params.get(name, ParamSpec()), params[name])
            for name in named
        }
    try:
        data = bytes.fromhex(spec.hex or "")
    except ValueError:
        raise document.error((*place, "hex"), "bytes in hexadecimal") from None
    parameters: dict[str, Parameter] = {}
    for name, asked in spec.params.items():
        where = (*place, "params", name)
        if asked.at is None:
            raise document.error((*where, "at"), "at: the byte of hex that it begins at")
        parameters[name] = _parameter(entries, where, asked, params[name], len(data))
    return data, parameters


def _template(entries: Entries, place: Place, data: Any, params: dict[str, Metric]) -> Any:
    """Compile data: a table with the key `param` becomes that parameter."""
    if isinstance(data, dict):
        if "param" in data:
            spec = entries.document.read(place, ParamSpec)
            _known(entries, (*place, "param"), spec.param, params)
            return _parameter(entries, place, spec, params[spec.param])
        return {key: _template(entries, (*place, key), value, params) for key, value in data.items()}
    if isinstance(data, list):
        return [_template(entries, (*place, index), value, params) for index, value in enumerate(data)]
    return data


def _parameter(
    entries: Entries, place: Place, spec: ParamSpec | WriteSpec | MetricWriteSpec, metric: Metric, size: int = 0
) -> Parameter:
    keys = ValueSpec(scale=spec.scale, offset=spec.offset, unit=spec.unit, map=dict(spec.map))
    codec = compile_codec(entries.document, place, keys, metric)
    if not isinstance(spec, ParamSpec):
        return Parameter(metric.key, codec)
    where = partial(byte_place, entries, spec.endian, size)
    found = None if spec.at is None or not size else where(place, spec)
    return Parameter(metric.key, codec, spec.round, found)


def _metric(entries: Entries, place: Place, params: dict[str, Metric]) -> MetricWrite:
    document = entries.document
    spec = document.read(place, MetricWriteSpec)
    if bool(spec.param) == (spec.value is not None):
        raise document.error(place, "exactly one of param and value")
    if spec.datatype and spec.datatype not in TYPES:
        known = ", ".join(TYPES)
        raise document.error((*place, "datatype"), f"one of {known}{like(spec.datatype, TYPES)}")
    parameter = None
    if spec.param:
        _known(entries, (*place, "param"), spec.param, params)
        parameter = _parameter(entries, place, spec, params[spec.param])
    return MetricWrite(str(place[-1]), parameter, spec.value, TYPES.get(spec.datatype, 0))


def _write(entries: Entries, place: Place, params: dict[str, Metric], numbering: Numbering) -> Register:
    document = entries.document
    spec = document.read(place, WriteSpec)
    point = register(entries, place, spec, numbering)
    if point.table not in {"holding", "coil"}:
        raise document.error((*place, "table"), "holding or coil: the others cannot be written")
    if bool(spec.param) == (spec.value is not None):
        raise document.error(place, "exactly one of param and value")
    if spec.param:
        _known(entries, (*place, "param"), spec.param, params)
    parameter = _parameter(entries, place, spec, params[spec.param]) if spec.param else None
    return Register(point=point, parameter=parameter, constant=spec.value, single=spec.single, read_back=spec.read_back)


def _known(entries: Entries, place: Place, name: str, params: dict[str, Metric]) -> None:
    if name not in params:
        raise entries.document.error(
            place, f"a parameter of the command: {', '.join(params) or 'it has none'}{like(name, params)}"
        )


def _checksum(entries: Entries, place: Place, spec: CommandSpec) -> Checksum | None:
    if not spec.checksum:
        return None
    if spec.checksum not in CHECKSUMS:
        known = ", ".join(CHECKSUMS)
        raise entries.document.error((*place, "checksum"), f"one of {known}{like(spec.checksum, CHECKSUMS)}")
    return Checksum(spec.checksum, *CHECKSUMS[spec.checksum])
