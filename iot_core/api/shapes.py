"""Every request and answer of the HTTP API, shared by server and client; OpenAPI is generated from them.

Requests refuse keys that are not listed. Answers take any, so that an older client reads a newer server.
Times are RFC 3339 in UTC. Lists stand in `items`.
"""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

from iot_core.model import KEY_PATTERN, CommandState, Lifecycle, MetricType, Reason, Severity, Title

PREFIX: Final = "/api/v1"
MAX_BATCH: Final = 5_000

Key = Annotated[str, Meta(pattern=f"^{KEY_PATTERN}$")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=4_000)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Value = float | int | bool | str


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent to us: a key that is not listed is an error that names it."""


class Query(Request, frozen=True, kw_only=True):
    """Parameters in a URL."""


class Answer(Struct, frozen=True, kw_only=True):
    """What we send."""


class Nothing(Answer, frozen=True, kw_only=True):
    """An empty object: it was done."""


# ---------------------------------------------------------------- closed sets
class DeviceState(StrEnum):
    """What a person wants to know of a device first; the first that applies."""

    RETIRED = "retired"
    ALARM = "alarm"
    SILENT = "silent"
    NEVER = "never"
    OK = "ok"


class QualityName(StrEnum):
    """Quality of an observation, as people read it."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    CALIBRATION = "calibration"
    BAD = "bad"


class AlarmState(StrEnum):
    """After ISA-18.2: active and unacknowledged; acknowledged; returned to normal but unacknowledged; over."""

    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED = "returned"
    CLOSED = "closed"


class Role(StrEnum):
    """What a token may do; each may do all that the ones before it may."""

    VIEWER = "viewer"
    TECHNICIAN = "technician"
    OPERATOR = "operator"
    ADMIN = "admin"


class Problem(Answer, frozen=True, kw_only=True):
    """RFC 9457. `code` and `facts` find and fill the sentence in a catalogue; `detail` is that sentence."""

    type: str = "about:blank"
    title: str = ""
    status: int
    code: str
    detail: str
    facts: dict[str, Any] = field(default_factory=dict)


# ---------------------------------------------------------------- areas
class AreaNew(Request, frozen=True, kw_only=True):
    """A node to be added to the tree of areas. `outline` is a GeoJSON geometry, the position its centre (WGS 84)."""

    key: Key
    name: Name
    name_en: Name | None = None
    kind: Annotated[str, Meta(min_length=1, max_length=40)] = "zone"
    """province, commune, ward, zone, dma, street..."""
    code: Annotated[str, Meta(max_length=40)] | None = None
    parent: Key | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    outline: dict[str, Any] | None = None


class Area(Answer, frozen=True, kw_only=True):
    """A node of the tree of areas; `devices` counts those not retired that stand in it directly."""

    key: str
    name: str
    name_en: str | None
    kind: str
    code: str | None
    parent: str | None
    devices: int
    latitude: float | None = None
    longitude: float | None = None
    ended_at: datetime | None = None
    into: str | None = None
    """The area that it was merged into."""


class AreaVersion(Answer, frozen=True, kw_only=True):
    """What an area was from `since` (None: as far back as anyone knows) to `until` (None: still)."""

    since: datetime | None
    until: datetime | None
    name: str
    name_en: str | None
    kind: str
    code: str | None
    parent: str | None


class AreaDetail(Area, frozen=True, kw_only=True):
    """An area with its history, the newest first."""

    history: tuple[AreaVersion, ...]


class AreasQuery(Query, frozen=True, kw_only=True):
    """Whether to list areas that ended too."""

    ended: bool = False


class AreaRename(Request, frozen=True, kw_only=True):
    """Another name, from `at` on (now when left out). A dry run says what would change and writes nothing."""

    name: Name | None = None
    name_en: Name | None = None
    at: datetime | None = None
    dry_run: bool = False


class AreaMove(Request, frozen=True, kw_only=True):
    """Another parent (None: a root), from `at` on."""

    parent: Key | None
    at: datetime | None = None
    dry_run: bool = False


class AreaMerge(Request, frozen=True, kw_only=True):
    """Areas that end and go into another one, from `at` on; `new` describes that one where it is not there yet."""

    areas: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=1_000)]
    into: Key | None = None
    new: AreaNew | None = None
    at: datetime | None = None
    dry_run: bool = False


class AreaImport(Request, frozen=True, kw_only=True):
    """Areas to be added or brought up to date, in any order."""

    areas: Annotated[tuple[AreaNew, ...], Meta(max_length=20_000)]
    at: datetime | None = None
    dry_run: bool = False


# ---------------------------------------------------------------- what was changed, by whom
class Change(Answer, frozen=True, kw_only=True):
    """One thing before and after: None where it was not there. `subject` is `device/aq-001`."""

    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Changed(Answer, frozen=True, kw_only=True):
    """What an operation changed; `operation` undoes it, and is None where nothing was written. 100 are shown."""

    operation: int | None
    total: int
    changes: tuple[Change, ...]


class WindowNew(Request, frozen=True, kw_only=True):
    """Work at devices: those of `keys`, of an area with all inside it, or those that bear a label.

    It begins now where no start is given, and ends by itself. During `maintenance` alarms are kept quiet, and written
    down; during a `test` (of devices by key, 8 hours at most) they are raised, marked and pushed as tests.
    """

    kind: Literal["maintenance", "test"] = "maintenance"
    keys: Annotated[tuple[Key, ...], Meta(max_length=MAX_BATCH)] = ()
    area: Key | None = None
    label: Annotated[str, Meta(min_length=1, max_length=60)] | None = None
    starts: Annotated[datetime, Meta(tz=True)] | None = None
    ends: Annotated[datetime, Meta(tz=True)]
    reason: Annotated[str, Meta(max_length=400)] = ""
    dry_run: bool = False


class WindowQuery(Query, frozen=True, kw_only=True):
    """Windows that cover a device now or later; those over since `since` too."""

    device: Key | None = None
    since: Annotated[datetime, Meta(tz=True)] | None = None


class Window(Answer, frozen=True, kw_only=True):
    """A span in which somebody works at devices; `devices` counts them, `suppressed` the alarms it kept quiet."""

    id: int
    kind: str
    device: str | None
    area: str | None
    label: str | None
    starts: datetime
    ends: datetime
    reason: str
    by: str
    ended_by: str | None
    devices: int
    suppressed: int


class Windows(Answer, frozen=True, kw_only=True):
    items: tuple[Window, ...]


class CommissioningQuery(Query, frozen=True, kw_only=True):
    """What counts as the first uplink: what arrived since then. `without` names metrics that are not expected."""

    since: Annotated[datetime, Meta(tz=True)]
    without: Annotated[str, Meta(max_length=2_000)] | None = None


class CommissioningNew(Request, frozen=True, kw_only=True):
    """Keep the record of a commissioning, with the command that was sent and how far it came."""

    since: Annotated[datetime, Meta(tz=True)]
    without: Annotated[str, Meta(max_length=2_000)] | None = None
    command: Annotated[str, Meta(max_length=40)] | None = None
    command_state: CommandState | None = None
    notes: Text = ""


class MetricCheck(Answer, frozen=True, kw_only=True):
    """One metric that the model says it can say: `ok`, `missing`, `bad` (outside its range) or `excused`."""

    metric: str
    result: str
    value: "Value | None" = None
    time: datetime | None = None


class Commissioning(Answer, frozen=True, kw_only=True):
    """How a device does since a moment. `passed`: heard, all expected metrics said and plausible, nothing held.

    `harmless` is the command of its class that may be tried without consequence, where its model has one. `id` and
    `at` are those of the record, null where none was kept.
    """

    device: str
    profile: str
    serial: str | None
    firmware: str | None
    address: str
    since: datetime
    heard_at: datetime | None
    metrics: tuple[MetricCheck, ...]
    held: int
    harmless: str | None = None
    command: str | None = None
    command_state: str | None = None
    passed: bool = False
    notes: str = ""
    id: int | None = None
    at: datetime | None = None
    by: str | None = None


class Commissionings(Answer, frozen=True, kw_only=True):
    """The records of a device, the newest first."""

    items: tuple[Commissioning, ...]


class AuditQuery(Query, frozen=True, kw_only=True):
    """Changes of one device, area, push target or token, by one person, since a time, of one operation."""

    key: Annotated[str, Meta(max_length=63)] | None = None
    by: Annotated[str, Meta(max_length=200)] | None = None
    since: datetime | None = None
    operation: Annotated[int, Meta(ge=1, le=2**62)] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


