"""The envelope of a LoRaWAN network server around a device's bytes: told by its own keys, opened to one form.

ChirpStack v4 and v3, The Things Stack v3, ThingPark (Actility), Netmore. ChirpStack v4 and The Things Stack leave out
fields that are zero (proto3): a missing fPort or fCnt is 0. Anywhere else a counter that is missing, or no number, is
none: as 0 it would make every message a redelivery of the first. ThingPark and Netmore write hexadecimal digits,
Netmore numbers as text and several uplinks in one array.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Reason, Sample
from iot_core.profiles.bytes_format import bytes_from_text
from iot_core.profiles.fields import MISSING
from iot_core.profiles.formats import Context, Format
from iot_core.profiles.json_format import JsonFormat, read_count
from iot_core.profiles.moments import Moment
from iot_core.profiles.paths import Path, find, put
from iot_core.profiles.payload import read_json
from iot_core.profiles.times import parse_time

if TYPE_CHECKING:
    from datetime import datetime

    from iot_core.model import Uplink, Value
    from iot_core.profiles.fields import Trace

__all__ = ["ANY_PORT", "TOPICS", "Envelope", "LorawanFormat", "downlink", "wrap"]

TOPICS: Final = (
    "application/+/device/{address}/event/up",
    "v3/+/devices/{address}/up",
    "mqtt/things/{address}/uplink",
)
"""ChirpStack's and ThingPark's address is the DevEUI, The Things Stack's the device id."""
ANY_PORT: Final = -1
_MOST_UPLINKS: Final = 100


@dataclass(frozen=True, slots=True)
class _Opened:
    data: bytes
    port: int
    count: int | None
    """The frame counter; None where the server says none: 0 would make every message a redelivery of the first."""
    run: str
    time: datetime | None
    signal: Mapping[str, object]
    decoded: object = None
    """What the network server's own codec made of the bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Where another server's JSON holds a device's bytes, and what it says of them."""

    payload: Path
    encoding: str
    port: Path | None = None
    time: Moment | None = None
    seq: Path | None = None

    def open(self, data: object, arrival: datetime) -> _Opened | None:
        """Open a message; None when it is not one of this server's. Raises DecodeError for bytes that are none."""
        text = find(data, self.payload)
        if text is MISSING or text is None:
            return None
        stamp = find(data, self.time.place) if self.time is not None else MISSING
        time = self.time.read(stamp, arrival) if self.time is not None and stamp is not MISSING else None
        port, count = (MISSING if path is None else find(data, path) for path in (self.port, self.seq))
        opened = _opened((text, self.encoding), (port, count), None, None, {})
        return replace(opened, time=time, count=read_count(count))

    def close(self, data: bytes, port: int, context: Context) -> bytes:
        """Put bytes where `open` finds them."""
        message = put({}, self.payload, data.hex() if self.encoding == "hex" else base64.b64encode(data).decode())
        if self.port is not None:
            message = put(message, self.port, port)
        if self.seq is not None and context.seq is not None:
            message = put(message, self.seq, context.seq)
        if self.time is not None and context.time is not None:
            message = put(message, self.time.place, self.time.write(context.time, context.arrival))
        return msgspec.json.encode(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class LorawanFormat:
    """A device's own formats inside the envelope, by fPort. Time, frame counter and signal are the network server's."""

    ports: Mapping[int, Format]
    decoded: JsonFormat | None = None
    """Read what the network server's codec gives, in place of the bytes."""
    port_in_front: bool = False
    """The device counts the fPort as the first byte of its payload."""
    envelope: Envelope | None = None
    """Of a server beside those that are known; its messages are tried first."""
    topics: tuple[str, ...] = field(default=TOPICS)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for each in self._inner() for key in each.keys))

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for each in self._inner() for name in each.channels))

    def _inner(self) -> tuple[Format, ...]:
        return (*self.ports.values(), *((self.decoded,) if self.decoded is not None else ()))

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        try:
            opened = self._opened(read_json(uplink.payload), uplink)
        except DecodeError as exc:
            return Decoded(problems=(Problem(exc.reason, exc.detail),))
        parts = [self._read_one(each, uplink, trace) for each in opened]
        if len(parts) == 1:
            return parts[0]
        return Decoded(
            [sample for part in parts for sample in part.samples],
            [problem for part in parts for problem in part.problems],
            True if any(part.online for part in parts) else None,
        )

    def _opened(self, data: Any, uplink: Uplink) -> list[_Opened]:
        own = self.envelope.open(data, uplink.received_at) if self.envelope is not None else None
        return _open(data) if own is None else [own]

    def _read_one(self, opened: _Opened, uplink: Uplink, trace: Trace | None) -> Decoded:
        if trace is not None:
            trace("envelope", f"fPort {opened.port}", uplink.payload, opened.data.hex(" "))
        inner = self.ports.get(opened.port, self.ports.get(ANY_PORT))
        if self.decoded is not None and opened.decoded is not None:
            arrival = opened.time or uplink.received_at
            found = self.decoded.read_data(opened.decoded, arrival, trace)
        elif inner is None:
            known = ", ".join(str(port) for port in self.ports) or "a decoded object"
            detail = f"fPort {opened.port}, {known} expected"
            return Decoded(problems=(Problem(Reason.WRONG_FORMAT, detail, opened.data.hex()),))
        else:
            data = bytes([opened.port & 0xFF]) + opened.data if self.port_in_front else opened.data
            arrived = opened.time or uplink.received_at
            found = inner.read(msgspec.structs.replace(uplink, payload=data, received_at=arrived), trace)
        return replace(found, samples=[_within(opened, sample) for sample in found.samples])

    def wrap(self, data: bytes, port: int, context: Context) -> bytes:
        """Put a device's bytes into the envelope of its own server, or of ChirpStack v4."""
        return wrap(data, port, context) if self.envelope is None else self.envelope.close(data, port, context)

    def write(self, values: Mapping[str, Value], context: Context) -> Sequence[bytes]:
        said: set[str] = set()
        messages: list[bytes] = []
        for port, inner in self.ports.items():
            carried = {key: values[key] for key in inner.keys if key in values and key not in said}
            if carried:
                said.update(carried)
                for data in inner.write(carried, context):
                    shown = data[1:] if self.port_in_front else data
                    own = data[0] if self.port_in_front and data else max(port, 0) or 1
                    messages.append(self.wrap(shown, own, context))
        rest = {key: value for key, value in values.items() if key not in said}
        if self.decoded is not None and rest:
            messages.append(wrap(b"", 1, context, self.decoded.write_data(rest, context)))
        return messages


