"""Commands of a class, checked; and how one model writes them: a topic and message, an fPort and bytes, registers."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import cbor2
import msgspec

from iot_core import sparkplug
from iot_core.errors import CommandRejected, RequestError
from iot_core.model import CommandType, Metric, MetricType, Value
from iot_core.profiles.checksums import Checksum
from iot_core.profiles.envelope import downlink as queue
from iot_core.profiles.modbus import Point, RegisterWrite
from iot_core.profiles.places import Bytes
from iot_core.profiles.values import Codec

if TYPE_CHECKING:
    from iot_core.profiles.command_examples import CommandExample

__all__ = ["CommandCodec", "Downlink", "MetricWrite", "Register", "checked_params", "checked_setting"]

CONTENT: Final = {"text": 0, "json": 50, "cbor": 60, "bytes": 42}
"""CoAP content formats of what a command carries."""
_WHOLE: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Downlink:
    """What goes to a device for one command; each driver takes what is its own."""

    topic: str = ""
    payload: bytes = b""
    retain: bool = False
    port: int | None = None
    """LoRaWAN: the fPort of `payload`, which the network server's queue takes (`envelope.downlink`)."""
    confirmed: bool = False
    method: str = ""
    """CoAP: PUT or POST to `path`."""
    path: str = ""
    content_format: int | None = None
    writes: tuple[RegisterWrite, ...] = ()

    def queued(self, heard_on: str, address: str) -> tuple[str, bytes] | None:
        """Give the topic and message for the queue of a network server, by the topic that the device is heard on."""
        return queue(heard_on, address, self.payload, self.port or 1, confirmed=self.confirmed)


@dataclass(frozen=True, slots=True)
class Parameter:
    """How one parameter is written. Without a codec the value stands as it is."""

    name: str
    codec: Codec
    whole: bool = False
    place: Bytes | None = None

    def raw(self, params: Mapping[str, Value]) -> object:
        """Give what the wire holds. Raises CommandRejected for a value that it has no word for."""
        raw = self.codec.write(params[self.name])
        if raw is None:
            raise CommandRejected("command.unsayable", param=self.name, value=params[self.name])
        if isinstance(raw, float) and (self.whole or abs(raw - round(raw)) < _WHOLE) and math.isfinite(raw):
            return round(raw)
        return raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """One write of registers: of a parameter, or of what always stands there."""

    point: Point
    parameter: Parameter | None
    constant: Value | None
    single: bool
    read_back: bool

    def write(self, params: Mapping[str, Value]) -> RegisterWrite:
        """Make the write."""
        raw = self.constant if self.parameter is None else self.parameter.raw(params)
        words: dict[int, int] = {}
        self.point.place(raw, words)
        mask = self.point.mask if self.point.mask and self.point.count == 1 else 0xFFFF
        return RegisterWrite(
            "coil" if self.point.table == "coil" else "holding",
            self.point.address,
            tuple(words[at] for at in sorted(words)),
            mask,
            self.single,
            self.read_back,
        )