class AuditEntry(Answer, frozen=True, kw_only=True):
    """One thing that somebody changed, from which address and, where it was a user, with which token (`via`).

    `undone_by` is the operation that took it back.
    """

    at: datetime
    by: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    operation: int | None
    effective_at: datetime | None
    undoes: int | None
    undone_by: int | None
    address: str | None = None
    via: str | None = None


class Audit(Answer, frozen=True, kw_only=True):
    items: tuple[AuditEntry, ...]


# ---------------------------------------------------------------- the tree
class AreaNode(Area, frozen=True, kw_only=True):
    """An area with those inside it; `devices_below` counts the whole subtree."""

    devices_below: int
    children: tuple["AreaNode", ...] = ()


class Areas(Answer, frozen=True, kw_only=True):
    items: tuple[Area, ...]


class AreaTree(Answer, frozen=True, kw_only=True):
    items: tuple[AreaNode, ...]
    """The roots."""


# ---------------------------------------------------------------- devices
class DeviceNew(Request, frozen=True, kw_only=True):
    """A device to be added, with its first unit.

    Either `profile` (the class follows from it) or `class` alone (its native profile). `address` may be left out
    where the profile's template can be filled with the key, and may be short: `11` becomes `mqtt:tele/11` where the
    profile says `mqtt:tele/{address}`.
    """

    key: Key
    name: Name | None = None
    profile: str | None = None
    class_key: str | None = field(default=None, name="class")
    area: Key | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    address: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    serial: Annotated[str, Meta(max_length=200)] | None = None
    gateway: Key | None = None
    simulated: bool = False
    planned: bool = False
    """It is expected: no secret is made, the device claims one with its batch key and this serial number."""
    labels: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=60)], ...], Meta(max_length=50)] = ()
    notes: Text = ""


class DeviceBatch(Request, frozen=True, kw_only=True):
    """Devices to be added together: all or none."""

    devices: Annotated[tuple[DeviceNew, ...], Meta(min_length=1, max_length=MAX_BATCH)]


class DeviceRow(DeviceNew, frozen=True, kw_only=True):
    """A row of a list: a device with the number of its row. `area` may be a key, a code or a name."""

    row: Annotated[int, Meta(ge=1)]
    area: Annotated[str, Meta(max_length=200)] | None = None
    latitude: float | None = None
    longitude: float | None = None


class DeviceImport(Request, frozen=True, kw_only=True):
    """Rows to be added where new and brought up to date where known. A dry run only finds what is wrong."""

    rows: Annotated[tuple[DeviceRow, ...], Meta(max_length=MAX_BATCH)]
    dry_run: bool = False
    skip_bad: bool = False


class RowProblem(Answer, frozen=True, kw_only=True):
    """What is wrong with a row, and the column to look at; `detail` is the sentence for `code`."""

    row: int
    column: str
    code: str
    detail: str


class DevicesImported(Answer, frozen=True, kw_only=True):
    """What became of a list; secrets are here and nowhere else. Nothing was written where problems are not skipped.

    `operations` take it back, the last one first.
    """

    added: tuple["SecretOnce", ...]
    changed: int
    unchanged: int
    problems: tuple[RowProblem, ...]
    operations: tuple[int, ...] = ()


class SecretOnce(Answer, frozen=True, kw_only=True):
    """A device that was added, with the secret that goes into it."""

    key: str
    address: str
    secret: str | None


class DeviceEdit(Request, frozen=True, kw_only=True):
    """What to change of the devices that `where` means (or `keys` name). What is left out stays; null takes away."""

    where: Annotated[str, Meta(max_length=2_000)] | None = None
    keys: Annotated[tuple[Key, ...], Meta(max_length=MAX_BATCH)] = ()
    name: Name | msgspec.UnsetType = msgspec.UNSET
    area: Key | msgspec.UnsetType | None = msgspec.UNSET
    latitude: Latitude | msgspec.UnsetType | None = msgspec.UNSET
    longitude: Longitude | msgspec.UnsetType | None = msgspec.UNSET
    notes: Text | msgspec.UnsetType = msgspec.UNSET
    photos: tuple[Annotated[str, Meta(min_length=1, max_length=400)], ...] | msgspec.UnsetType = msgspec.UNSET
    serial: Annotated[str, Meta(min_length=1, max_length=100)] | msgspec.UnsetType | None = msgspec.UNSET
    """To put right what was typed wrong; another unit is `replace`."""
    firmware: Annotated[str, Meta(min_length=1, max_length=100)] | msgspec.UnsetType | None = msgspec.UNSET
    warranty_until: date | msgspec.UnsetType | None = msgspec.UNSET
    calibrated_at: date | msgspec.UnsetType | None = msgspec.UNSET
    calibration_due: date | msgspec.UnsetType | None = msgspec.UNSET
    lifecycle: Literal["planned", "provisioned", "active"] | msgspec.UnsetType = msgspec.UNSET
    """`maintenance` is a window that ends by itself (POST /maintenance), `retired` a removal."""
    gateway: Key | msgspec.UnsetType | None = msgspec.UNSET
    add_labels: tuple[Annotated[str, Meta(min_length=1, max_length=60)], ...] = ()
    drop_labels: tuple[str, ...] = ()
    dry_run: bool = False


class DeviceRowsQuery(Query, frozen=True, kw_only=True):
    """Which devices to write out, in key order; go on with `after` the last key."""

    where: Annotated[str, Meta(max_length=2_000)] | None = None
    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=5_000)] = 1_000


class DeviceFull(Answer, frozen=True, kw_only=True):
    """A device with all that a list of devices holds."""

    key: str
    name: str
    profile: str | None
    class_key: str = field(name="class")
    area: str | None
    latitude: float | None
    longitude: float | None
    address: str | None
    serial: str | None
    gateway: str | None
    labels: tuple[str, ...]
    notes: str
    lifecycle: Lifecycle


class DeviceRows(Answer, frozen=True, kw_only=True):
    items: tuple[DeviceFull, ...]


class DeviceReplace(Request, frozen=True, kw_only=True):
    """Another unit for a device: another serial number, another vendor's model even."""

    serial: Annotated[str, Meta(max_length=200)] | None = None
    profile: str | None = None
    address: Annotated[str, Meta(min_length=1, max_length=500)] | None = None


class Device(Answer, frozen=True, kw_only=True):
    """A device as lists show it. `profile` and `address` are of the mounted unit, null when none is."""

    key: str
    name: str
    class_key: str = field(name="class")
    area: str | None
    latitude: float | None
    longitude: float | None
    lifecycle: Lifecycle
    state: DeviceState
    simulated: bool
    profile: str | None
    address: str | None
    last_received_at: datetime | None
    last_time: datetime | None
    online: bool | None


class Devices(Answer, frozen=True, kw_only=True):
    """A page of devices in key order; `total` counts all that match."""

    items: tuple[Device, ...]
    total: int


class Unit(Answer, frozen=True, kw_only=True):
    """The hardware mounted at a device from-to. `has_secret` tells that it signs in; the secret is never shown."""

    profile: str
    address: str
    serial: str | None
    firmware: str | None
    has_secret: bool
    mounted_from: datetime
    mounted_to: datetime | None
    warranty_until: date | None = None
    calibrated_at: date | None = None
    calibration_due: date | None = None


class Latest(Answer, frozen=True, kw_only=True):
    """The newest value of one metric. `bad` tells that it lies outside its plausible range."""

    metric: str
    title: Title
    ucum: str
    value: Value
    time: datetime
    quality: QualityName
    bad: bool


class Now(Answer, frozen=True, kw_only=True):
    """What a device said of one metric when it was asked."""

    metric: str
    title: Title
    ucum: str
    value: Value
    bad: bool


class AskedNow(Answer, frozen=True, kw_only=True):
    """A device's answer. `held` names the reasons why parts of it were not stored."""

    device: str
    time: datetime
    items: tuple[Now, ...]
    held: tuple[str, ...]
    stored: bool


class SurveyQuery(Query, frozen=True, kw_only=True):
    """Where to look for devices, in the words of the protocol's driver: for Modbus `10.0.3.7:502` and `1-247`."""

    protocol: Annotated[str, Meta(max_length=20)]
    target: Annotated[str, Meta(min_length=1, max_length=200)]
    units: Annotated[str, Meta(max_length=200)] | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=10)] | None = None


class SurveyStep(Answer, frozen=True, kw_only=True):
    """How far a survey is, and what it found just now."""

    done: int
    total: int
    found: dict[str, Any] | None = None


