"""Common Alerting Protocol 1.2 (OASIS, urn:oasis:names:tc:emergency:cap:1.2) made from an alarm's message. Pure.

The first message of an alarm is an Alert, what follows an Update, its end a Cancel; both name all that went before.
Times carry an offset and no fraction (3.3.2); `sent` is when the event was written down, the same on every try.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

from iot_core.messages import text

__all__ = [
    "ENDS",
    "INTERNAL",
    "MEDIA_TYPE",
    "NOT_XML",
    "Earlier",
    "Issue",
    "alert",
    "is_public",
    "of_the_device",
    "sender_fits",
]

NAMESPACE: Final = "urn:oasis:names:tc:emergency:cap:1.2"
MEDIA_TYPE: Final = "application/cap+xml"
LIFE: Final = timedelta(hours=24)
RADIUS_KM: Final = "0.2"
_SEVERITY: Final = {"critical": "Extreme", "high": "Severe", "medium": "Moderate", "low": "Minor"}
_URGENCY: Final = {"critical": "Immediate", "high": "Expected", "medium": "Future", "low": "Future"}
# After CAP 1.2 section 3.2.2; a class that is not here, an own one, is Other.
_CATEGORY: Final = {
    "fire_detector": "Fire", "panic_button": "Safety", "camera_health": "Security", "air_quality": "Env",
    "water_quality": "Env", "weather": "Met", "flood_gauge": "Met", "water_meter": "Infra", "streetlight": "Infra",
    "lighting_cabinet": "Infra",
}  # fmt: skip
_RESPONSE: Final = {"Fire": "Evacuate", "Met": "Avoid", "Env": "Avoid"}
INTERNAL: Final = frozenset({"alarm.acknowledged", "alarm.comment", "alarm.shelved", "alarm.escalated", "alarm.open"})
"""What the public has no use for: what people in the center do with an alarm."""
ENDS: Final = frozenset({"alarm.cleared", "alarm.closed"})
# A detector that is silent is no fire: these rules tell of the device, or of the platform itself.
_OF_THE_DEVICE: Final = frozenset({
    "silent", "stuck", "fault", "tamper", "tilt", "disabled", "battery_low", "battery_level", "battery_signal",
    "implausible",
})  # fmt: skip
OWN: Final = "core."
NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_IN_NAMES: Final = re.compile(r"[\s,<&]")


@dataclass(frozen=True, slots=True)
class Earlier:
    """A message of the same alarm and target that went before."""

    message_id: str
    type: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """What an alert needs beside the alarm: who says it, to whom, when, in which language."""

    message_id: str
    at: datetime
    sender: str
    sender_name: str = ""
    scope: str = "Public"
    language: str = "vi"
    zone: str = "Asia/Ho_Chi_Minh"


def is_public(type_: str) -> bool:
    """Say whether this kind of event makes a CAP message at all."""
    return type_ not in INTERNAL


def of_the_device(rule: str) -> bool:
    """Say whether a rule tells how a device, or the platform itself, is: nothing that a citizen could act on."""
    return rule.startswith(OWN) or rule.rpartition(".")[2] in _OF_THE_DEVICE


def sender_fits(sender: str) -> bool:
    """Say whether this can stand in `sender` (3.2.1: no spaces, commas, `<` or `&`)."""
    return bool(sender) and _IN_NAMES.search(sender) is None


def alert(body: Mapping[str, Any], issue: Issue, earlier: Sequence[Earlier] = ()) -> bytes:
    """Write one alert as XML; `earlier` are the messages of its alarm, oldest first."""
    alarm = (body.get("data") or {}).get("alarm") or {}
    before = _since_last_end([each for each in earlier if is_public(each.type)])
    ends = body["type"] in ENDS
    root = ET.Element("alert", xmlns=NAMESPACE)
    kind = ("Cancel" if ends else "Update") if before else "Alert"
    exercise = bool(alarm.get("simulated") or alarm.get("test") or body["type"] == "push.test")
    _add(root, "identifier", issue.message_id)
    _add(root, "sender", issue.sender)
    _add(root, "sent", _time(issue.at, issue.zone))
    _add(root, "status", "Exercise" if exercise else "Actual")
    _add(root, "msgType", kind)
    _add(root, "source", "iot-core")
    _add(root, "scope", issue.scope)
    if issue.scope == "Restricted":
        _add(root, "restriction", text("push.cap_restriction", issue.language))
    if exercise:
        _add(root, "note", text("push.cap_exercise", issue.language))
    if before:
        _add(root, "references", " ".join(f"{issue.sender},{e.message_id},{_time(e.at, issue.zone)}" for e in before))
    if alarm:
        _add(root, "incidents", f"alarm-{alarm.get('id')}")
    for lang in dict.fromkeys((issue.language, "vi", "en")):
        _info(root, body, issue, lang, ends=ends)
    ET.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode").encode() + b"\n"


def _info(root: ET.Element, body: Mapping[str, Any], issue: Issue, lang: str, *, ends: bool) -> None:
    data = body.get("data") or {}
    alarm, device = data.get("alarm") or {}, data.get("device") or {}
    title = str((alarm.get("title") or data.get("text") or {}).get(lang) or body["type"])
    category = _CATEGORY.get(str(device.get("class") or alarm.get("class")), "Other")
    severity = str(alarm.get("severity"))
    info = ET.SubElement(root, "info")
    _add(info, "language", {"vi": "vi-VN", "en": "en-US"}[lang])
    _add(info, "category", category)
    _add(info, "event", title)
    _add(info, "responseType", "AllClear" if ends else _RESPONSE.get(category, "Monitor"))
    _add(info, "urgency", "Past" if ends else _URGENCY.get(severity, "Unknown"))
    _add(info, "severity", _SEVERITY.get(severity, "Unknown"))
    _add(info, "certainty", "Observed")
    _add(info, "effective", _time(issue.at, issue.zone))
    raised = alarm.get("raised_at")
    if isinstance(raised, str):
        _add(info, "onset", _time(datetime.fromisoformat(raised), issue.zone))
    _add(info, "expires", _time(issue.at + LIFE, issue.zone))
    if issue.sender_name:
        _add(info, "senderName", issue.sender_name)
    _add(info, "headline", f"{text('push.event_cleared', lang)}: {title}" if ends else title)
    if not ends and issue.scope != "Public" and (runbook := (alarm.get("runbook") or {}).get(lang)):
        _add(info, "instruction", runbook)  # the center's own, not what the public should do
    if alarm.get("rule") and issue.scope != "Public":
        _parameter(info, "rule", str(alarm["rule"]))
    if device.get("key") and issue.scope != "Public":
        _parameter(info, "device", str(device["key"]))
    area = ET.SubElement(info, "area")
    _add(area, "areaDesc", str(device.get("area_name") or device.get("area") or text("push.cap_no_area", lang)))
    if device.get("latitude") is not None and device.get("longitude") is not None:
        _add(area, "circle", f"{device['latitude']:.5f},{device['longitude']:.5f} {RADIUS_KM}")
    if device.get("area_code"):
        _parameter(area, "VN_COMMUNE", str(device["area_code"]), "geocode")


def _since_last_end(earlier: Sequence[Earlier]) -> Sequence[Earlier]:
    """Leave out what a Cancel has ended: raised anew, it is a new Alert."""
    ends = [index for index, each in enumerate(earlier) if each.type in ENDS]
    return earlier[ends[-1] + 1 :] if ends else earlier


def _parameter(parent: ET.Element, name: str, value: str, tag: str = "parameter") -> None:
    node = ET.SubElement(parent, tag)
    _add(node, "valueName", name)
    _add(node, "value", value)


def _add(parent: ET.Element, tag: str, words: str) -> None:
    ET.SubElement(parent, tag).text = NOT_XML.sub("", words)


def _time(at: datetime, zone: str) -> str:
    local = at.astimezone(ZoneInfo(zone) if zone else UTC)
    said = local.isoformat(timespec="seconds")
    return f"{said[:-6]}-00:00" if said.endswith("+00:00") else said
