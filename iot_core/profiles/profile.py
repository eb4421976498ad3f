"""A compiled profile: one vendor model, played both ways."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from iot_core.errors import CommandRejected
from iot_core.model import Decoded, Problem, Reason
from iot_core.profiles.commands import CommandCodec, Downlink
from iot_core.profiles.fields import Field
from iot_core.profiles.formats import Context, Format, HeldFormat, NativeFormat, fields_of
from iot_core.profiles.native import decode_status
from iot_core.profiles.sparkplug_format import SparkplugFormat
from iot_core.profiles.values import Codec, apply

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from iot_core.errors import ConfigError
    from iot_core.model import DeviceClass, Title, Uplink, Value
    from iot_core.profiles.fields import Trace
    from iot_core.profiles.modbus import ModbusMap
    from iot_core.profiles.resources import CoapMap

__all__ = ["Encoded", "Example", "Profile", "Route"]

_NAME_FOR_PLUS = "city"
_WHOLE = frozenset({"uint", "int", "bcd"})
"""Wires that hold whole numbers only, of a few bits."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a simulated device sends, or holds in its registers."""

    topic: str = ""
    payload: bytes = b""
    registers: Mapping[str, Sequence[int]] | None = None
    content_format: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A topic pattern and the format that is spoken on it."""

    topic: str
    format: Format
    matches: re.Pattern[str]

    def concrete(self, address: str) -> str:
        """Give a topic that matches, for one address."""
        filled = "/".join(_NAME_FOR_PLUS if level == "+" else level for level in self.topic.split("/"))
        return filled.replace("{address}", address or "1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One published message and what it says; checked by the test suite and `iot profile check`."""

    name: str
    line: int
    given: Mapping[str, Any]
    values: Mapping[str, Any] | None = None
    samples: Sequence[Mapping[str, Any]] | None = None
    online: bool | None = None
    held: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Profile:
    """One vendor model: how its wire format maps to its class."""

    model: str
    vendor: str
    title: Title
    device_class: DeviceClass
    source: str
    interval: timedelta
    address: str
    file: str
    main: str = ""
    """The channel that is the unit's own device."""
    routes: tuple[Route, ...] = ()
    format: Format | None = None
    modbus: ModbusMap | None = None
    commands: Mapping[str, CommandCodec] = field(default_factory=dict)
    """How the commands of the class are written, by name; of those that this model knows."""
    coap: CoapMap | None = None
    """What to ask a device for that is a CoAP server; its routes are the paths."""
    examples: tuple[Example, ...] = ()
    lacking: ConfigError | None = None
    """What its examples still need, for `iot profile check`."""

    def __repr__(self) -> str:
        return f"Profile({self.model})"

    @property
    def class_key(self) -> str:
        return self.device_class.key

    @property
    def native(self) -> bool:
        """Say whether it speaks the native contract of docs/protocol.md, and no format of its own."""
        return isinstance(self.format, NativeFormat)

    @property
    def broken(self) -> str:
        """What is wrong with its file where it only stands in for one that cannot be read; empty for a good one."""
        return self.format.detail if isinstance(self.format, HeldFormat) else ""

    @property
    def topics(self) -> tuple[str, ...]:
        """MQTT patterns with {address}; none for what speaks on the native topics, or not over MQTT."""
        return () if self.coap is not None else tuple(route.topic for route in self.routes)

    @property
    def command_topics(self) -> tuple[str, ...]:
        """MQTT topics with {address} that its commands go out by, those of network servers' queues among them."""
        own = [each.topic for each in self.commands.values() if each.topic]
        if any(each.port is not None for each in self.commands.values()):
            queues = (Downlink(payload=b"", port=1).queued(topic, "{address}") for topic in self.topics)
            own += [queue[0] for queue in queues if queue is not None]
        return tuple(dict.fromkeys(own))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that this model can say, in the order of its class."""
        said = {key for each in self._formats() for key in each.keys}
        if self.modbus is not None:
            said.update(key for group in self.modbus.groups for key in group.keys)
        return tuple(metric.key for metric in self.device_class.metrics if metric.key in said)

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it feeds; `""` is the unit's own device."""
        if self.modbus is not None:
            names = tuple(group.channel for group in self.modbus.groups)
        else:
            names = tuple(dict.fromkeys(name for each in self._formats() for name in each.channels))
        return tuple("" if name == self.main else name for name in names)

    def decode(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        """Read an uplink. Total: any bytes give values or a Problem, in bounded time."""
        decoded = self._decode(uplink, trace)
        if not self.main:
            return decoded
        samples = [replace(each, channel="") if each.channel == self.main else each for each in decoded.samples]
        return replace(decoded, samples=samples)

    def _decode(self, uplink: Uplink, trace: Trace | None) -> Decoded:
        if self.modbus is not None:
            if uplink.registers is None:
                return Decoded(problems=(Problem(Reason.WRONG_FORMAT, "registers were expected"),))
            return self.modbus.read(uplink, trace)
        if uplink.kind == "status" and self.address.startswith("iot:"):
            return decode_status(uplink.payload)
        spoken = self.format
        if self.routes:
            topic = uplink.topic
            spoken = next((each.format for each in self.routes if not topic or each.matches.fullmatch(topic)), None)
        if spoken is None:
            return Decoded(
                problems=(Problem(Reason.WRONG_FORMAT, f"topic {uplink.topic[:200]} is none of the model's"),)
            )
        return spoken.read(uplink, trace)

    def encode(
        self,
        values: Mapping[str, Value],
        *,
        time: datetime | None = None,
        seq: int | None = None,
        run: str = "",
        address: str = "",
        content_format: int | None = None,
        channel: str = "",
    ) -> Encoded:
        """Play the profile backwards: the first message that carries any of the values.

        Raises ValueError for a value that the wire cannot hold.
        """
        given = {"time": time, "seq": seq, "run": run, "address": address, "content_format": content_format}
        messages = self.encode_all(values, channel=channel, **given)  # type: ignore[arg-type]
        return messages[0] if messages else Encoded()

    def encode_all(
        self,
        values: Mapping[str, Value],
        *,
        time: datetime | None = None,
        seq: int | None = None,
        run: str = "",
        address: str = "",
        content_format: int | None = None,
        channel: str = "",
    ) -> tuple[Encoded, ...]:
        """Play the profile backwards: one message for each topic that carries any of the values."""
        channel = channel or self.main
        if self.modbus is not None:
            return (Encoded(registers=self.modbus.write(values, channel)),)
        context = Context(time=time, seq=seq, run=run, address=address, content_format=content_format, channel=channel)
        if self.format is not None:
            own = self.format.write(values, context)
            topic = self.format.topic(address) if isinstance(self.format, SparkplugFormat) and address else ""
            return tuple(Encoded(topic, payload, content_format=content_format) for payload in own)
        said: set[str] = set()
        messages: list[Encoded] = []
        for route in self.routes:
            carried = {key: values[key] for key in route.format.keys if key in values and key not in said}
            if carried:
                said.update(carried)
                topic = route.concrete(address)
                messages.extend(Encoded(topic, payload) for payload in route.format.write(carried, context))
        return tuple(messages)

    def downlink(self, name: str, params: Mapping[str, Value], address: str) -> Downlink:
        """Write a command for the device at `address` (what stands for `{address}`).

        `params` are checked already (`checked_params`). Raises CommandRejected for a command that the model does not
        know, or a value that its wire cannot hold.
        """
        found = self.commands.get(name)
        if found is None:
            known = ", ".join(self.commands) or "-"
            raise CommandRejected("command.not_supported", command=name, model=self.model, known=known)
        return found.encode(params, address)

    def rollover(self, key: str) -> float | None:
        """Say at which value, in the metric's own unit, a counter starts from 0 again; None when nobody can know."""
        found = {each.wraps for each in self._fields() if isinstance(each.codec, Codec) and each.codec.key == key}
        return found.pop() if len(found) == 1 else None

    def span(self, key: str) -> tuple[float, float]:
        """Say between which values, in the metric's own unit, every place on its wire can say a metric."""
        low, high = -math.inf, math.inf
        for each in self._fields():
            codec, wire = each.codec, getattr(each.place, "wire", None)
            if not isinstance(codec, Codec) or codec.key != key or wire is None or wire.kind not in _WHOLE:
                continue
            if codec.map or codec.test or codec.curve:
                continue
            first, last = each.place.limits
            ends = [apply(each.given, apply(codec.linear, raw)) for raw in (first + 1, last - 1)]  # often the unknown
            low, high = max(low, min(ends)), min(high, max(ends))
        return low, high

    def _fields(self) -> list[Field[Any]]:
        if self.modbus is not None:
            return [each for _, each in self.modbus.points]
        return [each for spoken in self._formats() for each in fields_of(spoken)]

    def _formats(self) -> tuple[Format, ...]:
        own = (self.format,) if self.format is not None else ()
        return (*own, *(route.format for route in self.routes))