class LatestValues(Answer, frozen=True, kw_only=True):
    device: str
    items: tuple[Latest, ...]


class DeviceDetail(Device, frozen=True, kw_only=True):
    """A device with everything that a technician asks first.

    `stored_once` is False when its messages carry neither `time` nor `seq`: after a crash one may be stored twice;
    null when nothing was heard yet.
    """

    area_path: tuple[str, ...]
    """Names of the areas it stands in, the outermost first."""
    gateway: str | None
    labels: tuple[str, ...]
    notes: str
    photos: tuple[str, ...] = ()
    """Where they are kept: paths or addresses."""
    windows: tuple[Window, ...] = ()
    """Maintenance and tests that cover it now or later."""
    commissioned_at: datetime | None = None
    """When it last passed the test of a technician."""
    created_at: datetime
    retired_at: datetime | None
    online_changed_at: datetime | None
    silent_since: datetime | None
    stored_once: bool | None
    held: int
    """How many of its uplinks, or parts of them, are held."""
    units: tuple[Unit, ...]
    """The newest first."""
    latest: tuple[Latest, ...]
    alarms: tuple["Alarm", ...]
    """The open ones."""


class DeviceAdded(Answer, frozen=True, kw_only=True):
    """A device that was added or restored. `secret` is shown here once and kept only salted."""

    device: Device
    address: str
    secret: str | None
    replayed: int
    """How many uplinks had waited in the inbox and were taken up."""


class DevicesAdded(Answer, frozen=True, kw_only=True):
    items: tuple[DeviceAdded, ...]


class DeviceRestore(Request, frozen=True, kw_only=True):
    """How a retired device comes back. The unit in the field still knows its secret, so it stays unless asked."""

    fresh_secret: bool = False


OSCORE_CORE_ID: Final = "00"
"""The core's own sender id in every OSCORE context, in hexadecimal."""


def oscore_id(unit_id: int) -> str:
    """Give a unit's OSCORE sender id in hexadecimal: its number, in as few bytes as hold it (7 at most are allowed)."""
    return unit_id.to_bytes((unit_id.bit_length() + 7) // 8 or 1, "big").hex()


class LoginNew(Request, frozen=True, kw_only=True):
    """The login that the core shows to a device, such as a camera."""

    username: Annotated[str, Meta(min_length=1, max_length=100)]
    password: Annotated[str, Meta(max_length=200)]


class Channel(Answer, frozen=True, kw_only=True):
    """A channel of a unit that feeds several devices; `device` is null until somebody says which one it is."""

    channel: str
    device: str | None


class Channels(Answer, frozen=True, kw_only=True):
    """The channels of a unit."""

    items: tuple[Channel, ...]


class ChannelFeeds(Request, frozen=True, kw_only=True):
    """Which device a channel feeds; null: none any more."""

    channel: Annotated[str, Meta(min_length=1, max_length=100)]
    device: Key | None


class CredentialKept(Answer, frozen=True, kw_only=True):
    """A credential that was kept or forgotten; what is secret of it is never shown."""

    device: str
    kind: str
    username: str | None = None


class OscoreContext(Answer, frozen=True, kw_only=True):
    """What goes into a device that speaks OSCORE (RFC 8613), in hexadecimal: shown this once.

    `sender_id` is the device's, `recipient_id` the core's. Algorithm and key derivation are the standard's own.
    """

    device: str
    url: str
    master_secret: str
    master_salt: str
    sender_id: str
    recipient_id: str
    algorithm: str = "AES-CCM-16-64-128"
    hkdf: str = "HKDF-SHA-256"


class CommandNew(Request, frozen=True, kw_only=True):
    """A command of the device's class with its parameters; a native device's answer is waited for up to `wait_s`."""

    name: Annotated[str, Meta(min_length=1, max_length=40)]
    params: dict[str, bool | int | float | str] = msgspec.field(default_factory=dict)
    wait_s: Annotated[float, Meta(ge=0, le=30)] = 5.0


class CommandSent(Answer, frozen=True, kw_only=True):
    """How far a command came."""

    id: int
    device: str
    name: str
    state: CommandState
    detail: str = ""


class OrderNew(Request, frozen=True, kw_only=True):
    """A command to devices of one class: those of a list, or those that a selector names.

    `ttl_s` is how long it may be on its way; a minute when not said, an hour where a second person must confirm it.
    `rate` is commands a second; with `stop_after` that many failures the rest is not sent (and the rate is then 10
    unless it is said). The same `idempotency_key` again gives the order of the first time. A `dry` run sends nothing.
    """

    name: Annotated[str, Meta(min_length=1, max_length=40)]
    params: dict[str, bool | int | float | str] = msgspec.field(default_factory=dict)
    devices: Annotated[tuple[Key, ...], Meta(max_length=10_000)] | None = None
    where: Annotated[str, Meta(max_length=1_000)] | None = None
    ttl_s: Annotated[float, Meta(ge=1, le=30 * 86_400)] | None = None
    tries: Annotated[int, Meta(ge=1, le=100)] | None = None
    rate: Annotated[float, Meta(gt=0, le=10_000)] | None = None
    stop_after: Annotated[int, Meta(ge=1)] | None = None
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    dry: bool = False


class Command(Answer, frozen=True, kw_only=True):
    """A command with its life. `detail` is the device's own word, `said` ours about why it stands where it does."""

    id: int
    order: int
    device: str
    device_name: str
    name: str
    params: dict[str, Any]
    state: CommandState
    detail: str = ""
    said: str | None = None
    by: str
    source: str
    waits_for_second: bool = False
    confirmed_by: str | None = None
    tries: int = 0
    expires_at: datetime
    queued_at: datetime
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    ended_at: datetime | None = None


class Commands(Answer, frozen=True, kw_only=True):
    """Commands, the newest first."""

    items: tuple[Command, ...]


class CommandOrder(Answer, frozen=True, kw_only=True):
    """An order: `states` counts its commands. `number` is null of a dry run, which shows a sample of `devices`."""

    number: int | None
    name: str
    params: dict[str, Any]
    selector: str = ""
    total: int
    states: dict[str, int]
    by: str
    created_at: datetime | None = None
    rate: float | None = None
    stop_after: int | None = None
    stopped_at: datetime | None = None
    second_person: bool = False
    confirmed_by: str | None = None
    repeated: bool = False
    """It was ordered before, with the same idempotency key."""
    devices: tuple[str, ...] = ()


class CommandsQuery(Query, frozen=True, kw_only=True):
    """`open`: only those that are not over yet."""

    device: str | None = None
    order: int | None = None
    state: CommandState | None = None
    open: bool = False
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 200


class CommandsCancelled(Answer, frozen=True, kw_only=True):
    """Which commands were cancelled, and how many had left already and go on."""

    ids: tuple[int, ...]
    left: int


class TwinChange(Request, frozen=True, kw_only=True):
    """Keys of the class's configuration with what they should be; null: no longer desired.

    With `version`, only if that is still the version that stands.
    """

    changes: dict[str, bool | int | float | str | None]
    version: int | None = None


class TwinKey(Answer, frozen=True, kw_only=True):
    """One key: desired, reported, and where it stands: `in_sync`, `pending`, `refused` (and why) or `drifted`."""

    key: str
    sync: str
    desired: Any
    reported: Any = None
    refused: str | None = None


class Twin(Answer, frozen=True, kw_only=True):
    """A device's configuration. It has dealt with `reported_version` of `version`; `other`: what it says besides."""

    device: str
    version: int
    reported_version: int
    told_version: int = 0
    changed_at: datetime | None = None
    changed_by: str | None = None
    reported_at: datetime | None = None
    keys: tuple[TwinKey, ...]
    other: dict[str, Any] = msgspec.field(default_factory=dict)


class Twins(Answer, frozen=True, kw_only=True):
    """Configurations, in key order."""

    items: tuple[Twin, ...]


class TwinQuery(Query, frozen=True, kw_only=True):
    """`all`: also those where nothing differs."""

    all: bool = False
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 200


class ScheduleNew(Request, frozen=True, kw_only=True):
    """A schedule: its key, the devices of a selector, and points such as `mon-fri dusk-15m dim level=60`."""

    key: Key
    where: Annotated[str, Meta(min_length=1, max_length=1_000)]
    points: Annotated[tuple[Annotated[str, Meta(max_length=200)], ...], Meta(min_length=1, max_length=100)]


class ScheduleOverride(Request, frozen=True, kw_only=True):
    """What holds instead from now on, for so many seconds; without a point an override ends."""

    point: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    for_s: Annotated[float, Meta(ge=1, le=31 * 86_400)] = 3_600


class SchedulePreview(Query, frozen=True, kw_only=True):
    """How many days ahead to look."""

    days: Annotated[int, Meta(ge=1, le=366)] = 2


class ScheduleMoment(Answer, frozen=True, kw_only=True):
    """What a schedule does at a time."""

    at: datetime
    name: str
    params: dict[str, Any]


class Schedule(Answer, frozen=True, kw_only=True):
    """A schedule; `stored_on` of its devices keep it themselves, to the others it is sent."""

    key: str
    selector: str
    points: tuple[str, ...]
    latitude: float
    longitude: float
    created_at: datetime
    created_by: str
    devices: int
    stored_on: int
    override_point: str | None = None
    override_from: datetime | None = None
    override_to: datetime | None = None
    coming: tuple[ScheduleMoment, ...] = ()


class Schedules(Answer, frozen=True, kw_only=True):
    """Schedules, in key order."""

    items: tuple[Schedule, ...]


class DeviceQuery(Query, frozen=True, kw_only=True):
    """`area` takes those inside it too. `search` finds in key, name, address and serial, whatever the diacritics."""

    class_key: str | None = field(default=None, name="class")
    area: str | None = None
    state: DeviceState | None = None
    """Retired ones are listed only when asked for."""
    search: Annotated[str, Meta(max_length=200)] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    after: str | None = None
    """The last key of the page before."""


# ---------------------------------------------------------------- telemetry
class Level(StrEnum):
    """How closely a span is read: each reading, by the hour, by the civil day of the core's zone."""

    RAW = "raw"
    HOUR = "1h"
    DAY = "1d"


class TelemetryQuery(Query, frozen=True, kw_only=True):
    """`from` (default: a day before `to`) is included, `to` (default: now) is not. `metrics`: keys, comma between.

    Without `level` the span picks one. `limit` bounds raw rows; the newest are given.
    """

    start: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="from")
    end: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="to")
    metrics: str | None = None
    level: Level | None = None
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 10_000


