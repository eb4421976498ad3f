"""Figures after ISA-18.2 clause 16 and EEMUA 191 from the views of the database, and the report of a shift."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.alarms.alarm import from_record
from iot_core.alarms.lifecycle import PLACE, PLACED

__all__ = ["handover", "kpis"]

_SPAN: Final = timedelta(minutes=10)
KPI: Final = """
SELECT
    (SELECT count(*) FROM iot.alarm_rang WHERE at >= $1 AND at < $2) AS alarms,
    (SELECT coalesce(max(alarms), 0) FROM iot.alarm_kpi_10min WHERE time >= $1 AND time < $2) AS most_in_10_min,
    (SELECT count(*) FROM iot.alarm_kpi_10min WHERE flood AND time >= $1 AND time < $2) AS floods,
    (SELECT count(*) FROM iot.alarm_kpi_chattering WHERE at >= $1 AND at < $2) AS chattering,
    (SELECT count(*) FROM iot.alarm_kpi_stale) AS stale,
    (SELECT count(*) FROM iot.alarm WHERE closed_at IS NULL AND NOT simulated AND NOT test) AS standing,
    (SELECT extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY took))::float8 FROM iot.alarm_kpi_answer
        WHERE at >= $1 AND at < $2) AS answer_median_s,
    (SELECT extract(epoch FROM percentile_cont(0.95) WITHIN GROUP (ORDER BY took))::float8 FROM iot.alarm_kpi_answer
        WHERE at >= $1 AND at < $2) AS answer_p95_s
"""
SEVERITIES: Final = "SELECT severity, count(*) AS alarms FROM iot.alarm_rang WHERE at >= $1 AND at < $2 GROUP BY 1"
FREQUENT: Final = """
SELECT r.rule, d.key AS device, count(*) AS alarms FROM iot.alarm_rang r LEFT JOIN iot.device d ON d.id = r.device_id
WHERE r.at >= $1 AND r.at < $2 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 10
"""
SINCE: Final = "SELECT max(at) FROM iot.handover"
OPEN: Final = f"""
SELECT a.*, {PLACE},
    ARRAY(SELECT s.by FROM iot.alarm_seen s WHERE s.alarm_id = a.id ORDER BY s.at) AS seen_by
FROM iot.alarm a {PLACED}
WHERE a.closed_at IS NULL AND a.incident_id IS NULL
ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low'], a.severity), a.raised_at LIMIT 1000
"""
SHIFT: Final = """
SELECT count(DISTINCT alarm_id) FILTER (WHERE kind = 'raised') AS raised,
    count(DISTINCT alarm_id) FILTER (WHERE kind = 'closed') AS closed FROM iot.alarm_event WHERE recorded_at >= $1
"""
DEEDS: Final = """
SELECT by, count(*) AS deeds FROM iot.alarm_event WHERE recorded_at >= $1 AND by IS NOT NULL GROUP BY by ORDER BY by
"""
KEEP: Final = """
INSERT INTO iot.handover (since, by, taken_by, note, report) VALUES ($1, $2, $3, $4, $5) RETURNING id, at
"""


async def kpis(connection: asyncpg.Connection, since: datetime, until: datetime) -> dict[str, Any]:
    """Count a span."""
    row = await connection.fetchrow(KPI, since, until)
    days = (until - since) / timedelta(days=1)
    found = dict(row)
    found["flood_share"] = found.pop("floods") / max((until - since) / _SPAN, 1)
    return found | {
        "since": since,
        "until": until,
        "alarms_a_day": found["alarms"] / days if days > 0 else 0.0,
        "by_severity": {each["severity"]: each["alarms"] for each in await connection.fetch(SEVERITIES, since, until)},
        "frequent": [dict(each) for each in await connection.fetch(FREQUENT, since, until)],
    }


async def handover(
    connection: asyncpg.Connection, *, by: str, to: str | None, since: datetime | None, note: str | None
) -> dict[str, Any]:
    """Make the report of a shift and keep it."""
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    start = since or await connection.fetchval(SINCE) or now - timedelta(hours=8)
    rows = await connection.fetch(OPEN)
    alarms = [(from_record(row), row["seen_by"]) for row in rows]
    counted = await connection.fetchrow(SHIFT, start)
    report: dict[str, Any] = {
        "since": start, "by": by, "to": to, "note": note, "raised": counted["raised"], "closed": counted["closed"],
        "open": [
            {
                "id": alarm.id, "rule": alarm.rule, "severity": alarm.severity,
                "title": {"vi": alarm.title.vi, "en": alarm.title.en},
                "state": alarm.state, "device": alarm.device_key,
                "place": alarm.device_name or alarm.area_name, "raised_at": alarm.raised_at, "seen_by": seen,
                "acknowledged_by": alarm.acknowledged_by, "assigned_to": alarm.assigned_to,
                "shelved_until": alarm.shelved_until, "cause": alarm.cause,
            }
            for alarm, seen in alarms
        ],
        "unseen": [alarm.id for alarm, seen in alarms if not seen],
        "shelved": [alarm.id for alarm, _ in alarms if alarm.shelved_until is not None],
        "deeds": {row["by"]: row["deeds"] for row in await connection.fetch(DEEDS, start)},
    }  # fmt: skip
    kept = await connection.fetchrow(KEEP, start, by, to, note, msgspec.to_builtins(report))
    return report | {"id": kept["id"], "at": kept["at"]}