@dataclass(frozen=True, slots=True)
class MetricWrite:
    """One metric that a Sparkplug command writes: of a parameter, or of what it always says."""

    name: str
    parameter: Parameter | None
    constant: Value | None
    type: int
    """0: by the value."""

    def metric(self, params: Mapping[str, Value], time: int) -> sparkplug.Metric:
        """Make the metric."""
        raw = self.constant if self.parameter is None else self.parameter.raw(params)
        return sparkplug.Metric(name=self.name, time=time, type=self.type or sparkplug.type_of(raw), value=raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandCodec:
    """How a model writes one command."""

    name: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    topic: str = ""
    retain: bool = False
    port: int | None = None
    confirmed: bool = False
    method: str = ""
    path: str = ""
    kind: str = ""
    """`text`, `json`, `cbor` or `bytes`."""
    content: Any = None
    """The template: text with `{param}`, data with Parameters in it, or the bytes that parameters are written into."""
    checksum: Checksum | None = None
    registers: tuple[Register, ...] = ()
    metrics: tuple[MetricWrite, ...] = ()
    examples: tuple[CommandExample, ...] = ()

    def encode(self, params: Mapping[str, Value], address: str) -> Downlink:
        """Write it. Raises CommandRejected for a value that the wire cannot hold."""
        try:
            payload = self._payload(params)
            writes = tuple(each.write(params) for each in self.registers)
        except (ValueError, OverflowError) as exc:
            raise CommandRejected("command.unfit", command=self.name, detail=str(exc)) from exc
        topic = self.topic.replace("{address}", address)
        if self.metrics:
            topic = sparkplug.Topic.of(address, node=sparkplug.Kind.NCMD, device=sparkplug.Kind.DCMD).text
        return Downlink(
            topic=topic,
            payload=payload,
            retain=self.retain,
            port=self.port,
            confirmed=self.confirmed,
            method=self.method,
            path=self.path.replace("{address}", address),
            content_format=CONTENT.get(self.kind) if self.method else None,
            writes=writes,
        )

    def _payload(self, params: Mapping[str, Value]) -> bytes:
        if self.metrics:
            now = round(time.time() * 1000)  # a command says when it was sent
            return sparkplug.write(
                sparkplug.Payload(metrics=tuple(each.metric(params, now) for each in self.metrics), time=now)
            )
        match self.kind:
            case "text":
                said = str(self.content)
                for name, parameter in self.parameters.items():
                    said = said.replace(f"{{{name}}}", _shown(parameter.raw(params)))
                return said.encode()
            case "json":
                return msgspec.json.encode(_filled(self.content, params))
            case "cbor":
                return cbor2.dumps(_filled(self.content, params))
            case "bytes":
                data = bytearray(self.content)
                for parameter in self.parameters.values():
                    if parameter.place is not None:
                        parameter.place.place(parameter.raw(params), data)
                if self.checksum is not None:
                    self.checksum.put(data)
                return bytes(data)
            case _:
                return b""


def checked_params(command: CommandType, params: Mapping[str, object]) -> dict[str, Value]:
    """Hold parameters against a command of the class. Raises RequestError naming the one that is wrong."""
    known = {metric.key: metric for metric in command.params}
    for name in params:
        if name not in known:
            raise RequestError("command.unknown_param", command=command.key, param=name, known=", ".join(known) or "-")
    checked: dict[str, Value] = {}
    for name, metric in known.items():
        value = params.get(name)
        if value is None:
            raise RequestError("command.missing_param", command=command.key, param=name, expected=_expected(metric))
        if not _suits(metric, value):
            raise RequestError(
                "command.wrong_param", command=command.key, param=name, expected=_expected(metric), got=str(value)[:40]
            )
        assert isinstance(value, (bool, int, float, str))
        checked[name] = value
    return checked


def checked_setting(metric: Metric, value: object) -> Value:
    """Hold a setting against its class. Raises RequestError."""
    if not _suits(metric, value):
        raise RequestError("twin.wrong", key=metric.key, expected=_expected(metric), got=str(value)[:40])
    assert isinstance(value, (bool, int, float, str))
    return value


def _suits(metric: Metric, value: object) -> bool:
    match metric.type:
        case MetricType.BOOL:
            return isinstance(value, bool)
        case MetricType.ENUM:
            return isinstance(value, str) and value in metric.members
        case MetricType.INT if isinstance(value, float) and not value.is_integer():
            return False
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and metric.plausible(value)
    )


def _expected(metric: Metric) -> str:
    """Say what a parameter may be, without a language: `0..100 %`, `true|false`, `a|b`."""
    if metric.type is MetricType.BOOL:
        return "true|false"
    if metric.type is MetricType.ENUM:
        return "|".join(metric.members)
    low = "" if metric.minimum is None else f"{metric.minimum:g}"
    high = "" if metric.maximum is None else f"{metric.maximum:g}"
    unit = "" if metric.ucum == "1" else f" {metric.ucum}"
    return (f"{low}..{high}" if low or high else metric.type.value) + unit


def _filled(template: Any, params: Mapping[str, Value]) -> Any:
    """Put parameters into a template of data."""
    if isinstance(template, Parameter):
        return template.raw(params)
    if isinstance(template, dict):
        return {key: _filled(value, params) for key, value in template.items()}
    if isinstance(template, list):
        return [_filled(each, params) for each in template]
    return copy.copy(template)


def _shown(raw: object) -> str:
    if isinstance(raw, bool):
        return "true" if raw else "false"
    return f"{raw:.12g}" if isinstance(raw, float) else str(raw)
