"""Requests and answers about what was changed, and by whom."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from iot_core.api.shapes.base import Answer, Query


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
    warnings: tuple[str, ...] = ()
    """What somebody may not have thought of, as sentences."""


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