class Row(Answer, frozen=True, kw_only=True):
    """One stored observation. `bad` names the metrics outside their plausible range."""

    time: datetime
    received_at: datetime
    quality: QualityName
    bad: tuple[str, ...]
    values: dict[str, Value]
    extra: dict[str, Any] | None = None


class Spread(Answer, frozen=True, kw_only=True):
    """One metric over a bucket or a span, without implausible values and rows of quality calibration or bad.

    `bad` counts the implausible ones. `avg` of a bool is its share of true; an enum has `last` alone. `used` is what
    a counter consumed.
    """

    count: int
    min: float | None = None
    max: float | None = None
    avg: float | None = None
    last: Value | None = None
    bad: int = 0
    used: float | None = None


class Bucket(Answer, frozen=True, kw_only=True):
    """An hour or a civil day, by its start."""

    time: datetime
    values: dict[str, Spread]


class Gap(Answer, frozen=True, kw_only=True):
    """Where nothing is stored: from the last reading before to the first one after."""

    start: datetime = field(name="from")
    end: datetime = field(name="to")


class Telemetry(Answer, frozen=True, kw_only=True):
    """A span of one device at one level, oldest first: rows in `items` when it is raw, else `buckets`.

    `zone` is whose civil days are meant. `cut` tells that raw rows before the first one were left out.
    """

    device: str
    class_key: str = field(name="class")
    level: Level = Level.RAW
    zone: str = "UTC"
    start: datetime | None = field(default=None, name="from")
    end: datetime | None = field(default=None, name="to")
    items: tuple[Row, ...]
    buckets: tuple[Bucket, ...] = ()
    gaps: tuple[Gap, ...] = ()
    cut: bool = False


class ChartQuery(Query, frozen=True, kw_only=True):
    """One metric (default: the class's first) of a span as a chart draws it, in at most `points`."""

    metric: str | None = None
    start: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="from")
    end: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="to")
    level: Level | None = None
    points: Annotated[int, Meta(ge=10, le=5_000)] = 500


class ChartPoint(Answer, frozen=True, kw_only=True):
    """A value at a time; with `min` and `max` where it stands for an hour or a day. An enum is its number."""

    time: datetime
    value: float
    min: float | None = None
    max: float | None = None


class Chart(Answer, frozen=True, kw_only=True):
    """Points that were really stored (LTTB), oldest first, implausible values left out. A line breaks at `gaps`."""

    device: str
    metric: str
    title: Title
    ucum: str
    level: Level
    zone: str
    start: datetime = field(name="from")
    end: datetime = field(name="to")
    items: tuple[ChartPoint, ...]
    gaps: tuple[Gap, ...]
    of: int
    """How many points there were before some were left out."""


class AqiQuery(Query, frozen=True, kw_only=True):
    """VN_AQI of a span, by the hour or the civil day; the last day when left out."""

    start: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="from")
    end: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="to")
    by: Literal["hour", "day"] = "hour"


class Aqi(Answer, frozen=True, kw_only=True):
    """The index of the hour or day that begins at `time`, the pollutant that sets it, and each pollutant's own."""

    time: datetime
    value: int
    dominant: str
    parts: dict[str, int]


class Aqis(Answer, frozen=True, kw_only=True):
    """Indexes, oldest first; hours and days without enough data are left out."""

    device: str
    by: str
    zone: str
    start: datetime = field(name="from")
    end: datetime = field(name="to")
    source: str
    items: tuple[Aqi, ...]


class ScopeQuery(Query, frozen=True, kw_only=True):
    """Devices by class, area (those inside it too) or `devices` (keys, comma between), whatever is said of these."""

    class_key: str | None = field(default=None, name="class")
    area: str | None = None
    devices: str | None = None


class LatestOfMany(Answer, frozen=True, kw_only=True, gc=False):
    """A device's newest row, and in `earlier` the metrics whose newest value is older. `bad` as in a row."""

    device: str
    class_key: str = field(name="class")
    time: datetime
    quality: QualityName
    bad: tuple[str, ...]
    values: dict[str, Value]
    earlier: tuple[Latest, ...] = ()


class LatestList(Answer, frozen=True, kw_only=True):
    """Devices that ever said something, in key order."""

    items: tuple[LatestOfMany, ...]


class StatsQuery(ScopeQuery, frozen=True, kw_only=True):
    """Aggregates of a span over devices of one class; `from` and `to` are widened to whole buckets of the level."""

    start: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="from")
    end: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="to")
    metrics: str | None = None
    level: Level | None = None
    by: Literal["all", "device", "time"] = "all"


class Stat(Spread, frozen=True, kw_only=True):
    """One metric over the span, together, by device or by bucket. `devices` counts those that said it."""

    metric: str
    ucum: str
    devices: int
    device: str | None = None
    time: datetime | None = None


class Stats(Answer, frozen=True, kw_only=True):
    """Aggregates of a span, widened to `from` and `to`."""

    class_key: str = field(name="class")
    level: Level
    zone: str
    start: datetime = field(name="from")
    end: datetime = field(name="to")
    items: tuple[Stat, ...]


class WatchQuery(Query, frozen=True, kw_only=True):
    """`device`: keys, comma between."""

    device: str


class Reading(Row, frozen=True, kw_only=True):
    """What the stream `telemetry/watch` says as `event: reading`."""

    device: str


class ExportQuery(ScopeQuery, frozen=True, kw_only=True):
    """Whole history without `from` and `to`. `after` goes on behind a row: its device's key, a space, its time."""

    start: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="from")
    end: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="to")
    after: str | None = None


class ExportRow(Row, frozen=True, kw_only=True):
    """A line of `telemetry/export`: a stored row with its device, whole."""

    device: str
    name: str
    class_key: str = field(name="class")


class TelemetryRow(Request, frozen=True, kw_only=True):
    """A row to be loaded, as ExportRow gives it; what is left out is good, received now, and judged by its ranges."""

    device: Key
    name: str | None = None
    time: Annotated[datetime, Meta(tz=True)]
    values: dict[str, Value | None] = {}
    class_key: str | None = field(default=None, name="class")
    received_at: Annotated[datetime, Meta(tz=True)] | None = None
    quality: QualityName = QualityName.GOOD
    bad: tuple[str, ...] | None = None
    extra: dict[str, Any] | None = None


class TelemetryLoad(Request, frozen=True, kw_only=True):
    """Rows (TelemetryRow) to be merged; `replace` lets them win over what is stored."""

    rows: Annotated[tuple[dict[str, Any], ...], Meta(max_length=MAX_BATCH)]
    replace: bool = False


