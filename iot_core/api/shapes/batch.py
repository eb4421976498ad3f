"""Requests and answers about batches of factory keys."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from iot_core.api.shapes.base import Answer, Request


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
    """A batch and its secret, shown here once; where its devices claim themselves.

    `mqtt` None: not over MQTT in clear; `mqtts` None: not over MQTT with TLS.
    """

    batch: Batch
    secret: str
    http: str
    coap: str
    mqtt: str | None
    mqtts: str | None = None
