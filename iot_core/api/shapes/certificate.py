"""Requests and answers about certificates."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from iot_core.api.shapes.base import Answer, Request


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