def wrap(data: bytes, port: int, context: Context, decoded: object = None) -> bytes:
    """Put bytes into the envelope of ChirpStack v4."""
    message: dict[str, object] = {"deviceInfo": {"devEui": context.address}, "fPort": port}
    if context.time is not None:
        message["time"] = context.time.astimezone(UTC).isoformat()
    if context.run:
        message["devAddr"] = context.run
    if context.seq:  # 0 is left out, as the server does
        message["fCnt"] = context.seq
    message["data"] = base64.b64encode(data).decode()
    if decoded is not None:
        message["object"] = decoded
    return msgspec.json.encode(message)


def downlink(uplink_topic: str, address: str, data: bytes, port: int, *, confirmed: bool) -> tuple[str, bytes] | None:
    """Give the topic and message that a network server takes for a device, by the topic that it publishes on.

    None when the topic is of no server that takes downlinks over MQTT.
    """
    levels = uplink_topic.split("/")
    text = base64.b64encode(data).decode()
    if levels[0] == "application" and len(levels) == 6:
        body: dict[str, object] = {"devEui": address, "confirmed": confirmed, "fPort": port, "data": text}
        return "/".join([*levels[:4], "command", "down"]), msgspec.json.encode(body)
    if levels[0] == "v3" and len(levels) == 5:
        one = {"f_port": port, "frm_payload": text, "confirmed": confirmed, "priority": "NORMAL"}
        return "/".join([*levels[:4], "down", "push"]), msgspec.json.encode({"downlinks": [one]})
    return None


def _within(opened: _Opened, sample: Sample) -> Sample:
    """Give a sample what the envelope says; one out of the device's memory has a time and no number of its own."""
    if sample.element:
        return sample
    extra = {**opened.signal, **(sample.extra or {})} or None
    return replace(sample, time=sample.time or opened.time, seq=opened.count, run=opened.run, extra=extra)


