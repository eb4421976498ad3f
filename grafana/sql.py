"""The dashboard's SQL. Variables only as `= ANY(ARRAY[${name}]::text[])`: any other spelling breaks on a quote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from iot_core.model import MetricType

if TYPE_CHECKING:
    from iot_core.model import DeviceClass, Metric

AREA_VARIABLE: Final = """
SELECT coalesce(area_name, '—') AS __text, coalesce(area, '—') AS __value FROM iot.device_overview
GROUP BY 1, 2 ORDER BY 1
"""
IN_AREA: Final = "coalesce(d.area, '—') = ANY(ARRAY[${area}]::text[])"
# A name is for people and may be given twice; without the key two devices would be averaged into one line.
SERIES: Final = "d.name || CASE WHEN d.name = d.key THEN '' ELSE ' · ' || d.key END"

MAP: Final = f"""
SELECT d.latitude, d.longitude, d.name, d.key, d.class_key AS class, d.state,
    CASE d.state WHEN 'alarm' THEN 3 WHEN 'silent' THEN 2 WHEN 'never' THEN 1 ELSE 0 END AS level,
    d.last_received_at
FROM iot.device_overview d
WHERE d.latitude IS NOT NULL AND {IN_AREA}
ORDER BY level
"""
STATES: Final = f"""
SELECT count(*) FILTER (WHERE d.state = 'alarm') AS alarm, count(*) FILTER (WHERE d.state = 'silent') AS silent,
    count(*) FILTER (WHERE d.state = 'never') AS never, count(*) FILTER (WHERE d.state = 'ok') AS ok
FROM iot.device_overview d WHERE {IN_AREA}
"""


def open_alarms(lang: str) -> str:
    """List open alarms as the page does: first those that nobody has taken, the most urgent of them on top."""
    return f"""
SELECT a.raised_at AS time, a.severity, a.title_{lang} AS alarm, d.name AS device, d.area_name AS area,
    CASE WHEN a.cleared_at IS NOT NULL THEN 'returned' WHEN a.acknowledged_at IS NOT NULL THEN 'acknowledged'
         ELSE 'unacknowledged' END AS state,
    a.value, a.acknowledged_by, a.id
FROM iot.alarm a JOIN iot.device_overview d ON d.device_id = a.device_id
WHERE a.closed_at IS NULL AND {IN_AREA}
ORDER BY a.acknowledged_at IS NOT NULL, array_position(ARRAY['critical', 'high', 'medium', 'low'], a.severity),
    a.raised_at DESC
LIMIT 200
"""


def latest(lang: str) -> str:
    """List the newest value of every metric of every device."""
    return f"""
SELECT d.name AS device, d.class_key AS class, m.title_{lang} AS metric, l.value, m.ucum, l.time,
    CASE WHEN l.bad THEN 'bad' ELSE (ARRAY['good', 'uncertain', 'calibration', 'bad'])[l.quality + 1] END AS quality
FROM telemetry.latest l
JOIN iot.device_overview d ON d.device_id = l.device_id
JOIN iot.metric m ON m.class_key = l.class_key AND m.key = l.metric
WHERE {IN_AREA}
ORDER BY d.name, m.bit
LIMIT 5000
"""


def chart(device_class: DeviceClass, metric: Metric) -> str:
    """Draw one metric of a class, a series a device; implausible values and bad or calibration rows are left out."""
    column = f't."{metric.key}"'
    value = f"{column}::integer" if metric.type is MetricType.BOOL else column
    return f"""
SELECT $__timeGroupAlias(t.time, $__interval), {SERIES} AS metric, avg({value})::double precision AS value
FROM telemetry."{device_class.key}" t
JOIN iot.device_overview d ON d.device_id = t.device_id
JOIN iot.metric m ON m.class_key = '{device_class.key}' AND m.key = '{metric.key}'
WHERE $__timeFilter(t.time) AND {IN_AREA}
    AND {column} IS NOT NULL AND t.quality < 2 AND (t.bad >> m.bit) & 1 = 0
GROUP BY 1, 2
ORDER BY 1
"""
