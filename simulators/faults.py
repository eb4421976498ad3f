"""Faults on demand: what a device of the field does wrong between measuring and speaking, and what must come of it.

A device has one fault at most, and the same one for the same seed. Each is a `Fault`; its docstring says what the
tables must show, so that the verdict of a run with faults still counts every observation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zlib import crc32

from iot_core.errors import RequestError
from iot_core.messages import text
from iot_core.model import MetricType, Uplink, Value
from simulators.physics.chance import seeded, uniform

if TYPE_CHECKING:
    from simulators.device import Message, SimDevice

__all__ = ["ALL", "FAULTS", "SOUND", "Fault", "Struck", "Wish", "afflict", "told", "wishes"]

USUAL_SHARE: Final = 0.05
ALL: Final = "all"
_ODDS: Final = 0.1
"""How often a fault strikes that strikes now and then."""
_AWAY_S: Final = (4.0, 9.0)
_CYCLE_S: Final = 20.0
_LIVES: Final = timedelta(seconds=30)


class Fault:
    """None: the device is sound."""

    def can_strike(self, _device: SimDevice) -> bool:
        """Say whether a device can have it."""
        return False

    def away(self, _device: SimDevice, _now: datetime) -> bool:
        """Say whether nobody hears the device now."""
        return False

    def measured(self, _device: SimDevice, values: Mapping[str, Value], _now: datetime) -> Mapping[str, Value]:
        """Give what the sensor says in place of what is true."""
        return values

    def clock(self, now: datetime) -> datetime:
        """Give what the device's clock shows."""
        return now

    def spoken(self, _device: SimDevice, made: Sequence[Message], _now: datetime) -> Sequence[Message]:
        """Give what goes out of what was to be said now."""
        return made

    def last_words(self, _device: SimDevice) -> Sequence[Message]:
        """Give what was kept back and goes out at the end."""
        return ()

    def password(self, device: SimDevice) -> str:
        """Give the password that a camera asks for."""
        return device.secret


SOUND: Final = Fault()


class Twice(Fault):
    """Every message is handed over twice, as after a lost acknowledgement. Stored once."""

    def can_strike(self, device: SimDevice) -> bool:
        return device.plan.voice.native

    def spoken(self, _device: SimDevice, made: Sequence[Message], _now: datetime) -> Sequence[Message]:
        return [replace(message, copies=2) for message in made]


@dataclass(slots=True)
class Offline(Fault):
    """Its radio link is gone for some seconds in twenty: what it says then comes later, in any order. All stored.

    A Modbus unit does not answer in that time: its gateway says so. A camera cannot be connected to.
    """

    _kept: list[Message] = field(default_factory=list)

    def can_strike(self, device: SimDevice) -> bool:
        return not device.plan.bridge

    def away(self, device: SimDevice, now: datetime) -> bool:
        own = seeded(0, device.key, "offline")
        turn, at = divmod(now.timestamp() + _CYCLE_S * uniform(own), _CYCLE_S)
        low, high = _AWAY_S
        return at < low + (high - low) * uniform(own, int(turn))

    def spoken(self, device: SimDevice, made: Sequence[Message], now: datetime) -> Sequence[Message]:
        self._kept += made
        return [] if self.away(device, now) else self.last_words(device)

    def last_words(self, device: SimDevice) -> Sequence[Message]:
        kept, self._kept = self._kept, []
        return sorted(kept, key=lambda message: uniform(seeded(0, device.key), crc32(message.payload)))