class RowRefused(Answer, frozen=True, kw_only=True):
    """What of a row was not taken; the rest of it was, unless `whole`."""

    index: int
    code: str
    said: str
    detail: str
    whole: bool


class TelemetryLoaded(Answer, frozen=True, kw_only=True):
    """`rows` were taken, at least in part; `refused` names what was not."""

    rows: int
    refused: tuple[RowRefused, ...]


class CompletenessQuery(ScopeQuery, frozen=True, kw_only=True):
    """Default: yesterday, a civil day of the core's zone; 32 days at most."""

    start: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="from")
    end: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="to")


class MissingNumbers(Answer, frozen=True, kw_only=True):
    """Numbers (`seq`) of a unit's run that never came, both ends included."""

    unit: str
    run: str
    first: int
    last: int


class DeviceCompleteness(Answer, frozen=True, kw_only=True):
    """A device in a span. `expected` follows from its profile's interval and its mounting; null: nobody knows.

    `silent` metrics were promised (by the profile, or said before) and not said; `undeclared` ones were said, how
    often, and its class does not have them. `missing` is of all its numbers ever, which have no time.
    """

    device: str
    class_key: str = field(name="class")
    interval_s: float | None
    expected: int | None
    stored: int
    share: float | None
    gaps: tuple[Gap, ...]
    silent: tuple[str, ...]
    undeclared: dict[str, int]
    missing: tuple[MissingNumbers, ...]


class Completeness(Answer, frozen=True, kw_only=True):
    """All devices that were mounted in the span; `share` is of them together, from 0 to 1."""

    start: datetime = field(name="from")
    end: datetime = field(name="to")
    zone: str
    expected: int
    stored: int
    share: float | None
    items: tuple[DeviceCompleteness, ...]


# ---------------------------------------------------------------- alarms
class Alarm(Answer, frozen=True, kw_only=True):
    """The occurrence of a rule at a device. `value` and `threshold` are true or false where the metric is."""

    id: int
    rule: str
    severity: Severity
    state: AlarmState
    title: Title
    device: str | None
    device_name: str | None
    class_key: str | None = field(name="class")
    area: str | None
    area_name: str | None
    latitude: float | None
    longitude: float | None
    metric: str | None
    value: float | bool | None
    threshold: float | bool | None
    latched: bool
    late: bool
    simulated: bool
    raised_at: datetime
    received_at: datetime
    cleared_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    closed_at: datetime | None
    version: int
    assigned_to: str | None = None
    cause: str | None = None
    shelved_until: datetime | None = None
    shelved_by: str | None = None
    shelved_reason: str | None = None
    suppressed_by: str | None = None
    """What keeps it quiet: `maintenance:12`, `incident:30`."""
    incident: int | None = None
    members: int = 0
    """Of an incident: how many alarms are inside."""
    test: bool = False


class AlarmDeed(Request, frozen=True, kw_only=True):
    """What somebody does with an alarm. `note`: the reason (shelve, out_of_service), the cause (close) or the words."""

    do: Literal["assign", "comment", "shelve", "unshelve", "out_of_service", "close", "reopen", "undo"]
    version: int | None = None
    """What was seen; when the alarm changed meanwhile, the answer is a conflict."""
    note: Annotated[str, Meta(max_length=2000)] | None = None
    to: Annotated[str, Meta(max_length=100)] | None = None
    """Whom it is assigned to; null: nobody."""
    until: Annotated[datetime, Meta(tz=True)] | None = None
    """Until when it is shelved."""


class KpiQuery(Query, frozen=True, kw_only=True):
    """From when on; default the last 30 days."""

    since: Annotated[datetime, Meta(tz=True)] | None = None


class KpiOf(Answer, frozen=True, kw_only=True):
    """How often a rule rang at a device."""

    rule: str
    device: str | None
    alarms: int


class AlarmKpi(Answer, frozen=True, kw_only=True):
    """Figures after ISA-18.2 clause 16 and EEMUA 191. Simulated, test, shelved and suppressed alarms do not count."""

    since: datetime
    until: datetime
    alarms: int
    alarms_a_day: float
    most_in_10_min: int
    flood_share: float
    """Share of the 10-minute spans with more than 10 alarms."""
    by_severity: dict[str, int]
    frequent: tuple[KpiOf, ...]
    """The ten that rang most."""
    chattering: int
    """Times that something rang for the third time within a minute."""
    stale: int
    """Active now for more than a day."""
    standing: int
    answer_median_s: float | None
    """From ringing to somebody's acknowledgement."""
    answer_p95_s: float | None


class HandoverNew(Request, frozen=True, kw_only=True):
    """A shift handed over to `to`: what happened since `since`, default the last handover."""

    since: Annotated[datetime, Meta(tz=True)] | None = None
    to: Annotated[str, Meta(max_length=100)] | None = None
    note: Annotated[str, Meta(max_length=2000)] | None = None


class HandoverAlarm(Answer, frozen=True, kw_only=True):
    """An alarm as the shift leaves it: who had it before them, who took it."""

    id: int
    rule: str
    severity: Severity
    title: Title
    state: AlarmState
    device: str | None
    raised_at: datetime
    seen_by: tuple[str, ...]
    acknowledged_by: str | None
    assigned_to: str | None
    shelved_until: datetime | None
    cause: str | None


class Handover(Answer, frozen=True, kw_only=True):
    """What one shift leaves to the next. `open`: not closed yet; `unseen`: of those, nobody has looked at them."""

    id: int
    at: datetime
    since: datetime
    by: str
    to: str | None
    note: str | None
    raised: int
    closed: int
    open: tuple[HandoverAlarm, ...]
    unseen: tuple[int, ...]
    shelved: tuple[int, ...]
    deeds: dict[str, int]
    """By person: how many deeds on alarms."""


class RuleChange(Request, frozen=True, kw_only=True):
    """A change laid over a rule, or a new rule: the keys of a rule in class.yaml. `body` null ends the change."""

    body: dict[str, Any] | None = None
    where: Annotated[str, Meta(max_length=200)] = ""
    """`area=KEY`, `label=NAME`, `device=KEY`; empty: the whole class."""
    version: int | None = None
    """The version of the change that was seen, 0: there was none."""
    preview: bool = False
    """Only say what it would be."""


class RuleLaid(Answer, frozen=True, kw_only=True):
    """A change of a rule as it holds now."""

    rule: str
    where: str
    body: dict[str, Any]
    version: int
    by: str
    created_at: datetime


class RuleLaidList(Answer, frozen=True, kw_only=True):
    items: tuple[RuleLaid, ...]


class RuleChanged(Answer, frozen=True, kw_only=True):
    """What a change makes of a rule. `said` is its condition in the reader's language; null: switched off there."""

    rule: str
    where: str
    said: str | None
    severity: Severity | None
    devices: int
    applied: bool


class RuleAt(Answer, frozen=True, kw_only=True):
    """A rule as it holds at a device, and the changes that made it so, the widest first."""

    rule: str
    title: Title
    severity: Severity
    said: str
    source: str
    changes: tuple[RuleLaid, ...]


class RulesAt(Answer, frozen=True, kw_only=True):
    device: str
    items: tuple[RuleAt, ...]


class AlarmEvent(Answer, frozen=True, kw_only=True):
    """A step in an alarm's life."""

    id: int
    kind: Literal[
        "raised", "returned", "cleared", "acknowledged", "commented", "closed", "severity", "shelved", "unshelved",
        "suppressed", "unsuppressed", "assigned", "reopened", "undone",
    ]  # fmt: skip
    at: datetime
    recorded_at: datetime
    by: str | None
    value: float | bool | None
    note: str | None


class AlarmPush(Answer, frozen=True, kw_only=True):
    """A message about an alarm on its way to a target; `type` is `alarm.raised` or another step.

    `last_error` is a code, `last_error_said` its sentence in the reader's language.
    """

    target: str
    type: str
    created_at: datetime
    attempts: int
    last_status: int | None
    last_error: str | None
    last_error_said: str | None
    delivered_at: datetime | None
    dead_at: datetime | None


class TraceStep(Answer, frozen=True, kw_only=True):
    """One thing that happened on an alarm's way, at which time, with what is known of it.

    `what` is `measured`, `received`, `stored`, `raised`, `event`, `queued`, `tried`, `delivered` or `dead`.
    """

    at: datetime
    what: str
    subject: str
    detail: dict[str, Any] = field(default_factory=dict)


