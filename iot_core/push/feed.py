"""Atom (RFC 4287) over CAP messages: what apps for citizens ask for, without a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from xml.etree import ElementTree as ET

import asyncpg

from iot_core.errors import NotFoundError
from iot_core.messages import text
from iot_core.push import outbox
from iot_core.push.cap import MEDIA_TYPE, NOT_XML
from iot_core.push.outbox import Message
from iot_core.push.parcel import Parcel, pack

__all__ = ["Feed", "atom", "message", "read"]

NAMESPACE: Final = "http://www.w3.org/2005/Atom"
MOST: Final = 100
LIFE: Final = timedelta(days=7)
FIND: Final = """
SELECT t.id, t.key, t.language, t.options, t.created_at,
    (SELECT value FROM iot.fixed_setting WHERE key = 'core_id') AS core
FROM iot.push_target t WHERE t.key = $1 AND t.kind = 'feed' AND t.removed_at IS NULL
"""
ENTRIES: Final = """
SELECT o.message_id, o.created_at, o.body FROM iot.outbox o
WHERE o.target_id = $1 AND o.created_at >= greatest($2::timestamptz, now() - $3::interval) ORDER BY o.id DESC LIMIT $4
"""
MESSAGE: Final = """
SELECT o.id, o.alarm_id, o.message_id, o.body, o.attempts, o.urgency, o.created_at, o.created_at - o.created_at AS age
FROM iot.outbox o WHERE o.target_id = $1 AND o.message_id = $2 AND o.created_at >= $3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A feed and its newest messages, the newest first."""

    id: int
    key: str
    language: str
    options: dict[str, Any]
    created_at: datetime
    core: str
    entries: Sequence[asyncpg.Record] = ()


async def read(connection: asyncpg.Connection, key: str) -> Feed:
    """Give a feed of the last seven days. Raises NotFoundError."""
    row = await connection.fetchrow(FIND, key)
    if row is None:
        raise NotFoundError("push.not_found", key=key)
    entries = await connection.fetch(ENTRIES, row["id"], row["created_at"], LIFE, MOST)
    return Feed(**row, entries=entries)


async def message(connection: asyncpg.Connection, key: str, message_id: str, zone: str) -> Parcel:
    """Give one message of a feed as CAP. Raises NotFoundError."""
    feed = await read(connection, key)
    row = await connection.fetchrow(MESSAGE, feed.id, message_id, feed.created_at)
    if row is None:
        raise NotFoundError("push.message_not_found", id=message_id)
    found = Message(**row)
    return pack(
        found.body, message_id=found.message_id, at=found.created_at, format_="cap", language=feed.language,
        template_=None, options=feed.options, earlier=await outbox.earlier(connection, feed.id, found), zone=zone,
    )  # fmt: skip


def atom(feed: Feed, address: str) -> bytes:
    """Write the feed; `address` is the URL under which it was asked for."""
    root = ET.Element("feed", xmlns=NAMESPACE)
    newest = feed.entries[0]["created_at"] if feed.entries else feed.created_at
    _add(root, "id", f"urn:uuid:{feed.core}:{feed.key}")
    _add(root, "title", feed.options.get("sender_name") or feed.key)
    _add(root, "updated", _time(newest))
    ET.SubElement(root, "link", rel="self", href=address, type="application/atom+xml")
    _add(ET.SubElement(root, "author"), "name", feed.options.get("sender_name") or "iot-core")
    for row in feed.entries:
        entry = ET.SubElement(root, "entry")
        _add(entry, "id", f"urn:iot-core:{row['message_id']}")
        _add(entry, "title", _title(row["body"], feed.language))
        _add(entry, "updated", _time(row["created_at"]))
        ET.SubElement(entry, "link", rel="alternate", type=MEDIA_TYPE, href=f"{address}/{row['message_id']}.xml")
        _add(entry, "summary", _title(row["body"], feed.language))
    ET.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode").encode() + b"\n"


def _title(body: dict[str, Any], lang: str) -> str:
    data = body.get("data") or {}
    alarm = data.get("alarm") or {}
    title = (alarm.get("title") or data.get("text") or {}).get(lang) or str(body.get("type"))
    marked = alarm.get("simulated") or alarm.get("test") or body.get("type") == "push.test"
    ended = f"{text('push.event_cleared', lang)}: " if body.get("type") in ("alarm.cleared", "alarm.closed") else ""
    return f"{text('push.mark_exercise', lang) if marked else ''}{ended}{title}"


def _add(parent: ET.Element, tag: str, words: str) -> None:
    ET.SubElement(parent, tag).text = NOT_XML.sub("", words)


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
