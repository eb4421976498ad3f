"""The envelope of a LoRaWAN network server around a device's bytes: ChirpStack v4 and The Things Stack v3.

Both write JSON and both leave out fields that are zero (proto3): a missing fPort or fCnt is 0.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Reason, Sample
from iot_core.profiles.formats import Context, Format
from iot_core.profiles.payload import read_json
from iot_core.profiles.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from iot_core.model import Uplink, Value
    from iot_core.profiles.fields import Trace

__all__ = ["TOPICS", "LorawanFormat"]

TOPICS: Final = ("application/+/device/{address}/event/up", "v3/+/devices/{address}/up")
"""ChirpStack's address is the DevEUI, The Things Stack's the device id."""


@dataclass(frozen=True, slots=True)
class _Opened:
    data: bytes
    port: int
    count: int
    run: str
    time: datetime | None
    signal: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class LorawanFormat:
    """A device's own format inside the envelope. Time, frame counter and signal come from the network server."""

    inner: Format
    port: int | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return self.inner.keys

    @property
    def channels(self) -> tuple[str, ...]:
        return self.inner.channels

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        try:
            opened = _open(read_json(uplink.payload))
        except DecodeError as exc:
            return Decoded(problems=(Problem(exc.reason, exc.detail),))
        if trace is not None:
            trace("envelope", f"fPort {opened.port}", uplink.payload, opened.data.hex(" "))
        if self.port is not None and opened.port != self.port:
            return Decoded(problems=(Problem(Reason.WRONG_FORMAT, f"fPort {opened.port}, {self.port} expected"),))
        decoded = self.inner.read(replace(uplink, payload=opened.data), trace)
        return replace(decoded, samples=[_within(opened, sample) for sample in decoded.samples])

    def write(self, values: Mapping[str, Value], context: Context) -> bytes:
        data = self.inner.write(values, context)
        message: dict[str, object] = {"deviceInfo": {"devEui": context.address}, "fPort": self.port or 1}
        if context.time is not None:
            message["time"] = context.time.astimezone(UTC).isoformat()
        if context.run:
            message["devAddr"] = context.run
        if context.seq:  # 0 is left out, as the server does
            message["fCnt"] = context.seq
        message["data"] = base64.b64encode(data).decode()
        return msgspec.json.encode(message)


def _within(opened: _Opened, sample: Sample) -> Sample:
    """Give a sample what the envelope says; one out of the device's memory has a time and no number of its own."""
    if sample.time is not None:
        return sample
    extra = {**opened.signal, **(sample.extra or {})} or None
    return replace(sample, time=opened.time, seq=opened.count, run=opened.run, extra=extra)


def _open(data: Any) -> _Opened:
    if not isinstance(data, dict):
        raise DecodeError(Reason.NOT_AN_OBJECT, "a network server's message is an object")
    if isinstance(data.get("uplink_message"), dict):
        message = data["uplink_message"]
        ids = data.get("end_device_ids")
        address = ids.get("dev_addr") if isinstance(ids, dict) else None
        heard = message.get("rx_metadata")
        time = message.get("received_at") or data.get("received_at")
        names = ("frm_payload", "f_port", "f_cnt")
    elif isinstance(data.get("deviceInfo"), dict):
        message, address, heard, time = data, data.get("devAddr"), data.get("rxInfo"), data.get("time")
        names = ("data", "fPort", "fCnt")
    else:
        raise DecodeError(Reason.WRONG_FORMAT, "neither ChirpStack v4 nor The Things Stack v3")
    payload, port, count = (message.get(name) for name in names)
    return _Opened(
        _base64(payload),
        port if type(port) is int else 0,
        count if type(count) is int and count >= 0 else 0,
        address if type(address) is str and len(address) <= 64 else "",
        parse_time(time),
        _signal(heard),
    )


def _base64(text: object) -> bytes:
    if text is None:
        return b""
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else _not_base64()
    except (binascii.Error, ValueError):
        return _not_base64()


def _not_base64() -> bytes:
    raise DecodeError(Reason.BAD_FIELD, "the payload is not base64")


def _signal(heard: object) -> dict[str, object]:
    """Keep signal strength and noise ratio of the gateway that heard it first."""
    first = heard[0] if isinstance(heard, list) and heard else None
    if not isinstance(first, dict):
        return {}
    return {name: first[name] for name in ("rssi", "snr") if isinstance(first.get(name), (int, float))}