class AlarmTrace(Answer, frozen=True, kw_only=True):
    """An alarm's whole way in the order of time, from the reading that raised it to the receipts."""

    alarm: int
    steps: tuple[TraceStep, ...]


class AlarmDetail(Alarm, frozen=True, kw_only=True):
    """`children`: the devices behind a silent gateway that are silent with it; `runbook`: what to do."""

    events: tuple[AlarmEvent, ...]
    pushes: tuple[AlarmPush, ...]
    children: tuple[str, ...] = ()
    runbook: Title | None = None


class Alarms(Answer, frozen=True, kw_only=True):
    """Open alarms, the most urgent that nobody has taken first, or all, the newest first; `total` counts them all."""

    items: tuple[Alarm, ...]
    total: int


class AlarmQuery(Query, frozen=True, kw_only=True):
    """`open=false` shows closed ones too, `quiet=true` those that are kept quiet, `incident` those inside one."""

    open: bool = True
    quiet: bool = False
    incident: int | None = None
    device: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 200


class Acknowledge(Request, frozen=True, kw_only=True):
    """`version` is what the person saw; when the alarm changed meanwhile, the answer is a conflict."""

    version: int | None = None


class Acknowledged(Alarm, frozen=True, kw_only=True):
    """An alarm that somebody has taken. `already`: before this request, which changed nothing then."""

    already: bool


class AlarmHappened(Answer, frozen=True, kw_only=True):
    """What the stream `events` says as `event: alarm`; its `id:` is the event's."""

    event: AlarmEvent
    alarm: Alarm


# ---------------------------------------------------------------- inbox, held
class Sender(Answer, frozen=True, kw_only=True):
    """Somebody who sends and whom nobody registered. Add a device with this `address` to accept what waits.

    `guess` names the models that understand what it said last, the likeliest first.
    """

    address: str
    driver: str
    messages: int
    first_at: datetime
    last_at: datetime
    topic: str
    payload: str
    """The beginning of the last one, as text."""
    registers: dict[str, list[int]] | None
    guess: tuple[str, ...] = ()


class Claim(Answer, frozen=True, kw_only=True):
    """A new device that claimed itself with a batch key, and waits. Its address in the inbox is `claim:ID`.

    `contested` counts how often somebody else showed the same serial number: look at the label before you accept.
    """

    id: int
    batch: str
    profile: str
    serial: str
    driver: str
    came_from: str | None
    contested: int
    claimed_at: datetime
    last_at: datetime


class Inbox(Answer, frozen=True, kw_only=True):
    items: tuple[Sender, ...]
    claims: tuple[Claim, ...] = ()


class InboxAccept(Request, frozen=True, kw_only=True):
    """Take what waits at an address (or `claim:ID`) into the registry. What is left out is guessed or made up.

    `replace` mounts it as another unit at the device `key`, which is there already.
    """

    address: Annotated[str, Meta(min_length=1, max_length=500)]
    key: Key | None = None
    profile: str | None = None
    name: Name | None = None
    area: Key | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    gateway: Key | None = None
    replace: bool = False


class InboxAcceptAll(Request, frozen=True, kw_only=True):
    """Take all of the inbox, or what one driver heard. Without `profile` only what has one likely model."""

    profile: str | None = None
    driver: str | None = None
    area: Key | None = None
    gateway: Key | None = None
    dry_run: bool = False


class InboxLeft(Answer, frozen=True, kw_only=True):
    """Somebody who stays in the inbox, and why, in the asker's language."""

    address: str
    code: str
    detail: str


class InboxPreview(Answer, frozen=True, kw_only=True):
    """Somebody who is accepted: as which device, of which model."""

    address: str
    key: str
    profile: str


class InboxAccepted(Answer, frozen=True, kw_only=True):
    """Who was accepted (with `dry_run`: nobody), who is meant, and who stays."""

    items: tuple[DeviceAdded, ...]
    left: tuple[InboxLeft, ...]
    preview: tuple[InboxPreview, ...] = ()


class InboxReject(Request, frozen=True, kw_only=True):
    """Refuse claims for good (their ids), or forget what a sender said (addresses)."""

    claims: Annotated[tuple[int, ...], Meta(max_length=1_000)] = ()
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=500)], ...], Meta(max_length=1_000)] = ()


class InboxRejected(Answer, frozen=True, kw_only=True):
    claims: int
    messages: int


class SecretRotate(Request, frozen=True, kw_only=True):
    """With `at_once` the old secret dies now, as when it was stolen."""

    at_once: bool = False


class SecretRotated(Answer, frozen=True, kw_only=True):
    """`secret` is shown here once. While it is `pending` the old one opens too, on Mosquitto the old one alone."""

    device: str
    secret: str | None
    pending: bool


class BridgeSet(Request, frozen=True, kw_only=True):
    """Topics below which a device's login may speak; `zigbee2mqtt` means all of `zigbee2mqtt/#`. Empty: it is none."""

    topics: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(max_length=50)]


class Bridge(Answer, frozen=True, kw_only=True):
    device: str
    topics: tuple[str, ...]


class AuthorityShown(Answer, frozen=True, kw_only=True):
    """The certificate of our own authority, in PEM: what devices trust the broker by."""

    certificate: str


class CertificateNew(Request, frozen=True, kw_only=True):
    """A client certificate for a device; with `csr` (PEM) for a key that the device made itself."""

    days: Annotated[int, Meta(ge=1, le=5475)] = 3650
    csr: Annotated[str, Meta(max_length=10_000)] | None = None


class CertificateIssued(Answer, frozen=True, kw_only=True):
    """`key` is shown here once, None where the device has its own."""

    device: str
    serial: str
    not_after: datetime
    certificate: str
    key: str | None
    authority: str


class Certificate(Answer, frozen=True, kw_only=True):
    serial: str
    device: str
    issued_at: datetime
    not_after: datetime
    revoked_at: datetime | None


class Certificates(Answer, frozen=True, kw_only=True):
    items: tuple[Certificate, ...]


class BatchNew(Request, frozen=True, kw_only=True):
    """A batch key to be made: good for `count` devices until `until`, of one profile and from `networks` if said."""

    count: Annotated[int, Meta(ge=1, le=1_000_000)]
    until: Annotated[datetime, Meta(tz=True)]
    profile: str | None = None
    networks: Annotated[tuple[Annotated[str, Meta(max_length=50)], ...], Meta(max_length=50)] = ()
    name: Annotated[str, Meta(max_length=200)] = ""


class Batch(Answer, frozen=True, kw_only=True):
    """A batch key without its secret. `state` is open, exhausted, expired or revoked."""

    key: str
    name: str
    state: str
    count: int
    claimed: int
    waiting: int
    profile: str | None
    networks: tuple[str, ...]
    until: datetime
    created_at: datetime
    created_by: str
    revoked_at: datetime | None


class Batches(Answer, frozen=True, kw_only=True):
    items: tuple[Batch, ...]


class BatchCreated(Answer, frozen=True, kw_only=True):
    """A batch and its secret, shown here once; where its devices claim themselves (`mqtt` None: nowhere over MQTT)."""

    batch: Batch
    secret: str
    http: str
    coap: str
    mqtt: str | None


class HeldQuery(Query, frozen=True, kw_only=True):
    """All of what is given must fit. `before` goes on after a page: the last id of it."""

    device: str | None = None
    reason: Reason | None = None
    start: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="from")
    """By time of arrival."""
    end: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="to")
    before: int | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


class Held(Answer, frozen=True, kw_only=True):
    """An uplink, or a part of one, that could not be used; `said` is the reason in the reader's language."""

    id: int
    received_at: datetime
    device: str | None
    driver: str
    address: str
    topic: str
    kind: str
    reason: str
    said: str
    detail: str
    part: Any
    payload: str
    registers: dict[str, list[int]] | None


class HeldDetail(Held, frozen=True, kw_only=True):
    """A held row with its whole payload, as text in `payload` if it is some, and in hexadecimal digits.

    `others` are further parts that are held of the same uplink.
    """

    content_format: int | None
    retained: bool
    hex: str
    others: tuple[int, ...]


class HeldReplay(Request, frozen=True, kw_only=True):
    """Which held uplinks to run through the path again: by device, reason or ids, or `all`.

    Go on with `after` and `until` of the answer before.
    """

    device: str | None = None
    reason: Reason | None = None
    ids: Annotated[tuple[int, ...], Meta(max_length=1_000)] | None = None
    all: bool = False
    preview: bool = False
    after: int = 0
    until: int | None = None


