"""Requests and answers about telemetry."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from iot_core.api.shapes.base import MAX_BATCH, Answer, Key, QualityName, Query, Request, Value
from iot_core.api.shapes.device import Latest
from iot_core.model import Title


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
    """Aggregates of a span over devices of one class; `from` and `to` are widened to whole buckets of the level.

    `areas`: an area is what stands in it now, whatever it was called before, or (`then`) what stood in it at each time.
    """

    start: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="from")
    end: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="to")
    metrics: str | None = None
    level: Level | None = None
    by: Literal["all", "device", "time"] = "all"
    areas: Literal["now", "then"] = "now"


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
    values: dict[str, Value | None] = field(default_factory=dict)
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


class NumberedCompleteness(Answer, frozen=True, kw_only=True):
    """What the numbers (`seq`) of a device's messages say of the civil days that a span touches.

    `expected` numbers were used in them, of all runs; `stored` ones of those came, stored or held, whenever that was.
    """

    expected: int
    stored: int
    share: float | None


class DeviceCompleteness(Answer, frozen=True, kw_only=True):
    """A device in a span. `source` says where `expected` is from; null: nobody knows.

    `interval`: that of its profile, or what it says it is set to, while it was mounted; `stored` counts readings.
    `seq`: no interval is known, so both are those of `numbers`, which whoever numbers its messages has beside.

    `silent` metrics were promised (by the profile, or said before) and not said; `undeclared` ones were said, how
    often, and its class does not have them. `missing` is of all its numbers ever, which have no time.
    """

    device: str
    class_key: str = field(name="class")
    interval_s: float | None
    source: Literal["interval", "seq"] | None
    expected: int | None
    stored: int
    share: float | None
    numbers: NumberedCompleteness | None
    gaps: tuple[Gap, ...]
    silent: tuple[str, ...]
    undeclared: dict[str, int]
    missing: tuple[MissingNumbers, ...]


class Completeness(Answer, frozen=True, kw_only=True):
    """All devices that were mounted in the span; `share` is of them together, from 0 to 1.

    `numbers` are those of all devices together that number their messages.
    """

    start: datetime = field(name="from")
    end: datetime = field(name="to")
    zone: str
    expected: int
    stored: int
    share: float | None
    numbers: NumberedCompleteness | None
    items: tuple[DeviceCompleteness, ...]
