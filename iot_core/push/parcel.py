"""One message as a target gets it: bytes in its format and language. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from iot_core.push import cap, cef, template
from iot_core.push.cap import Earlier, Issue

SENDER: Final = "iot-core"
_LONGEST_SUBJECT: Final = 200
"""Mail servers refuse a line of a thousand bytes and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What is sent. `severity` orders what the receiver does."""

    message_id: str
    type: str
    data: bytes
    content_type: str
    severity: str
    area: str
    body: Mapping[str, Any]
    language: str

    @property
    def subject(self) -> str:
        """Say in a short line what it is about; most receivers never ask."""
        said = " ".join(template.head(template.words_of(self.body, self.language)).split())
        return said if len(said) <= _LONGEST_SUBJECT else f"{said[: _LONGEST_SUBJECT - 1]}…"

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes: what the receipt remembers."""
        return hashlib.sha256(self.data).hexdigest()


def pack(
    body: Mapping[str, Any],
    *,
    message_id: str,
    at: datetime,
    format_: str,
    language: str,
    template_: str | None,
    options: Mapping[str, Any],
    earlier: Sequence[Earlier] = (),
    zone: str,
) -> Parcel:
    """Write a message in a target's format; the same message gives the same bytes on every try."""
    content_type, data = "application/json", b""
    if format_ == "cap":
        issue = Issue(
            message_id=message_id, at=at, language=language, zone=zone, sender=options.get("sender") or SENDER,
            sender_name=options.get("sender_name") or "", scope=options.get("scope") or "Public",
        )  # fmt: skip
        content_type, data = cap.MEDIA_TYPE, cap.alert(body, issue, earlier)
    elif format_ == "cef":
        words = template.words_of(body, language)
        content_type, data = "text/plain; charset=utf-8", cef.line(body, words, message_id).encode()
    elif template_:
        content_type = "application/json" if template.is_json(template_) else "text/plain; charset=utf-8"
        data = template.fill(template_, template.words_of(body, language)).encode()
    elif format_ == "text":
        content_type, data = "text/plain; charset=utf-8", template.plain(template.words_of(body, language)).encode()
    else:
        data = msgspec.json.encode(body)
    said = body.get("data")
    said = said if isinstance(said, Mapping) else {}
    return Parcel(
        message_id=message_id,
        type=str(body.get("type")),
        data=data,
        content_type=content_type,
        severity=(said.get("alarm") or {}).get("severity") or "",
        area=(said.get("device") or {}).get("area") or "",
        body=body,
        language=language,
    )


def is_sent(type_: str, format_: str) -> bool:
    """Say whether a format has anything to say of this kind of event."""
    return format_ != "cap" or cap.is_public(type_)
