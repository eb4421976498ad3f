"""Requests and answers about schedules."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from iot_core.api.shapes.base import Answer, Key, Query, Request


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
    latitude: float | None
    """With longitude: whose sun counts; null where nobody knows, of schedules by the clock only."""
    longitude: float | None
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
