"""The words of the platform as frozen types (docs/words.md). No I/O; imports nothing of ours.

Uplink -> (profile) -> Sample, 0..n  -> (registry) -> Observation, 0..n -> telemetry.<class>
                    `----> Problem, 0..n                                    -> held_uplink
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any, Final

import msgspec

KEY_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,62}"
METRIC_KEY_PATTERN: Final = r"[a-z][a-z0-9_]{0,39}"
RESERVED_METRIC_KEYS: Final = frozenset(
    {"time", "device_id", "received_at", "quality", "bad", "seq", "run", "correction", "extra"}
)
RESERVED_KEYS: Final = frozenset(
    {"all", "batch", "claim", "claims", "edit", "import", "labels", "map", "merge", "rows", "search", "tree"}
)
"""No device or area is called so: these words stand where their keys stand, in the API's paths and on the wire."""
RESERVED_COMMANDS: Final = frozenset({"secret", "firmware"})
"""What the platform itself tells native devices under `commands`: no class names one of its own so."""
_OURS: Final = "iot-core"
_KEY = re.compile(KEY_PATTERN)
_METRIC_KEY = re.compile(METRIC_KEY_PATTERN)

Value = float | int | bool | str
"""One metric's value. A `str` is a member of an enum metric; it is stored as that member's number."""


def is_key(text: str) -> bool:
    """Say whether `text` can be the immutable key of a device, area or push target."""
    return _KEY.fullmatch(text) is not None


def firmware_text(model: str, version: str, sha256: bytes) -> bytes:
    """Give what a signer of firmware signs: the digest (32 bytes) bound to model and version.

    So an image can pass neither for another model's nor for another version (docs/firmware.md).
    """
    return b"\0".join((b"iot-firmware-1", model.encode(), version.encode(), sha256))


def is_reserved(key: str) -> bool:
    """Say whether a key would be taken for something of ours.

    A device signs in to the broker with its key as client id: one called `iot-core-ingest` would take the core's place.
    """
    return key in RESERVED_KEYS or key == _OURS or key.startswith(f"{_OURS}-")


def is_metric_key(text: str) -> bool:
    """Say whether `text` can be the key of a class or metric: a column name that needs no quoting."""
    return _METRIC_KEY.fullmatch(text) is not None and text not in RESERVED_METRIC_KEYS


@dataclass(frozen=True, slots=True)
class Title:
    """What a person reads, in both languages."""

    vi: str
    en: str


class Quality(IntEnum):
    """Quality of an observation (after OPC UA). The worse of two is the greater number."""

    GOOD = 0
    UNCERTAIN = 1
    CALIBRATION = 2
    BAD = 3


class Lifecycle(StrEnum):
    """Where a device is in its life."""

    PLANNED = "planned"
    PROVISIONED = "provisioned"
    ACTIVE = "active"
    MAINTENANCE = "maintenance"
    RETIRED = "retired"


class Severity(StrEnum):
    """Of an alarm, after ISA-18.2; the most urgent first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class MetricType(StrEnum):
    """How a metric is stored."""

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"
    ENUM = "enum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One measurable quantity of a class, and the column it is stored in.

    `precision` is the number of decimals kept (float only). `minimum` and `maximum` bound the plausible range,
    in the unit of measure `ucum`. `counter` marks a cumulative register that only grows.
    """

    key: str
    title: Title
    type: MetricType
    ucum: str = "1"
    precision: int = 3
    minimum: float | None = None
    maximum: float | None = None
    counter: bool = False
    members: Mapping[str, int] = field(default_factory=dict)
    smart_data_model: str | None = None

    def plausible(self, value: Value) -> bool:
        """Say whether `value` lies in the plausible range (both ends included)."""
        if isinstance(value, str):
            return value in self.members
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)


class Comparison(StrEnum):
    """What an alarm rule asks. The last six are answered from stored data, every few seconds."""

    ABOVE = "above"
    BELOW = "below"
    EQUALS = "equals"
    IN = "in"
    NOT_IN = "not_in"
    TERMS = "terms"
    DEVICES = "devices"
    SILENT = "silent"
    RATE_ABOVE = "rate_above"
    RATE_BELOW = "rate_below"
    CHANGED = "changed"
    STUCK = "stuck"


