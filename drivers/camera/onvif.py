"""Two questions of ONVIF's device service: what time it is there, and who it is (ONVIF Core Specification 8.1, 8.3).

Who it is needs a login, shown as a digest (WS-Security UsernameToken Profile 1.0: Base64(SHA-1(nonce + created +
password))) that is made of the camera's own time, since cameras refuse one that is minutes off their clock.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from xml.etree import ElementTree as ET  # what we parse is bounded, and refused with a DTD in it (see _parsed)
from xml.sax.saxutils import escape

__all__ = ["DEVICE_INFORMATION", "TIME", "Identity", "envelope", "read_fault", "read_identity", "read_time"]

_SOAP: Final = "http://www.w3.org/2003/05/soap-envelope"
_DEVICE: Final = "http://www.onvif.org/ver10/device/wsdl"
_WSSE: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
_WSU: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
_DIGEST: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordDigest"
TIME: Final = "GetSystemDateAndTime"
DEVICE_INFORMATION: Final = "GetDeviceInformation"
LONGEST: Final = 65_536


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a camera says it is."""

    manufacturer: str = ""
    model: str = ""
    firmware: str = ""
    serial: str = ""


def envelope(question: str, login: tuple[str, str] | None = None, created: datetime | None = None) -> bytes:
    """Write a question, with a digest of the login where there is one."""
    head = "" if login is None else _security(login, created or datetime.now(UTC), secrets.token_bytes(16))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{_SOAP}"><s:Header>{head}</s:Header>'
        f'<s:Body><d:{question} xmlns:d="{_DEVICE}"/></s:Body></s:Envelope>'
    ).encode()


def digest(nonce: bytes, created: str, password: str) -> str:
    """Make the password digest of WS-Security."""
    return base64.b64encode(hashlib.sha1(nonce + created.encode() + password.encode()).digest()).decode()  # noqa: S324


def read_time(answer: bytes) -> datetime | None:
    """Give the camera's UTC time; None where the answer has none that is a time."""
    root = _parsed(answer)
    found = None if root is None else next(_named(root, "UTCDateTime"), None)
    if found is None:
        return None
    try:
        numbers = [int(_text(found, name)) for name in ("Year", "Month", "Day", "Hour", "Minute", "Second")]
        return datetime(*numbers, tzinfo=UTC)  # type: ignore[arg-type,misc]
    except (ValueError, OverflowError):
        return None


def read_identity(answer: bytes) -> Identity | None:
    """Give who answered; None where the answer does not say."""
    root = _parsed(answer)
    found = None if root is None else next(_named(root, "GetDeviceInformationResponse"), None)
    if found is None:
        return None
    names = ("Manufacturer", "Model", "FirmwareVersion", "SerialNumber")
    return Identity(*(_text(found, name)[:100] for name in names))


def read_fault(answer: bytes) -> str:
    """Give the innermost code of a SOAP fault (`NotAuthorized`); empty where there is none."""
    root = _parsed(answer)
    if root is None or next(_named(root, "Fault"), None) is None:
        return ""
    codes = [each.text or "" for each in _named(root, "Value")]
    return codes[-1].rpartition(":")[2][:40] if codes else "Fault"


def _security(login: tuple[str, str], created: datetime, nonce: bytes) -> str:
    at = created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name, password = login
    return (
        f'<w:Security xmlns:w="{_WSSE}" xmlns:u="{_WSU}" s:mustUnderstand="1"><w:UsernameToken>'
        f"<w:Username>{escape(name)}</w:Username>"
        f'<w:Password Type="{_DIGEST}">{digest(nonce, at, password)}</w:Password>'
        f"<w:Nonce>{base64.b64encode(nonce).decode()}</w:Nonce><u:Created>{at}</u:Created>"
        f"</w:UsernameToken></w:Security>"
    )


def _parsed(answer: bytes) -> ET.Element | None:
    if len(answer) > LONGEST or b"<!" in answer:  # a DTD, and with it entities; SOAP forbids both
        return None
    try:
        return ET.fromstring(answer)  # noqa: S314 - see above
    except (ET.ParseError, ValueError, LookupError):
        return None


def _named(root: ET.Element, name: str) -> Iterator[ET.Element]:
    return (each for each in root.iter() if each.tag.rpartition("}")[2] == name)


def _text(root: ET.Element, name: str) -> str:
    found = next(_named(root, name), None)
    return "" if found is None else (found.text or "").strip()