def _open(data: Any) -> list[_Opened]:
    if isinstance(data, list):
        if (
            not data
            or len(data) > _MOST_UPLINKS
            or not all(isinstance(each, dict) and "Payload" in each for each in data)
        ):
            raise DecodeError(Reason.WRONG_FORMAT, _NONE_KNOWN)
        return [_netmore(each) for each in data]
    if not isinstance(data, dict):
        raise DecodeError(Reason.NOT_AN_OBJECT, "a network server's message is an object")
    if isinstance(data.get("uplink_message"), dict):
        return [_things_stack(data, data["uplink_message"])]
    if isinstance(data.get("DevEUI_uplink"), dict):
        return [_thingpark(data["DevEUI_uplink"])]
    if isinstance(data.get("deviceInfo"), dict):
        return [_counted_from_zero(_chirpstack(data, data.get("devAddr"), data.get("time")), data.get("fCnt"))]
    if "data" in data and ("devEUI" in data or "fPort" in data or "rxInfo" in data):
        heard = _first(data.get("rxInfo"))
        time = data.get("publishedAt") or data.get("timestamp") or data.get("time") or heard.get("time")
        return [_chirpstack(data, data.get("devAddr"), time)]
    raise DecodeError(Reason.WRONG_FORMAT, _NONE_KNOWN)


_NONE_KNOWN: Final = "none of ChirpStack, The Things Stack, ThingPark and Netmore"


def _chirpstack(data: Mapping[str, Any], address: object, time: object) -> _Opened:
    return _opened(
        (data.get("data"), "base64"), (data.get("fPort"), data.get("fCnt")), address, time,
        _signal(_first(data.get("rxInfo")), "rssi", "snr", "loRaSNR"), data.get("object"),
    )  # fmt: skip


def _things_stack(data: Mapping[str, Any], message: Mapping[str, Any]) -> _Opened:
    ids = data.get("end_device_ids")
    opened = _opened(
        (message.get("frm_payload"), "base64"),
        (message.get("f_port"), message.get("f_cnt")),
        ids.get("dev_addr") if isinstance(ids, dict) else None,
        message.get("received_at") or data.get("received_at"),
        _signal(_first(message.get("rx_metadata")), "rssi", "snr"),
        message.get("decoded_payload"),
    )
    return _counted_from_zero(opened, message.get("f_cnt"))


def _thingpark(data: Mapping[str, Any]) -> _Opened:
    return _opened(
        (data.get("payload_hex"), "hex"), (data.get("FPort"), data.get("FCntUp")), data.get("DevAddr"),
        data.get("Time"), _signal(data, "LrrRSSI", "LrrSNR"), data.get("payload"),
    )  # fmt: skip


def _netmore(data: Mapping[str, Any]) -> _Opened:
    return _opened(
        (data.get("Payload"), "hex"), (data.get("fPort"), data.get("fCntUp")), None,
        data.get("timestamp"), _signal(data, "rssi", "snr"),
    )  # fmt: skip


def _opened(  # noqa: PLR0917 - what each network server says under other names, in one order
    payload: tuple[object, str], numbers: tuple[object, object], address: object, time: object,
    signal: Mapping[str, object], decoded: object = None,
) -> _Opened:  # fmt: skip
    text, encoding = payload
    if text is not None and not isinstance(text, str):
        raise DecodeError(Reason.BAD_FIELD, f"the payload is not {encoding}")
    return _Opened(
        bytes_from_text(text, encoding) if text else b"",
        read_count(numbers[0]) or 0,
        read_count(numbers[1]),
        address if type(address) is str and len(address) <= 64 else "",
        parse_time(time),
        signal,
        decoded,
    )


def _counted_from_zero(opened: _Opened, said: object) -> _Opened:
    """Let a frame counter that is left out be 0."""
    return replace(opened, count=0) if said is None else opened


def _first(heard: object) -> Mapping[str, Any]:
    """Find the gateway that heard it first."""
    first = heard[0] if isinstance(heard, list) and heard else None
    return first if isinstance(first, dict) else {}


def _signal(heard: Mapping[str, Any], rssi: str, *snr: str) -> dict[str, object]:
    """Keep signal strength and noise ratio."""
    found: dict[str, object] = {}
    for name, keys in (("rssi", (rssi,)), ("snr", snr)):
        for key in keys:
            value = heard.get(key)
            if isinstance(value, str):
                value = _float(value)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found[name] = value
    return found


def _float(text: str) -> float | None:
    try:
        number = float(text[:20])
    except ValueError:
        return None
    return number if number == number and abs(number) < 1e6 else None  # noqa: PLR0124 - NaN is not itself