class Rollup(StrEnum):
    """What a rule makes of the stored readings of a span before it compares."""

    MEAN = "mean"
    LOWEST = "lowest"
    HIGHEST = "highest"
    INCREASE = "increase"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTerm:
    """One question about one metric, or `least` of several `terms`. `least` 0: it is no group."""

    comparison: Comparison
    metric: str | None = None
    threshold: Value = 0.0
    members: frozenset[Value] = frozenset()
    terms: tuple[RuleTerm, ...] = ()
    least: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRule:
    """One condition over one source: a device, or an area (or gateway) for `devices`.

    `silent` counts multiples of the profile's interval in `threshold`; rates are in the metric's unit an hour over the
    span `over`; `stuck` and `changed` look back over it; `rollup` compares what it makes of it, `times` that mean with
    the reading itself. `derived` names a formula in place of a metric. `devices` counts devices of an area for which
    one of `rules` holds, or held `over` ago; while fewer than `least` do, their own alarms have the severity `alone`.
    Only areas of the kind `area_kind` count, where it says one, and with `fresh` only devices whose rule began within
    `over`. Devices behind a gateway of the class `behind` are counted by gateway, whose alarm it is, not by area.

    `hysteresis` is in the metric's own unit; `on_delay` is how long the condition must hold, `off_delay` how long it
    must be gone. `steps` make an open alarm rise: at such a value it has that severity. `hours` is when it may ring.
    A `latched` alarm stays active until a person acknowledges it, whatever the readings say meanwhile. A `momentary`
    condition is over as soon as it is said, for devices that never say its end: a button says that it was pressed.
    Source of each limit: `source`.
    """

    key: str
    title: Title
    severity: Severity
    comparison: Comparison
    metric: str | None = None
    threshold: Value = 0.0
    members: frozenset[Value] = frozenset()
    terms: tuple[RuleTerm, ...] = ()
    least: int = 0
    rules: tuple[str, ...] = ()
    alone: Severity | None = None
    area_kind: str = ""
    behind: str = ""
    fresh: bool = False
    derived: str | None = None
    rollup: Rollup | None = None
    times: float | None = None
    over: timedelta = timedelta(0)
    hysteresis: float = 0.0
    on_delay: timedelta = timedelta(0)
    off_delay: timedelta = timedelta(0)
    steps: tuple[tuple[float, Severity], ...] = ()
    hours: str = ""
    latched: bool = False
    momentary: bool = False
    runbook: Title | None = None
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandType:
    """What devices of a class can be asked to do. `params` are typed and bounded as metrics are; all must be given.

    `done` names the metrics whose later reading shows it done, and the parameter each must then equal within
    `tolerance`. A command that two people must want has `confirm_two`; one that must not happen twice, such as a
    reset of a register, has `once`. A `harmless` one changes nothing where all is well: a commissioning tries it.
    """

    key: str
    title: Title
    params: tuple[Metric, ...] = ()
    done: Mapping[str, str] = field(default_factory=dict)
    tolerance: float = 0.0
    confirm_two: bool = False
    once: bool = False
    harmless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What devices of a class can be set to, and keep. A native device takes it as configuration, another by `command`.

    `metric` types and bounds it; `param` is the command's parameter that takes the value.
    """

    metric: Metric
    command: str = ""
    param: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceClass:
    """What kind of thing a device is: its metrics, plausible ranges, default alarm rules and commands.

    `rule_bodies` are its rules as the file says them, by name without the class: what people change is laid over them.
    `window` is how old an observation may be and still be stored. A `life_safety` class (fire) is never
    rate-limited, and an implausible value in it raises a fault. What one device of a `household` class says tells how
    people live: it leaves the platform only for who has the right, or grouped.
    """

    key: str
    title: Title
    metrics: tuple[Metric, ...]
    rules: tuple[AlarmRule, ...] = ()
    rule_bodies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False, compare=False)
    commands: tuple[CommandType, ...] = ()
    settings: tuple[Setting, ...] = ()
    keeps_schedule: bool = False
    """A native device of it can keep a schedule and carry it out by itself."""
    window: timedelta = timedelta(days=400)
    life_safety: bool = False
    household: bool = False

    def metric(self, key: str) -> Metric | None:
        """Look a metric up by its key."""
        return next((metric for metric in self.metrics if metric.key == key), None)

    def command(self, key: str) -> CommandType | None:
        """Look a command up by its key."""
        return next((command for command in self.commands if command.key == key), None)

    def setting(self, key: str) -> Setting | None:
        """Look a setting up by its key."""
        return next((each for each in self.settings if each.metric.key == key), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountedUnit:
    """A unit at its device, as the ingest path and the drivers see it: everything a message needs, nothing more."""

    unit_id: int
    device_id: int
    device_key: str
    class_key: str
    profile: str
    address: str
    mounted_from: datetime
    simulated: bool = False
    channels: Mapping[str, int] = field(default_factory=dict)
    """Channel name -> device id, for a unit that feeds several devices."""
    revoked: bool = False
    """Its credentials, or those of the gateway that speaks for it, were taken back: nobody speaks as it over MQTT."""


class Reason(StrEnum):
    """Why an uplink, or part of one, was held. The sentence for people stands in the catalogue as `held.<reason>`."""

    UNKNOWN_ADDRESS = "unknown_address"
    EMPTY = "empty"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    NOT_TEXT = "not_text"
    NOT_JSON = "not_json"
    NOT_CBOR = "not_cbor"
    NOT_SENML = "not_senml"
    NOT_PROTOBUF = "not_protobuf"
    NOT_AN_OBJECT = "not_an_object"
    WRONG_FORMAT = "wrong_format"
    TRUNCATED = "truncated"
    CHECKSUM = "checksum"
    UNKNOWN_METRIC = "unknown_metric"
    WRONG_TYPE = "wrong_type"
    NOT_FINITE = "not_finite"
    NO_VALUES = "no_values"
    NO_BIRTH = "no_birth"
    BAD_TIME = "bad_time"
    NO_TIME = "no_time"
    TOO_OLD = "too_old"
    BAD_FIELD = "bad_field"
    CONFLICT = "conflict"
    RETAINED = "retained"
    REFUSED = "refused"
    PROFILE = "profile"
    RATE = "rate"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing in an uplink that could not be used. `part` is what was rejected, as JSON-ready data."""

    reason: Reason
    detail: str = ""
    part: object = None
    device_id: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """What a profile read out of an uplink for one channel at one time; not yet checked against the class.

    `time` is the device's own, aware UTC; None when it said none. `state` is presence said by the message itself
    (`True` online, `False` offline), which makes no reading.
    """

    values: Mapping[str, object]
    time: datetime | None = None
    channel: str = ""
    seq: int | None = None
    run: str = ""
    quality: Quality = Quality.GOOD
    correction: bool = False
    extra: Mapping[str, object] | None = None
    element: bool = False
    """It was one of an array: without a usable time of its own it is held, because arrival says nothing of it."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The result of decoding: total, never an exception. `online` is presence, None when nothing was said of it."""

    samples: Sequence[Sample] = ()
    problems: Sequence[Problem] = ()
    online: bool | None = None


