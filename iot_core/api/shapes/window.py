"""Requests and answers about maintenance and test windows."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from iot_core.api.shapes.base import MAX_BATCH, Answer, Key, Query, Request


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
