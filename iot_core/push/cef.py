"""ArcSight Common Event Format (version 0, revision 25), for what watches over security. Pure.

CEF:0|iot-core|iot-core|VERSION|alarm.raised|Fire detector removed|8|externalId=msg_... rt=... cs1Label=rule cs1=...
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from iot_core import __version__

_SEVERITY: Final = {"critical": 10, "high": 8, "medium": 5, "low": 3}
_AUDIT: Final = 3
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def line(body: Mapping[str, Any], words: Mapping[str, str], message_id: str) -> str:
    """Write a message as one line of CEF."""
    kind = str(body.get("type"))
    audit = (body.get("data") or {}).get("audit")
    facts: dict[str, str] = {"externalId": message_id}
    if isinstance(audit, Mapping):
        name, severity = str(audit.get("action")), _AUDIT
        facts |= {"suser": str(audit.get("by")), "act": name, "cs1Label": "subject", "cs1": str(audit.get("subject"))}
    else:
        name, severity = words["title"] or kind, _SEVERITY.get(words["severity"], 1)
        facts |= {
            "dvchost": words["device"], "cs1Label": "rule", "cs1": words["rule"], "cs2Label": "area",
            "cs2": words["area"], "cs3Label": "state", "cs3": words["state"], "cn1Label": "alarm", "cn1": words["id"],
            "suser": words["acknowledged_by"],
        }  # fmt: skip
    said = body.get("timestamp")
    if isinstance(said, str) and said:
        facts["rt"] = str(int(datetime.fromisoformat(said).timestamp() * 1000))
    head = "|".join(_header(part) for part in ("iot-core", "iot-core", __version__, kind, name, str(severity)))
    kept = {name: value for name, value in facts.items() if value and facts[name.removesuffix("Label")]}
    return f"CEF:0|{head}|" + " ".join(f"{name}={_value(value)}" for name, value in kept.items())


def _header(words: str) -> str:
    return _CONTROL.sub(" ", words.replace("\\", "\\\\").replace("|", "\\|"))


def _value(words: str) -> str:
    plain = words.replace("\\", "\\\\").replace("=", "\\=").replace("\r", "").replace("\n", "\\n")
    return _CONTROL.sub(" ", plain)
