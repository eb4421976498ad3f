"""Requests and answers about reporting files and open data."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import Meta, field

from iot_core.api.shapes.base import Answer, Key, Query, Request


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
    """How many files are made anew; `first` is the period of the device's first file, if it has one."""

    files: int
    first: datetime | None = None
