"""Requests and answers about secrets, bridges and OSCORE contexts."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from typing import Annotated, Final

from msgspec import Meta

from iot_core.api.shapes.base import Answer, Key, Request

OSCORE_CORE_ID: Final = "00"
"""The core's own sender id in every OSCORE context, in hexadecimal."""


def oscore_id(unit_id: int) -> str:
    """Give a unit's OSCORE sender id in hexadecimal: its number, in as few bytes as hold it (7 at most are allowed)."""
    return unit_id.to_bytes((unit_id.bit_length() + 7) // 8 or 1, "big").hex()


class LoginNew(Request, frozen=True, kw_only=True):
    """The login that the core shows to a device, such as a camera."""

    username: Annotated[str, Meta(min_length=1, max_length=100)]
    password: Annotated[str, Meta(max_length=200)]


class CredentialKept(Answer, frozen=True, kw_only=True):
    """A credential that was kept or forgotten; what is secret of it is never shown."""

    device: str
    kind: str
    username: str | None = None


class OscoreNew(Request, frozen=True, kw_only=True):
    """With `at_once` the key before dies now, as when it was stolen."""

    at_once: bool = False


class OscoreContext(Answer, frozen=True, kw_only=True):
    """What goes into a device that speaks OSCORE (RFC 8613), in hexadecimal: shown this once.

    `sender_id` is the device's, `recipient_id` the core's. Algorithm and key derivation are the standard's own.
    `pending`: the key before opens until the device has used this one, for 30 days at most.
    """

    device: str
    url: str
    master_secret: str
    master_salt: str
    sender_id: str
    recipient_id: str
    algorithm: str = "AES-CCM-16-64-128"
    hkdf: str = "HKDF-SHA-256"
    pending: bool = False


class SecretRotate(Request, frozen=True, kw_only=True):
    """With `at_once` the old secret dies now, as when it was stolen."""

    at_once: bool = False


class SecretsRotate(Request, frozen=True, kw_only=True):
    """New secrets that are brought to devices over their own lines: to those of a list, or that a selector names.

    They are sent for `within_s` (7 days), `rate` a second, and after `stop_after` failures the rest is not sent. A
    `dry` run changes nothing.
    """

    devices: Annotated[tuple[Key, ...], Meta(max_length=10_000)] | None = None
    where: Annotated[str, Meta(max_length=1_000)] | None = None
    within_s: Annotated[float, Meta(ge=10, le=30 * 86_400)] = 7 * 86_400
    rate: Annotated[float, Meta(gt=0, le=10_000)] | None = None
    stop_after: Annotated[int, Meta(ge=1)] | None = None
    dry: bool = False


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