class HeldCount(Answer, frozen=True, kw_only=True):
    reason: str
    said: str
    parts: int
    uplinks: int


class HeldReplayed(Answer, frozen=True, kw_only=True):
    """What a step did: uplinks taken, observations stored, parts held again. `after` is null when nothing is left."""

    until: int
    after: int | None = None
    uplinks: int = 0
    stored: int = 0
    held: int = 0
    reasons: tuple[HeldCount, ...] = ()


class HeldList(Answer, frozen=True, kw_only=True):
    """Held uplinks, the newest first; `total` counts all that match."""

    items: tuple[Held, ...]
    total: int


# ---------------------------------------------------------------- push
class PushNew(Request, frozen=True, kw_only=True):
    """A place that alarms go to. Without `secret` (`whsec_...`) one is made."""

    key: Key
    url: Annotated[str, Meta(max_length=2_000)] = ""
    """Of apprise it is the secret; a feed has none."""
    secret: Annotated[str, Meta(max_length=2_000)] | None = None
    accepts_simulated: bool = False
    min_severity: Severity = Severity.LOW
    kind: Literal["webhook", "mqtt", "apprise", "syslog", "feed"] = "webhook"
    format: Literal["", "json", "cap", "text", "cef"] = ""
    language: Literal["vi", "en"] = "vi"
    template: Annotated[str, Meta(max_length=8_000)] | None = None
    classes: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    areas: Annotated[tuple[Key, ...], Meta(max_length=1_000)] = ()
    hours: Annotated[str, Meta(max_length=500)] = ""
    watchdog: bool = False
    heartbeat_s: Annotated[int, Meta(ge=1, le=86_400)] | None = None
    options: dict[str, Annotated[str, Meta(max_length=20_000)]] = field(default_factory=dict)
    """Of its kind: `username` (mqtt), `ca`, `cert`, `key` (PEM), `sender`, `sender_name`, `scope` (CAP), `audit`."""


class PushTarget(Answer, frozen=True, kw_only=True):
    """A place that alarms go to. `backlog` is how many messages wait; `dead` how many were given up.

    `last_error` is a code, `last_error_said` its sentence in the reader's language.
    """

    key: str
    kind: str
    url: str
    accepts_simulated: bool
    min_severity: Severity
    created_at: datetime
    backlog: int
    dead: int
    last_error: str | None
    last_error_said: str | None
    last_delivered_at: datetime | None
    format: str = "json"
    language: str = "vi"
    template: str | None = None
    classes: tuple[str, ...] = ()
    areas: tuple[str, ...] = ()
    hours: str = ""
    watchdog: bool = False
    heartbeat_s: int | None = None
    heartbeat_at: datetime | None = None
    mtls: bool = False


class PushTargets(Answer, frozen=True, kw_only=True):
    items: tuple[PushTarget, ...]


class PushAdded(Answer, frozen=True, kw_only=True):
    """A target that was added; its `secret` is shown here once."""

    target: PushTarget
    secret: str


class PushRotate(Request, frozen=True, kw_only=True):
    """Give a webhook a new secret; for `keep_h` hours messages are signed with the old one too."""

    secret: Annotated[str, Meta(max_length=200)] | None = None
    keep_h: Annotated[float, Meta(ge=0, le=24 * 30)] = 24


class PushRotated(Answer, frozen=True, kw_only=True):
    """The new secret; it is shown here once."""

    secret: str


class PushLogQuery(Query, frozen=True, kw_only=True):
    """Which messages; the newest first."""

    target: str | None = None
    alarm: Annotated[int, Meta(ge=0)] | None = None
    state: Literal["waiting", "delivered", "dead"] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


class PushMessage(Answer, frozen=True, kw_only=True):
    """A message and its receipt: when it was taken, with which status, and SHA-256 of the bytes that were sent."""

    message_id: str
    target: str
    type: str
    alarm: int | None
    created_at: datetime
    first_tried_at: datetime | None
    attempts: int
    next_at: datetime
    delivered_at: datetime | None
    dead_at: datetime | None
    last_status: int | None
    last_error: str | None
    last_error_said: str | None
    body_digest: str | None


class PushMessages(Answer, frozen=True, kw_only=True):
    items: tuple[PushMessage, ...]


class PushRetry(Request, frozen=True, kw_only=True):
    """Which dead letters come back: of one target, one message, or (neither) all."""

    target: str | None = None
    message_id: str | None = None


class PushRevived(Answer, frozen=True, kw_only=True):
    messages: int


class PushProveQuery(Query, frozen=True, kw_only=True):
    """A civil day, 2026-09-01."""

    day: date


class PushProof(Answer, frozen=True, kw_only=True):
    """One alarm of a day: when it was made, delivered to whom, seen and acknowledged by whom."""

    alarm: int
    title: Title
    severity: Severity
    device: str | None
    raised_at: datetime
    created_at: datetime
    targets: int
    delivered: int
    first_delivered_at: datetime | None
    dead: int
    seen_at: datetime | None
    seen_by: str | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class PushProofs(Answer, frozen=True, kw_only=True):
    items: tuple[PushProof, ...]


class EscalationStep(Request, frozen=True, kw_only=True):
    """After this long without an acknowledgement, tell this target; outside its hours it is passed over."""

    after_s: Annotated[int, Meta(ge=1, le=604_800)]
    target: Key
    hours: Annotated[str, Meta(max_length=500)] = ""


class EscalationNew(Request, frozen=True, kw_only=True):
    """A chain: its steps one after the other, the last one again every `repeat_s`, until someone takes the alarm."""

    key: Key
    steps: Annotated[tuple[EscalationStep, ...], Meta(min_length=1, max_length=20)]
    repeat_s: Annotated[int, Meta(ge=10, le=604_800)] = 900
    remind: Annotated[tuple[str, ...], Meta(max_length=24)] = ()
    """Times of day (07:00): an acknowledged alarm that is still open is named again to the first step's target."""
    min_severity: Severity = Severity.LOW
    classes: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    areas: Annotated[tuple[Key, ...], Meta(max_length=1_000)] = ()
    hours: Annotated[str, Meta(max_length=500)] = ""
    accepts_simulated: bool = False


class Escalation(Answer, frozen=True, kw_only=True):
    """A chain."""

    key: str
    steps: tuple[EscalationStep, ...]
    repeat_s: int
    remind: tuple[str, ...]
    min_severity: Severity
    classes: tuple[str, ...]
    areas: tuple[str, ...]
    hours: str
    accepts_simulated: bool
    created_at: datetime


class Escalations(Answer, frozen=True, kw_only=True):
    items: tuple[Escalation, ...]


class HolidayNew(Request, frozen=True, kw_only=True):
    """A day on which hours follow `holiday` and not their weekday."""

    day: date
    name: Annotated[str, Meta(max_length=200)] = ""


class Holiday(Answer, frozen=True, kw_only=True):
    day: date
    name: str


class Holidays(Answer, frozen=True, kw_only=True):
    items: tuple[Holiday, ...]


# ---------------------------------------------------------------- other centers
class CenterNew(Request, frozen=True, kw_only=True):
    """A center that sends us its alarms, signed. Without `secret` one is made."""

    key: Key
    name: Name
    area: Key | None = None
    """Where its alarms are when they name no area that we know."""
    secret: Annotated[str, Meta(max_length=200)] | None = None


class Center(Answer, frozen=True, kw_only=True):
    key: str
    name: str
    area: str | None
    created_at: datetime
    heard_at: datetime | None


class Centers(Answer, frozen=True, kw_only=True):
    items: tuple[Center, ...]


class CenterAdded(Answer, frozen=True, kw_only=True):
    """A center that was added; its `secret` is shown here once."""

    center: Center
    secret: str


class CenterQuery(Query, frozen=True, kw_only=True):
    """Which center speaks; the signature proves it."""

    center: Key


class OutsideAlarm(Struct, frozen=True, kw_only=True):
    """An alarm as another center has it; `id` is its own. What else is said is passed over."""

    id: Annotated[int, Meta(ge=0)] | Annotated[str, Meta(min_length=1, max_length=200)]
    severity: Severity = Severity.HIGH
    title: Title | Annotated[str, Meta(min_length=1, max_length=500)]
    metric: Annotated[str, Meta(max_length=100)] | None = None
    value: float | bool | None = None
    simulated: bool = False
    test: bool = False
    acknowledged_by: Annotated[str, Meta(max_length=200)] | None = None


