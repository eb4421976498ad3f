"""A running simulated device: what it measures now, as the bytes of its model, and what those bytes say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from iot_core.model import Uplink, Value
from simulators.faults import SOUND, Fault
from simulators.obedience import Obedience
from simulators.physics import Detector
from simulators.secret import Secrets

if TYPE_CHECKING:
    from iot_core.profiles import Encoded
    from simulators.firmware import Updating
    from simulators.fleet import Planned
    from simulators.physics import Fire, Physics

Said = tuple[datetime | None, Mapping[str, Value]]
"""One observation as the wire says it: its time, None when it says none, and its values."""


@dataclass(frozen=True, slots=True)
class Message:
    """Bytes for the wire, and the observations in them."""

    topic: str
    payload: bytes
    content_format: int | None
    said: Sequence[Said]
    key: str = ""
    """Whose observations these are."""
    copies: int = 1
    """How often it is handed over."""
    broken: bool = False
    """Nobody can read it."""


@dataclass(slots=True, eq=False)
class SimDevice:
    """A device of the city while it runs. `seq` counts its observations within `run`."""

    plan: Planned
    address: str
    secrets: Secrets = field(default_factory=Secrets)
    run: str = ""
    seq: int = 0
    physics: Physics = field(init=False)
    obedience: Obedience = field(default_factory=Obedience)
    updating: Updating | None = None
    """How it takes new firmware; None: not at all."""
    fault: Fault = SOUND
    behind: list[SimDevice] = field(default_factory=list)
    """Devices that it publishes for."""
    _buffer: list[Message] = field(default_factory=list)
    _spans: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.physics = self.plan.physics
        self.obedience.secrets = self.secrets

    @property
    def key(self) -> str:
        """The device's key."""
        return self.plan.key

    @property
    def login(self) -> str:
        """The name that it shows beside its secret: that of the gateway which speaks for it."""
        return self.plan.gateway or self.key

    @property
    def secret(self) -> str:
        """The secret that it shows now."""
        return self.secrets.shown

    def ignite(self, fire: Fire | None) -> None:
        """Let a fire burn below this detector, or none."""
        assert isinstance(self.physics, Detector), self.key
        self.physics = replace(self.physics, fire=fire)

    def measure(self, now: datetime) -> dict[str, Value]:
        """Give the values that its model carries."""
        carried = self.plan.voice.profile.metrics
        values = self.fault.measured(self, self.physics.at(now), now)
        return {key: self._sayable(key, value) for key, value in values.items() if key in carried}

    def _sayable(self, key: str, value: Value) -> Value:
        """Bound a number by what the model's wire can say: its makers chose that for what it measures."""
        if isinstance(value, (bool, str)):
            return value
        if key not in self._spans:
            self._spans[key] = self.plan.voice.profile.span(key)
        low, high = self._spans[key]
        bounded = min(max(value, low), high) if low <= high else value
        return value if bounded == value else bounded

    def messages(self, now: datetime) -> list[Message]:
        """Measure, and give what is to be sent now: nothing while a buffer fills."""
        own = self.fault.spoken(self, self._made(now), now)
        return [*own, *(message for each in self.behind for message in each.messages(now))]

    def last_words(self) -> list[Message]:
        """Give what a fault has kept back, at the end."""
        return [message for each in (self, *self.behind) for message in each.fault.last_words(each)]

    def _made(self, now: datetime) -> list[Message]:
        made = self._encode(now)
        if self.plan.voice.buffered == 1:
            return made
        self._buffer += made
        return [self.flush()] if len(self._buffer) >= self.plan.voice.buffered else []

    def flush(self) -> Message:
        """Empty the buffer into one message: an array."""
        parts, self._buffer = self._buffer, []
        payload = b"[" + b",".join(part.payload for part in parts) + b"]"
        return replace(parts[0], payload=payload, said=[line for part in parts for line in part.said])

    def _encode(self, now: datetime) -> list[Message]:
        voice, values = self.plan.voice, self.measure(now)
        self.seq += 1
        inner = inner_address(voice.profile.address, self.address)
        encoded = voice.profile.encode_all(
            values, time=self.fault.clock(now), seq=self.seq, run=self.run, address=inner,
            content_format=voice.content_format, channel=voice.channel,
        )  # fmt: skip
        made = [self._message(each) for each in encoded]
        return [each for each in made if each.said]  # a topic that speaks only of channels says nothing of this device

    def _message(self, encoded: Encoded) -> Message:
        voice = self.plan.voice
        topic = encoded.topic or f"iot/v1/{self.key}/telemetry"
        uplink = Uplink(
            driver=voice.protocol,
            address=self.address,
            topic=topic,
            payload=encoded.payload,
            content_format=encoded.content_format,
        )
        return Message(topic, encoded.payload, encoded.content_format, self.read_back(uplink), self.key)

    def read_back(self, uplink: Uplink) -> list[Said]:
        """Read what the wire says. Raise when it says something doubtful: then the simulator is wrong."""
        decoded = self.plan.voice.profile.decode(uplink)
        if decoded.problems:
            raise ValueError(f"{self.plan.model} cannot say {uplink.payload!r}: {decoded.problems}")
        return [
            (sample.time, {key: value for key, value in sample.values.items() if isinstance(value, float | int | str)})
            for sample in decoded.samples
            if sample.channel == self.plan.voice.channel
        ]


def inner_address(template: str, address: str) -> str:
    """Take what stands for `{address}` in a profile's template out of a whole address."""
    before, _, after = template.partition("{address}")
    return address[len(before) : len(address) - len(after)]


def now_ms() -> datetime:
    """Give the time as a device's clock tells it: to the millisecond."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
