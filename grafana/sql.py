"""The dashboard's SQL. Variables only as `= ANY(ARRAY[${name}]::text[])`: any other spelling breaks on a quote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from iot_core.model import MetricType

if TYPE_CHECKING:
    from iot_core.model import DeviceClass, Metric

AREA_NAME: Final = {"vi": "area_name", "en": "area_name_en"}
_AREA_OF_ALARM: Final = {"vi": "r.name", "en": "coalesce(r.name_en, r.name)"}
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


def areas(lang: str) -> str:
    """List the areas that have devices, for the variable; `—` stands for none."""
    return f"""
SELECT coalesce({AREA_NAME[lang]}, '—') AS __text, coalesce(area, '—') AS __value FROM iot.device_overview
GROUP BY 1, 2 ORDER BY 1
"""


def open_alarms(lang: str) -> str:
    """List open alarms as the page does: first those that nobody has taken, the most urgent of them on top.

    Also those of areas (an incident), other centers and the core itself; none that is kept quiet. Where no device
    stands the filter has no name for the place, so what rings there is always shown.
    """
    return f"""
SELECT a.raised_at AS time, a.severity, a.title_{lang} AS alarm, coalesce(d.name, o.name, k.name) AS device,
    {_AREA_OF_ALARM[lang]} AS area,
    CASE WHEN a.cleared_at IS NOT NULL THEN 'returned' WHEN a.acknowledged_at IS NOT NULL THEN 'acknowledged'
         ELSE 'unacknowledged' END AS state,
    a.value, a.acknowledged_by, a.id
FROM iot.alarm a
LEFT JOIN iot.device d ON d.id = a.device_id
LEFT JOIN iot.outside_source o ON a.source_kind = 'outside' AND o.id = a.source_id
LEFT JOIN iot.center k ON k.id = o.center_id
LEFT JOIN iot.area r ON r.id = coalesce(CASE WHEN a.source_kind = 'area' THEN a.source_id END, d.area_id, o.area_id)
WHERE a.closed_at IS NULL AND a.incident_id IS NULL AND a.suppressed_by IS NULL
    AND (a.shelved_until IS NULL OR a.shelved_until <= now())
    AND (coalesce(r.key, '—') = ANY(ARRAY[${{area}}]::text[])
         OR NOT EXISTS (SELECT FROM iot.device_overview v WHERE coalesce(v.area, '—') = coalesce(r.key, '—')))
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


HOURS_FROM: Final = 2 * 86_400
DAYS_FROM: Final = 62 * 86_400
"""Seconds of a span from which on hours answer for it, and days: a screen has no room for more points."""
_SPAN: Final = "$__unixEpochTo() - $__unixEpochFrom()"
_RAW_SPAN: Final = f"{_SPAN} < {HOURS_FROM}"
_HOURS_SPAN: Final = f"{_SPAN} BETWEEN {HOURS_FROM} AND {DAYS_FROM - 1}"
_DAYS_SPAN: Final = f"{_SPAN} >= {DAYS_FROM}"


def chart(device_class: DeviceClass, metric: Metric) -> str:
    """Draw one metric of a class, a series a device; implausible values and bad or calibration rows are left out.

    Of the three parts one is asked: the span is known before the plan is made.
    """
    column = f't."{metric.key}"'
    value = f"{column}::integer" if metric.type is MetricType.BOOL else column
    rollups = "" if metric.type is MetricType.ENUM else "".join(
        f"""
    UNION ALL
    SELECT t.time, t.device_id, t."{metric.key}_avg", t."{metric.key}_count"
    FROM telemetry."{device_class.key}_{level}" t WHERE $__timeFilter(t.time) AND {span}"""
        for level, span in (("1h", _HOURS_SPAN), ("1d", _DAYS_SPAN))
    )  # fmt: skip
    raw = "" if metric.type is MetricType.ENUM else f" AND {_RAW_SPAN}"
    return f"""
SELECT $__timeGroupAlias(p.time, $__interval), {SERIES} AS metric, sum(p.value * p.number) / sum(p.number) AS value
FROM (
    SELECT t.time, t.device_id, {value}::double precision AS value, 1 AS number FROM telemetry."{device_class.key}" t
    JOIN iot.metric m ON m.class_key = '{device_class.key}' AND m.key = '{metric.key}'
    WHERE $__timeFilter(t.time){raw} AND {column} IS NOT NULL AND t.quality < 2 AND (t.bad >> m.bit) & 1 = 0{rollups}
) p
JOIN iot.device_overview d ON d.device_id = p.device_id
WHERE {IN_AREA} AND p.number > 0
GROUP BY 1, 2
ORDER BY 1
"""