class Broken(Fault):
    """One message in ten is cut off in the middle. Held with its reason, and nothing of it stored."""

    def can_strike(self, device: SimDevice) -> bool:
        return device.plan.voice.protocol != "modbus" and device.address.startswith(("iot:", "mqtt:"))

    def spoken(self, device: SimDevice, made: Sequence[Message], _now: datetime) -> Sequence[Message]:
        return [self._cut(device, message) if self._strikes(device, message) else message for message in made]

    def _strikes(self, device: SimDevice, message: Message) -> bool:
        return uniform(seeded(0, device.key, "broken"), crc32(message.payload)) < _ODDS

    def _cut(self, device: SimDevice, message: Message) -> Message:
        cut = replace(message, payload=message.payload[: len(message.payload) // 2], said=(), broken=True)
        uplink = Uplink(
            driver=device.plan.voice.protocol, address=device.address, topic=cut.topic, payload=cut.payload,
            content_format=cut.content_format,
        )  # fmt: skip
        return message if device.plan.voice.profile.decode(uplink).samples else cut


class Clock(Fault):
    """Its clock was never set, and says 1970. Stored with the time of arrival, as `uncertain`."""

    def can_strike(self, device: SimDevice) -> bool:
        return device.plan.voice.native and device.plan.voice.buffered == 1

    def clock(self, now: datetime) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now.timestamp() % 86_400)

    def spoken(self, _device: SimDevice, made: Sequence[Message], _now: datetime) -> Sequence[Message]:
        return [replace(message, said=[(None, values) for _, values in message.said]) for message in made]


class Spike(Fault):
    """One value in ten is one that cannot be. Stored and marked out of range; rules and rollups leave it out."""

    def can_strike(self, device: SimDevice) -> bool:
        return not device.plan.voice.profile.device_class.life_safety and not _camera(device) and bool(_spikes(device))

    def measured(self, device: SimDevice, values: Mapping[str, Value], now: datetime) -> Mapping[str, Value]:
        own = seeded(0, device.key, "spike")
        spikes = {key: spike for key, spike in _spikes(device).items() if key in values}
        if not spikes or uniform(own, round(now.timestamp() * 1000)) >= _ODDS:
            return values
        key = sorted(spikes)[own % len(spikes)]
        return {**values, key: spikes[key]}


@dataclass(slots=True)
class Stuck(Fault):
    """It says the first values that it measured, for ever. Stored; rules for stuck values hear of it."""

    _first: Mapping[str, Value] | None = None

    def can_strike(self, device: SimDevice) -> bool:
        return not device.plan.voice.profile.device_class.life_safety and not _camera(device)

    def measured(self, _device: SimDevice, values: Mapping[str, Value], _now: datetime) -> Mapping[str, Value]:
        self._first = self._first or dict(values)
        return self._first


@dataclass(slots=True)
class Dead(Fault):
    """It falls silent half a minute after it began, without a word. Rules for silence hear of it."""

    _began: datetime | None = None

    def can_strike(self, device: SimDevice) -> bool:
        return not device.plan.bridge

    def away(self, _device: SimDevice, now: datetime) -> bool:
        self._began = self._began or now
        return now - self._began > _LIVES

    def spoken(self, device: SimDevice, made: Sequence[Message], now: datetime) -> Sequence[Message]:
        return [] if self.away(device, now) else made


class OfCameras(Fault):
    """What only a camera can have."""

    def can_strike(self, device: SimDevice) -> bool:
        return _camera(device)


class Unreachable(OfCameras):
    """Nothing listens where the camera should be. Stored: not reachable."""

    def away(self, _device: SimDevice, _now: datetime) -> bool:
        return True


class NoStream(OfCameras):
    """Its RTSP server says 503. Stored: reachable, no stream, and the status."""


class NoOnvif(OfCameras):
    """Its ONVIF service answers every question with a fault. Stored: a stream, no ONVIF, and the fault's code."""


class Login(OfCameras):
    """Its password was changed. Stored: neither stream nor ONVIF for us, and `NotAuthorized`."""

    def password(self, device: SimDevice) -> str:
        return f"another than {device.secret}"


class Hang(OfCameras):
    """It takes connections and never answers. Stored: reachable, no stream, and that the time ran out."""


FAULTS: Final[Mapping[str, type[Fault]]] = {
    "twice": Twice,
    "offline": Offline,
    "broken": Broken,
    "clock": Clock,
    "spike": Spike,
    "stuck": Stuck,
    "dead": Dead,
    "unreachable": Unreachable,
    "rtsp": NoStream,
    "onvif": NoOnvif,
    "login": Login,
    "hang": Hang,
}


Struck = Mapping[str, Sequence[str]]
"""The keys of the devices that have each fault."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A fault, and the share of the devices that shall have it."""

    name: str
    share: float = USUAL_SHARE
    needed: bool = True
    """Somebody must be able to have it."""


def wishes(said: Iterable[str]) -> list[Wish]:
    """Read `offline`, `offline=0.2`, `all=0.02`. Raises RequestError for any other."""
    return [each for one in said for each in _wishes(one)]


def _wishes(said: str) -> list[Wish]:
    name, given, share = said.partition("=")
    try:
        part = float(share) if given else USUAL_SHARE
    except ValueError:
        part = -1.0
    if (name not in FAULTS and name != ALL) or not 0 < part <= 1:
        raise RequestError("demo.bad_fault", said=said, faults=", ".join([*FAULTS, ALL]))
    return [Wish(each, part, needed=name != ALL) for each in (FAULTS if name == ALL else [name])]


def afflict(devices: Iterable[SimDevice], wishes: Sequence[Wish], seed: int) -> Struck:
    """Give faults to devices, each to one at least; say who has which. Raises RequestError where nobody can have it."""
    sound = list(devices)
    struck: dict[str, list[str]] = {}
    most = len(sound)
    for each in wishes:
        fault = FAULTS[each.name]
        able = [device for device in sound if fault().can_strike(device)]
        able.sort(key=lambda device: uniform(seed, device.key, each.name))
        chosen = able[: max(1, round(each.share * most))]
        if not able and not each.needed:
            continue
        if not chosen:
            raise RequestError("demo.fault_nobody", fault=each.name)
        for device in chosen:
            device.fault = fault()
        sound = [device for device in sound if device not in chosen]
        struck.setdefault(each.name, []).extend(sorted(device.key for device in chosen))
    return struck


def told(struck: Struck) -> list[str]:
    """Say which devices have which fault, for a person."""
    return [text("demo.faulty", fault=fault, n=len(keys), devices=", ".join(keys)) for fault, keys in struck.items()]


def _camera(device: SimDevice) -> bool:
    return device.plan.voice.protocol == "camera"


def _spikes(device: SimDevice) -> dict[str, float]:
    """Give for each metric a value that the model's wire can say and that cannot be."""
    found: dict[str, float] = {}
    profile = device.plan.voice.profile
    for metric in profile.device_class.metrics:
        if metric.key not in profile.metrics or metric.counter or metric.maximum is None:
            continue
        if metric.type not in {MetricType.FLOAT, MetricType.INT}:
            continue
        spike = metric.maximum * 2 + 1
        if profile.span(metric.key)[1] >= spike:
            found[metric.key] = float(spike) if metric.type is MetricType.FLOAT else int(spike)
    return found
