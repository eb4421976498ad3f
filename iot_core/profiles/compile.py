"""A profile's YAML -> Profile: every key checked, every path and point compiled once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from iot_core.model import Title, is_key
from iot_core.profiles.classes import ClassFile, Titles, read_duration
from iot_core.profiles.compile_bytes import compile_bytes_format
from iot_core.profiles.compile_commands import compile_commands
from iot_core.profiles.compile_messages import (
    compile_json,
    compile_presence,
    compile_protobuf,
    compile_senml,
    compile_sparkplug,
    compile_text,
    json_path,
)
from iot_core.profiles.compile_modbus import compile_modbus
from iot_core.profiles.entries import Entries
from iot_core.profiles.envelope import ANY_PORT, TOPICS, Envelope, LorawanFormat
from iot_core.profiles.examples import lacking, read_examples
from iot_core.profiles.formats import Format, NativeFormat, QuietFormat
from iot_core.profiles.modbus import ModbusMap
from iot_core.profiles.moments import MomentSpec, compile_moment
from iot_core.profiles.near import like
from iot_core.profiles.paths import Path
from iot_core.profiles.profile import Profile, Route
from iot_core.profiles.resources import CoapMap, compile_resources
from iot_core.profiles.table import Table

if TYPE_CHECKING:
    from iot_core.profiles.document import Document, Place

__all__ = ["compile_profile"]

_SINGLE: Final = ("native", "json", "cbor", "protobuf", "senml", "text", "bytes")
_WAYS: Final = (*_SINGLE, "sparkplug", "lorawan", "modbus", "coap", "topics")
_FORMATS: Final = (*_SINGLE, "presence", "quiet")
_CARRIED: Final = ("bytes", "text", "json", "cbor", "protobuf", "senml")
"""What a LoRaWAN device may put into its payload."""
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:.+", re.DOTALL)
"""Any: a driver that others bring has a scheme of its own."""


class ProfileSpec(Table, frozen=True, kw_only=True):
    """The keys of a profile."""

    extends: str = ""
    """A model, or a family of `_families`, whose keys hold here as well; own keys win, null takes one away."""
    model: str
    """Its key: a-z, 0-9 and -, unique."""
    vendor: str
    title: Titles
    """`{vi: ..., en: ...}`: what people read."""
    source: str
    """The document that every address comes from."""
    interval: str | int | float
    """How often it speaks: `30s`, `15m`, `24h`, `7d`; a bare number is refused. Three missed are silence."""
    address: str = ""
    """The form of a unit's address, with `{address}` once. `iot:{address}` (native MQTT topics and CoAP), `mqtt:...`,
    `lorawan:{address}` (the DevEUI), `sparkplug:{address}` (`GROUP/NODE` or `GROUP/NODE/DEVICE`),
    `modbus://{address}` (`HOST:PORT/UNIT`), `coap://{address}` (`HOST:PORT`), or the scheme of another driver."""
    main: str = ""
    """The channel that is the unit's own device."""
    native: Any = None
    """`true`: it speaks the native contract (docs/protocol.md)."""
    json: Any = None
    cbor: Any = None
    protobuf: Any = None
    senml: Any = None
    text: Any = None
    bytes: Any = None
    sparkplug: Any = None
    """Sparkplug B over MQTT: an edge node, or a device behind one."""
    lorawan: Any = None
    modbus: Any = None
    commands: dict[str, Any] = msgspec.field(default_factory=dict)
    """How the commands of the class are written."""
    coap: Any = None
    """The resources of a device that is a CoAP server."""
    topics: dict[str, Any] = msgspec.field(default_factory=dict)
    """MQTT topics, `{address}` one whole level, `+` allowed: each with its own format."""
    examples: list[dict[str, Any]] = msgspec.field(default_factory=list)
    """Published messages and what they say. `iot profile check` asks for at least a good one and a bad one."""


class EnvelopeSpec(Table, frozen=True, kw_only=True):
    """Where a server beside those that are known puts a device's bytes, in its JSON."""

    payload: str
    """The path of the bytes."""
    encoding: Literal["base64", "hex"] = "base64"
    port: str | None = None
    """The path of the fPort."""
    time: str | MomentSpec | None = None
    """Where it says when it heard the message."""
    seq: str | None = None
    """The path of the frame counter."""