def consumption(device_class: DeviceClass, metric: Metric) -> str:
    """Draw what all meters of a class counted, by the hour or by the civil day."""
    parts = "\n    UNION ALL ".join(
        f"""SELECT t.time, t.device_id, t."{metric.key}_consumption" AS value
    FROM telemetry."{device_class.key}_{level}" t WHERE $__timeFilter(t.time) AND {span}"""
        for level, span in (("1h", _RAW_SPAN), ("1d", f"NOT ({_RAW_SPAN})"))
    )
    return f"""
SELECT p.time AS time, sum(p.value) AS consumption
FROM (
    {parts}
) p
JOIN iot.device_overview d ON d.device_id = p.device_id
WHERE {IN_AREA}
GROUP BY 1
ORDER BY 1
"""


def consumption_by_device(device_class: DeviceClass, metric: Metric) -> str:
    """List what each meter counted, most first: to the reading in a short span, in whole civil days of a long one."""
    key = device_class.key
    return f"""
SELECT d.name AS device, sum(c.consumption) AS consumption
FROM (
    SELECT m.device_id, m.consumption FROM telemetry.consumption('{key}', '{metric.key}',
        ARRAY(SELECT d.device_id FROM iot.device_overview d WHERE d.class_key = '{key}' AND {IN_AREA}),
        $__timeFrom()::timestamptz,
        CASE WHEN {_RAW_SPAN} THEN $__timeTo()::timestamptz ELSE $__timeFrom()::timestamptz END) m
    UNION ALL
    SELECT t.device_id, t."{metric.key}_consumption" FROM telemetry."{key}_1d" t
    WHERE $__timeFilter(t.time) AND NOT ({_RAW_SPAN})
) c
JOIN iot.device_overview d ON d.device_id = c.device_id
WHERE {IN_AREA}
GROUP BY d.device_id, d.name
ORDER BY 2 DESC NULLS LAST, 1
LIMIT 200
"""


# The civil day that ended last before the end of the span.
_WHOLE_DAY: Final = """c.day > $__timeTo()::timestamptz - interval '48 hours'
    AND c.day <= $__timeTo()::timestamptz - interval '24 hours'"""
_COMPLETENESS_IN_AREA: Final = "coalesce(c.area, '—') = ANY(ARRAY[${area}]::text[])"
COMPLETENESS: Final = f"""
SELECT sum(c.stored)::double precision / nullif(sum(c.expected), 0) AS share
FROM iot.completeness c WHERE {_WHOLE_DAY} AND {_COMPLETENESS_IN_AREA}
"""


def incomplete(lang: str) -> str:
    """List the devices that missed some of the last whole day, the worst first."""
    return f"""
SELECT c.day AS time, c.name AS device, c.{AREA_NAME[lang]} AS area, c.expected, c.stored, c.share,
    c.numbers_stored::double precision / nullif(c.numbers_expected, 0) AS by_seq
FROM iot.completeness c WHERE {_WHOLE_DAY} AND {_COMPLETENESS_IN_AREA}
    AND (c.share < 1 OR c.numbers_stored < c.numbers_expected)
ORDER BY least(c.share, c.numbers_stored::double precision / nullif(c.numbers_expected, 0)), c.name
LIMIT 200
"""
