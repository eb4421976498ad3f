"""Texts of a target's own: `$title at $device_name`, with string.Template. Pure.

There are names and nothing else: no conditions, no loops, no attribute of any object, so a template can neither run
code nor take memory. A template that begins with `{` or `[` is JSON, and what is filled in is escaped for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from string import Template
from typing import Any, Final

from iot_core.errors import RequestError
from iot_core.messages import text

NAMES: Final = (
    "type", "event", "time", "id", "rule", "severity", "severity_said", "state", "title", "metric", "value",
    "threshold", "raised_at", "acknowledged_by", "device", "device_name", "class", "area", "area_name", "latitude",
    "longitude", "mark", "runbook", "assigned_to", "note", "by",
)  # fmt: skip
_LONGEST: Final = 8_000


class _Template(Template):
    flags = re.RegexFlag(0)  # `$ID` is not `$id`


def check(template: str) -> str:
    """Check a template before it is kept. Raises RequestError that names the unknown word."""
    if len(template) > _LONGEST:
        raise RequestError("push.template_long", most=_LONGEST)
    made = _Template(template)
    if not made.is_valid():
        raise RequestError("push.template_broken")
    for name in made.get_identifiers():
        if name not in NAMES:
            raise RequestError("push.template_name", name=name, names=", ".join(NAMES))
    if is_json(template):
        try:
            json.loads(fill(template, dict.fromkeys(NAMES, '1"')))
        except ValueError as exc:
            raise RequestError("push.template_json") from exc
    return template


def is_json(template: str) -> bool:
    """Say whether a template makes JSON."""
    return template.lstrip()[:1] in ("{", "[")


def fill(template: str, words: Mapping[str, str]) -> str:
    """Fill a checked template."""
    if is_json(template):
        words = {name: json.dumps(word, ensure_ascii=False)[1:-1] for name, word in words.items()}
    return _Template(template).safe_substitute(words).rstrip()


def plain(words: Mapping[str, str]) -> str:
    """Write the text of who has no template: what, where, when, what to do; what is not known leaves no trace."""
    where = ", ".join(filter(None, (words["device_name"], words["area_name"])))
    return "\n".join(filter(None, (head(words), where, words["time"], words["runbook"])))


def head(words: Mapping[str, str]) -> str:
    """Say in a line what it is about."""
    what = ": ".join(filter(None, (words["severity_said"], words["title"])))
    return words["mark"] + ", ".join(filter(None, (what.removesuffix("."), words["event"])))


def words_of(body: Mapping[str, Any], lang: str) -> dict[str, str]:
    """Give what a template may name, from a message's body, in one language; what is not there is empty."""
    data = body.get("data")
    data = data if isinstance(data, Mapping) else {}
    alarm, device = data.get("alarm") or {}, data.get("device") or {}
    title = alarm.get("title") or data.get("text") or {}
    marked = bool(alarm.get("simulated") or alarm.get("test") or body.get("type") == "push.test")
    found = {
        "type": body.get("type"),
        "event": text(f"push.event_{str(body.get('type')).rpartition('.')[2]}", lang),
        "time": body.get("timestamp"),
        "severity_said": text(f"push.severity_{alarm.get('severity')}", lang) if alarm.get("severity") else "",
        "title": title.get(lang, ""),
        # What is over needs nobody to do anything.
        "runbook": (alarm.get("runbook") or {}).get(lang) if alarm.get("cleared_at") is None else "",
        "mark": text("push.mark_exercise", lang) if marked else "",
        "device": device.get("key"),
        "device_name": device.get("name"),
        "class": device.get("class"),
        "area": device.get("area"),
        "area_name": device.get("area_name"),
        "latitude": device.get("latitude"),
        "longitude": device.get("longitude"),
        **{
            name: alarm.get(name)
            for name in (
                "id", "rule", "severity", "state", "metric", "value", "threshold", "raised_at", "acknowledged_by",
                "assigned_to", "note", "by",
            )
        },
    }  # fmt: skip
    return {name: _said(found.get(name), lang) for name in NAMES}


def _said(fact: object, lang: str) -> str:
    if isinstance(fact, bool):
        return text("push.true" if fact else "push.false", lang)
    if isinstance(fact, float):
        return f"{fact:.10g}"
    return "" if fact is None else str(fact)