class LorawanSpec(Table, frozen=True, kw_only=True):
    """The keys of `lorawan`: the envelopes of ChirpStack v4 and v3, The Things Stack v3, ThingPark and Netmore."""

    port: int | None = None
    """The fPort that is meant; without it any."""
    bytes: Any = None
    text: Any = None
    json: Any = None
    cbor: Any = None
    protobuf: Any = None
    senml: Any = None
    ports: dict[int, Any] = msgspec.field(default_factory=dict)
    """What is spoken on each fPort: `{24: {bytes: ...}, 99: {quiet: true}}`."""
    decoded: Any = None
    """Read what the network server's own codec gives (`object`, `decoded_payload`), with the keys of `json`."""
    port_in_front: bool = False
    """The device counts the fPort as the first byte of its payload."""
    envelope: EnvelopeSpec | None = None
    """Of a server, or any gateway, that is none of these: where its JSON holds the bytes."""
    topics: list[str] = msgspec.field(default_factory=list)
    """Topics of a network server beside those that are known, with `{address}`."""


class _Compiler:
    """Compiles one document against its class."""

    def __init__(self, document: Document, class_file: ClassFile) -> None:
        self.document = document
        self.class_file = class_file
        self.entries = Entries(document, class_file)

    def profile(self) -> Profile:
        document = self.document
        spec = document.read((), ProfileSpec)
        if not is_key(spec.model):
            raise document.error(("model",), "a key of the form [a-z0-9][a-z0-9-]{0,62}")
        interval = read_duration(document, ("interval",), spec.interval)
        if interval.total_seconds() < 1:
            raise document.error(("interval",), "at least 1s")
        coap: CoapMap | None = None
        if spec.coap and not any(getattr(spec, key) for key in _WAYS if key != "coap"):
            coap, routes = compile_resources(document, ("coap",), interval, self._format)
            modbus = spoken = None
        else:
            modbus, spoken, routes = self._way(spec)
        examples = read_examples(document, len(spec.examples))
        profile = Profile(
            model=spec.model,
            vendor=spec.vendor,
            title=Title(spec.title.vi, spec.title.en),
            device_class=self.class_file.device_class,
            source=self._text(("source",), spec.source),
            interval=interval,
            address=self._address(spec),
            file=document.file,
            main=spec.main,
            routes=routes,
            format=spoken,
            modbus=modbus,
            commands=compile_commands(self.entries, self.document.at(("modbus", "numbering")) or "wire"),
            coap=coap,
            examples=examples,
            lacking=lacking(document, examples),
        )
        if not profile.metrics:
            raise document.error((), "at least one metric of the class")
        return profile

    def _way(self, spec: ProfileSpec) -> tuple[ModbusMap | None, Format | None, tuple[Route, ...]]:
        given = [key for key in _WAYS if getattr(spec, key, None)]
        if given == ["lorawan", "topics"]:  # other events of the same network server: a status, a join
            return None, None, (*self._lorawan_routes(), *(self._topic(topic) for topic in spec.topics))
        if len(given) != 1:
            raise self.document.error((), f"exactly one of {', '.join(_WAYS)}")
        match given[0]:
            case "modbus":
                return compile_modbus(self.entries, ("modbus",)), None, ()
            case "lorawan":
                return None, None, self._lorawan_routes()
            case "topics":
                return None, None, tuple(self._topic(topic) for topic in spec.topics)
            case kind:
                return None, self._format((kind,), kind), ()

    def _address(self, spec: ProfileSpec) -> str:
        ways = {
            "modbus://{address}": spec.modbus,
            "lorawan:{address}": spec.lorawan,
            "sparkplug:{address}": spec.sparkplug,
            "coap://{address}": spec.coap,
        }
        default = next((form for form, way in ways.items() if way), "")
        if not default and not spec.topics:
            default = "iot:{address}"
        address = spec.address or default
        if not _SCHEME.fullmatch(address) or address.count("{address}") != 1:
            raise self.document.error(("address",), "a scheme (iot:, mqtt:, coap://, ...) and {address} once behind it")
        return address

    def _topic(self, topic: str) -> Route:
        place: Place = ("topics", topic)
        return self._route(place, topic, self._only_format(place, _FORMATS))

    def _only_format(self, place: Place, known: tuple[str, ...]) -> Format:
        formats = self.document.table(place)
        kind = next(iter(formats))
        if len(formats) != 1 or kind not in known:
            raise self.document.error(place, f"exactly one of {', '.join(known)}{like(kind, known)}")
        return self._format((*place, kind), kind)

    def _route(self, place: Place, topic: str, spoken: Format) -> Route:
        levels = topic.split("/")
        if levels.count("{address}") != 1 or "#" in topic or any("+" in level and level != "+" for level in levels):
            raise self.document.error(place, "a topic with {address} as one whole level, and no wildcard but +")
        if any("{" in level and level != "{address}" for level in levels):
            raise self.document.error(place, "{address} as one whole level")
        pattern = "/".join("[^/]+" if level in {"+", "{address}"} else re.escape(level) for level in levels)
        return Route(topic, spoken, re.compile(pattern))

    def _format(self, place: Place, kind: str) -> Format:  # noqa: PLR0911 - one for each format
        match kind:
            case "native":
                return NativeFormat(self.class_file)
            case "json" | "cbor":
                return compile_json(self.entries, place, cbor=kind == "cbor")
            case "protobuf":
                return compile_protobuf(self.entries, place)
            case "senml":
                return compile_senml(self.entries, place)
            case "sparkplug":
                return compile_sparkplug(self.entries, place)
            case "text":
                return compile_text(self.entries, place)
            case "bytes":
                return compile_bytes_format(self.entries, place)
            case "quiet":
                return QuietFormat()
            case _:
                return compile_presence(self.entries, place)

    def _lorawan_routes(self) -> tuple[Route, ...]:
        spoken = self._lorawan(("lorawan",))
        return tuple(self._route(("lorawan", "topics"), topic, spoken) for topic in spoken.topics)

    def _lorawan(self, place: Place) -> LorawanFormat:
        spec = self.document.read(place, LorawanSpec)
        given = [kind for kind in _CARRIED if getattr(spec, kind)]
        if len(given) + bool(spec.ports) + bool(spec.decoded and not given and not spec.ports) != 1:
            raise self.document.error(place, f"exactly one of {', '.join(_CARRIED)} and ports; or decoded")
        if spec.port is not None and not given:
            raise self.document.error((*place, "port"), "port only beside one format; else the keys of ports")
        if spec.port is not None and not 0 <= spec.port <= 255:
            raise self.document.error((*place, "port"), "an fPort from 0 to 255")
        ports: dict[int, Format] = {}
        if given:
            ports[ANY_PORT if spec.port is None else spec.port] = self._format((*place, given[0]), given[0])
        for port in spec.ports:
            where = (*place, "ports", port)
            if not 0 <= port <= 255:
                raise self.document.error(where, "an fPort from 0 to 255")
            ports[port] = self._only_format(where, (*_CARRIED, "quiet"))
        decoded = compile_json(self.entries, (*place, "decoded")) if spec.decoded else None
        return LorawanFormat(
            ports=ports,
            decoded=decoded,
            port_in_front=spec.port_in_front,
            topics=(*TOPICS, *spec.topics) if spec.envelope is None else (*spec.topics, *TOPICS),
            envelope=None if spec.envelope is None else self._envelope((*place, "envelope"), spec.envelope),
        )

    def _envelope(self, place: Place, spec: EnvelopeSpec) -> Envelope:
        def path(key: str, text: str | None) -> Path | None:
            return None if text is None else json_path(self.entries, (*place, key), text)

        moment = compile_moment(
            self.document, (*place, "time"), self.document.at((*place, "time")),
            lambda at, text: json_path(self.entries, at, str(text)),
        )  # fmt: skip
        return Envelope(
            payload=path("payload", spec.payload) or (),
            encoding=spec.encoding,
            port=path("port", spec.port),
            time=moment,
            seq=path("seq", spec.seq),
        )

    def _text(self, place: Place, text: str) -> str:
        if not text.strip():
            raise self.document.error(place, "a text that is not empty: every fact comes from a document")
        return text.strip()


def compile_profile(document: Document, class_file: ClassFile) -> Profile:
    """Compile one profile. Raises ConfigError naming file, line, key and what was expected."""
    if not isinstance(document.data, dict):
        raise document.error((), "a mapping with model, vendor, title, source, interval, ...")
    return _Compiler(document, class_file).profile()