class OutsidePlace(Struct, frozen=True, kw_only=True):
    """What it concerns: `area` is used where it is one of ours."""

    name: Annotated[str, Meta(max_length=200)] | None = None
    class_: Annotated[str, Meta(max_length=40)] | None = field(default=None, name="class")
    area: Annotated[str, Meta(max_length=63)] | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None


class OutsideOrigin(Struct, frozen=True, kw_only=True):
    """The cores that a message came through, so that one which comes back is known."""

    via: Annotated[tuple[Annotated[str, Meta(max_length=100)], ...], Meta(max_length=20)] = ()


class OutsideData(Struct, frozen=True, kw_only=True):
    alarm: OutsideAlarm | None = None
    device: OutsidePlace | None = None
    origin: OutsideOrigin | None = None


class OutsideMessage(Struct, frozen=True, kw_only=True):
    """What another center says of one of its alarms; the form is that of our own webhooks.

    `type` is alarm.raised, alarm.updated, alarm.cleared or alarm.acknowledged; push.test and iot.heartbeat are taken
    and do nothing.
    """

    type: Annotated[str, Meta(max_length=100)]
    timestamp: datetime
    data: OutsideData = OutsideData()


class OutsideTaken(Answer, frozen=True, kw_only=True):
    """The alarm here. `ignored` says why nothing was changed: `repeat`, `older`, `loop`."""

    alarm: int | None = None
    ignored: str | None = None


class OpenDataQuery(Query, frozen=True, kw_only=True):
    """A class and a civil day."""

    class_key: str = field(name="class")
    day: date
    format: Literal["csv", "geojson"] = "csv"


class ReportQuery(Query, frozen=True, kw_only=True):
    """Which files; `waiting` only those not handed over yet."""

    device: str | None = None
    waiting: bool = False
    limit: Annotated[int, Meta(ge=1, le=20_000)] = 100


class ReportFile(Answer, frozen=True, kw_only=True):
    """A file for the environmental authority: for the five minutes that end at `period`."""

    id: int
    device: str
    period: datetime
    name: str
    lines: int
    digest: str
    made_at: datetime
    attempts: int
    last_error: str | None
    sent_at: datetime | None


class ReportFiles(Answer, frozen=True, kw_only=True):
    items: tuple[ReportFile, ...]


class ReportAgain(Request, frozen=True, kw_only=True):
    """The files of a span are made anew from what is stored now, and sent again."""

    device: Key
    since: datetime
    until: datetime


class ReportsAgain(Answer, frozen=True, kw_only=True):
    files: int


class PushTested(Answer, frozen=True, kw_only=True):
    """A test message is in the outbox under this id."""

    message_id: str


# ---------------------------------------------------------------- classes, profiles
class Metric(Answer, frozen=True, kw_only=True):
    key: str
    title: Title
    type: MetricType
    ucum: str
    precision: int
    minimum: float | None
    maximum: float | None
    counter: bool
    members: dict[str, int]


class Rule(Answer, frozen=True, kw_only=True):
    key: str
    title: Title
    severity: Severity
    comparison: str
    metric: str | None
    threshold: Value
    hysteresis: float
    on_delay_s: float
    latched: bool
    source: str


class Class(Answer, frozen=True, kw_only=True):
    key: str
    title: Title
    life_safety: bool
    metrics: tuple[Metric, ...]
    rules: tuple[Rule, ...]


class Classes(Answer, frozen=True, kw_only=True):
    items: tuple[Class, ...]


class Profile(Answer, frozen=True, kw_only=True):
    """A vendor's model; `address` is the template of its units' addresses."""

    model: str
    vendor: str
    title: Title
    class_key: str = field(name="class")
    source: str
    interval_s: float
    address: str


class ProfileList(Answer, frozen=True, kw_only=True):
    items: tuple[Profile, ...]


# ---------------------------------------------------------------- map
class MapDevice(Answer, frozen=True, kw_only=True):
    """A device as the page draws it; also what the stream `events` says as `event: device` when one changes."""

    key: str
    name: str
    class_key: str = field(name="class")
    latitude: float | None
    longitude: float | None
    state: DeviceState
    severity: Severity | None
    """Of its most urgent active alarm."""
    simulated: bool


class Map(Answer, frozen=True, kw_only=True):
    """All devices that are not retired."""

    items: tuple[MapDevice, ...]


# ---------------------------------------------------------------- access
class TokenNew(Request, frozen=True, kw_only=True):
    """A token for a program. Without `areas` it holds everywhere, without `days` for ever."""

    name: Name
    role: Role
    areas: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=100)] | None = None
    days: Annotated[int, Meta(ge=1, le=3_650)] | None = None


class Token(Answer, frozen=True, kw_only=True):
    """A token: its role at most, in its areas at most (null: everywhere); of a user, never more than theirs.

    `used_at` is its last use, to the hour.
    """

    id: int
    name: str
    role: Role
    user: str | None = None
    areas: tuple[str, ...] | None = None
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None = None


class Tokens(Answer, frozen=True, kw_only=True):
    items: tuple[Token, ...]


class TokenAdded(Answer, frozen=True, kw_only=True):
    """A token that was made; `secret` is shown here once."""

    token: Token
    secret: str


class SignInCodeNew(Request, frozen=True, kw_only=True):
    """Who is to sign in at the page: by default the asker; never as more than the asker."""

    name: Name | None = None
    role: Role | None = None


class SignInCode(Answer, frozen=True, kw_only=True):
    """Good once, for ten minutes. `url` opens the page and signs in."""

    code: str
    url: str
    expires_at: datetime


class SessionNew(Request, frozen=True, kw_only=True):
    """Exactly one of them: a code, a token, or a user's name with the password. The answer sets the cookie."""

    code: str | None = None
    token: str | None = None
    user: Annotated[str, Meta(max_length=63)] | None = None
    password: Annotated[str, Meta(max_length=1_000)] | None = None


class LoginNewToken(Request, frozen=True, kw_only=True):
    """A user's name and password, for a token of theirs: `name` says where it is kept."""

    user: Annotated[str, Meta(max_length=63)]
    password: Annotated[str, Meta(max_length=1_000)]
    name: Name
    days: Annotated[int, Meta(ge=1, le=365)] = 90


class Right(Answer, frozen=True, kw_only=True):
    """A role in an area with all inside it; without an area, everywhere."""

    role: Role
    area: str | None = None


class RightNew(Request, frozen=True, kw_only=True):
    """A role in an area with all inside it; without an area, everywhere."""

    role: Role
    area: Key | None = None


Rights = Annotated[tuple[RightNew, ...], Meta(min_length=1, max_length=100)]


class UserNew(Request, frozen=True, kw_only=True):
    """Somebody who signs in with a password."""

    name: Annotated[str, Meta(max_length=63)]
    title: Annotated[str, Meta(max_length=200)] = ""
    password: Annotated[str, Meta(max_length=1_000)]
    rights: Rights


class UserRights(Request, frozen=True, kw_only=True):
    """What a user may do more, or less: taken first, then given."""

    give: Annotated[tuple[RightNew, ...], Meta(max_length=100)] = ()
    take: Annotated[tuple[RightNew, ...], Meta(max_length=100)] = ()


class PasswordNew(Request, frozen=True, kw_only=True):
    """Another password. Who changes their own gives the one before."""

    password: Annotated[str, Meta(max_length=1_000)]
    before: Annotated[str, Meta(max_length=1_000)] | None = None


class User(Answer, frozen=True, kw_only=True):
    """Somebody who signs in with a password. `used_at` is when they were last here, to the hour."""

    name: str
    title: str
    rights: tuple[Right, ...]
    created_at: datetime
    used_at: datetime | None


class Users(Answer, frozen=True, kw_only=True):
    items: tuple[User, ...]


class Endpoints(Answer, frozen=True, kw_only=True):
    """Where devices reach the core, each as `HOST:PORT`."""

    mqtt: str
    coap: str
    mqtts: str | None = None
    """The same broker over TLS; None where it does not listen for that."""


class Me(Answer, frozen=True, kw_only=True):
    """Who asks, what they may do (`rights`: which role where), and the zone of the core's times (an IANA name)."""

    name: str
    role: Role
    actions: tuple[str, ...]
    timezone: str
    rights: tuple[Right, ...] = ()


# ---------------------------------------------------------------- health, broker
class Ready(Answer, frozen=True, kw_only=True):
    """Parts of the core, and whether each is up."""

    ready: bool
    parts: dict[str, bool]


def fields_of(kind: type[Struct]) -> tuple[str, ...]:
    """Name the keys of a shape as JSON spells them."""
    return tuple(field.encode_name for field in msgspec.structs.fields(kind))