class Observation(msgspec.Struct, kw_only=True, gc=False):
    """One device, one time, values for its class's metrics (absent = not said), a quality.

    A msgspec.Struct, as Uplink is: there are tens of thousands a second, these are made in a quarter of the time, and
    the garbage collector need not look at them. Copy with `msgspec.structs.replace`.
    """

    device_id: int
    unit_id: int
    class_key: str
    time: datetime
    received_at: datetime
    values: dict[str, Value]
    quality: Quality = Quality.GOOD
    bad: int = 0
    """Bit mask of metrics outside their plausible range; a metric's bit is its number in `iot.metric`."""
    correction: bool = False
    seq: int | None = None
    run: str = ""
    extra: Mapping[str, object] | None = None
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an uplink, told to its driver after COMMIT."""

    stored: int = 0
    problems: Sequence[Problem] = ()
    recognised: bool = True
    """False when nobody registered the sender."""


Numbers = Mapping[tuple[str, str], Sequence[int]]
"""Of native units: device key and run -> the `seq` numbers that are on record now, as stored or as held."""
Settle = Callable[[Sequence[Any], Numbers], Awaitable[None]]
"""Acknowledge all of these: the tokens of uplinks whose transaction is committed, and the numbers they carried."""


async def _nobody_waits(_: Outcome) -> None:
    """Stand in for a driver that needs no word back."""


FOUND: Final = "found"
"""The `kind` of an uplink that its sender did not send: a scan, or a list of who is there. Its payload is a Find."""


class Find(msgspec.Struct, frozen=True, kw_only=True):
    """What a scan or a list of devices knows of a sender that nobody registered.

    `guess` weighs the models that it may be of, `says` is what it tells of itself, for people; `sample` is what it will
    say on `topic`, by which its model can be guessed.
    """

    guess: dict[str, float] = {}
    says: dict[str, str] = {}
    topic: str = ""
    sample: str = ""


class Uplink(msgspec.Struct, kw_only=True, gc=False):
    """What the wire said: who, what, when, and how to acknowledge it.

    Exactly one of `payload` and `registers` is meaningful. `registers` maps the first register of a block that was
    read, written `TABLE:ADDRESS` (`holding:4`, 0-based), to its 16-bit words; a coil or discrete input is one word,
    0 or 1; a `found` one may have both.
    `content_format` is the CoAP number (50 JSON, 60 CBOR, 110 SenML JSON, 112 SenML CBOR), None when the
    protocol does not say. `kind` names which of a sender's channels spoke: `telemetry`, `status`, ...

    After COMMIT `done` is awaited exactly once, with the outcome. A driver that needs no outcome gives `settle`, which
    is awaited in its place once a flush, with the `token` of each of its uplinks and the numbers for their receipts.
    """

    driver: str
    address: str
    topic: str = ""
    kind: str = "telemetry"
    payload: bytes = b""
    registers: Mapping[str, Sequence[int]] | None = None
    content_format: int | None = None
    retained: bool = False
    received_at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))
    done: Callable[[Outcome], Awaitable[None]] = _nobody_waits
    settle: Settle | None = None
    token: Any = None


@dataclass(frozen=True, slots=True)
class Credential:
    """What the core shows to a unit, or computes with: a login, an OSCORE key. `secret` is never logged or shown."""

    public: Mapping[str, object]
    secret: bytes = field(repr=False)


class CommandState(StrEnum):
    """Where a downlink is in its life; each state is true when it is said."""

    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A downlink: `name` and `params` are typed by the class."""

    id: int
    name: str
    params: Mapping[str, object]
    expires: datetime
