"""Requests and answers about devices and their units."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from iot_core.api.shapes.alarm import Alarm
from iot_core.api.shapes.base import (
    MAX_BATCH,
    Answer,
    DeviceState,
    Key,
    Latitude,
    Longitude,
    Name,
    QualityName,
    Query,
    Request,
    Text,
    Value,
)
from iot_core.api.shapes.window import Window
from iot_core.model import Lifecycle, Title


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
    warranty_until: date | None = None
    calibrated_at: date | None = None
    calibration_due: date | None = None


class DeviceImport(Request, frozen=True, kw_only=True):
    """Rows to be added where new and brought up to date where known. A dry run only finds what is wrong."""

    rows: Annotated[tuple[DeviceRow, ...], Meta(max_length=MAX_BATCH)]
    dry_run: bool = False
    skip_bad: bool = False
    before: Annotated[tuple[Key, ...], Meta(max_length=100_000)] = ()
    """For a dry run of a list in pieces: gateways that an earlier piece would have added."""
    more: bool = False
    """Another piece follows: only the last one's answer waits until the broker knows who is new."""


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
    warranty_until: date | None
    calibrated_at: date | None
    calibration_due: date | None
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
    waiting: bool = False
    """What was found is not registered, and waits in the inbox."""


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
    area_path_en: tuple[str, ...]
    """The same in English; the name itself where there is no English one."""
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
    withheld: bool = False
    """What it says is a household's, which the asker has no right to see: `latest` is empty."""
    alarms: tuple["Alarm", ...]
    """The open ones."""


class DeviceAdded(Answer, frozen=True, kw_only=True):
    """A device that was added or restored. `secret` is shown here once and kept only salted."""

    device: Device
    address: str
    secret: str | None
    replayed: int
    """How many uplinks had waited in the inbox and were taken up."""
    operation: int | None = None
    """What takes it back."""


class DevicesAdded(Answer, frozen=True, kw_only=True):
    items: tuple[DeviceAdded, ...]


class DeviceRestore(Request, frozen=True, kw_only=True):
    """How a retired device comes back. The unit in the field still knows its secret, so it stays unless asked."""

    fresh_secret: bool = False


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
