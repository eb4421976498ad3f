"""Requests and answers about wanted and reported configuration."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from iot_core.api.shapes.base import Answer, Query, Request


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
