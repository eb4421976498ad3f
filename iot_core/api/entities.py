"""NGSI-LD entities (ETSI GS CIM 009) of Smart Data Models types, from devices and their newest values. Pure.

Which attribute a metric is, class.yaml says (`smart_data_model: AirQualityObserved.pm25`). Two rules of these models
that ours do not share: shares are 0..1, not percent; GeoJSON is [longitude, latitude].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from iot_core.model import DeviceClass, Metric, MetricType
from iot_core.push.cap import of_the_device

CORE_CONTEXT: Final = "https://uri.etsi.org/ngsi-ld/v1/ngsi-ld-core-context.jsonld"
CONTEXTS: Final = {
    "AirQualityObserved": "dataModel.Environment", "FloodMonitoring": "dataModel.Environment",
    "Streetlight": "dataModel.Streetlighting", "StreetlightControlCabinet": "dataModel.Streetlighting",
    "WaterConsumptionObserved": "dataModel.WaterConsumption", "WaterQualityObserved": "dataModel.WaterQuality",
    "WeatherObserved": "dataModel.Weather", "Alert": "dataModel.Alert", "Device": "dataModel.Device",
}  # fmt: skip
# UN/CEFACT Recommendation 20 codes of the units that class.yaml writes in UCUM.
UNIT_CODES: Final = {
    "ug/m3": "GQ", "mg/m3": "GP", "Cel": "CEL", "hPa": "A97", "m": "MTR", "V": "VLT", "A": "AMP", "W": "WTT",
    "kW.h": "KWH", "Hz": "HTZ", "mm": "MMT", "m/s": "MTS", "mg/L": "M1", "deg": "DD", "lx": "LUX",
}  # fmt: skip
_SHARES: Final = frozenset({"relativeHumidity", "illuminanceLevel", "batteryLevel"})
_WHOLE: Final = frozenset({"waterConsumption", "alarmTamper"})
_LEAST: Final = {"uVIndexMax": 1}
"""Below this the model's schema takes no value: at night there is none."""
_TIME_OF: Final = {"AirQualityObserved": "dateObserved", "WaterQualityObserved": "dateObserved",
                   "WeatherObserved": "dateObserved"}  # fmt: skip
_TIME: Final = "observationDateTime"
_REQUIRED: Final = {
    "AirQualityObserved": frozenset({"location"}), "WaterQualityObserved": frozenset({"location"}),
    "WeatherObserved": frozenset({"location"}), "Streetlight": frozenset({"location", "status"}),
    "StreetlightControlCabinet": frozenset({"location", "refStreetlightGroup", "workingMode"}),
}  # fmt: skip
_ALERTS: Final = {
    "fire_detector": ("security", "buildingFire"), "flood_gauge": ("naturalDisaster", "flood"),
    "air_quality": ("environment", "airPollution"), "water_quality": ("environment", "waterPollution"),
    "weather": ("weather", None), "panic_button": ("security", None), "camera_health": ("security", None),
}  # fmt: skip
_OURSELVES: Final = "iot-core"
# What a fire detector says besides is no fire.
_NO_FIRE: Final = ("fire_detector.co_", "fire_detector.gas")


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A device as an entity needs it."""

    key: str
    name: str
    class_key: str
    area: str | None
    area_name: str | None
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """A newest value: `value` as it is stored, 1 and 0 for a bool, its number for an enum."""

    metric: str
    value: float
    time: datetime


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute with its time and unit code."""

    value: Any
    at: datetime | None = None
    unit: str | None = None
    kind: str = "Property"


def type_of(device_class: DeviceClass) -> str:
    """Give the entity type of a class: the one that most of its metrics name, `Device` where none does."""
    named = Counter(
        metric.smart_data_model.partition(".")[0]
        for metric in device_class.metrics
        if metric.smart_data_model and not metric.smart_data_model.startswith("Device.")
    )
    return named.most_common(1)[0][0] if named else "Device"


def entity_id(kind: str, key: str) -> str:
    """Give an entity's URN; it stays the same for as long as the device's key does."""
    return f"urn:ngsi-ld:{kind}:{key}"


def attributes(thing: Thing, device_class: DeviceClass, points: Iterable[Point]) -> dict[str, Attribute] | None:
    """Give an entity's attributes; None while the device lacks what its type cannot do without (position, values)."""
    kind, known = type_of(device_class), {point.metric: point for point in points}
    newest = max((point.time for point in known.values()), default=None)
    if newest is None:
        return None
    found = _measured(kind, device_class, known)
    found[_TIME_OF.get(kind, _TIME)] = Attribute(_time(newest))
    found |= _described(kind, thing)
    if kind == "Device":
        found["controlledProperty"] = Attribute([metric.key for metric in device_class.metrics if metric.key in known])
    if not _REQUIRED.get(kind, frozenset()) <= found.keys():
        return None
    return found


def _measured(kind: str, device_class: DeviceClass, known: Mapping[str, Point]) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {}
    for metric in device_class.metrics:
        point = known.get(metric.key)
        model, _, name = (metric.smart_data_model or "").partition(".")
        if point is None or point.value < _LEAST.get(name, point.value):
            continue
        if model == kind and name not in _DERIVED.get(kind, {}):
            found[name] = Attribute(_value(metric, name, point.value), point.time, _unit(metric, name))
    for name, derive in _DERIVED.get(kind, {}).items():
        made = derive(known)
        if made is not None:
            found[name] = made
    return found


def _described(kind: str, thing: Thing) -> dict[str, Attribute]:
    found = {"name": Attribute(thing.name)}
    if thing.latitude is not None and thing.longitude is not None:
        point = {"type": "Point", "coordinates": [thing.longitude, thing.latitude]}
        found["location"] = Attribute(point, kind="GeoProperty")
    if thing.area_name:
        found["areaServed"] = Attribute(thing.area_name)
    if kind == "StreetlightControlCabinet":
        found["refStreetlightGroup"] = Attribute([entity_id("StreetlightGroup", thing.key)], kind="Relationship")
    return found


def alert(row: Mapping[str, Any], classes: Mapping[str, DeviceClass]) -> dict[str, Attribute]:
    """Give an alarm as an Alert. Its source is the device's entity, else the center's, the area's or our own name."""
    rule = row["rule"]
    category, sub = _ALERTS.get(row["class_key"] or class_of_rule(rule), ("environment", None))
    found = {
        "alertSource": Attribute(_source(row, classes)),
        "category": Attribute(category),
        "severity": Attribute(row["severity"]),
        "dateIssued": Attribute(_time(row["raised_at"])),
        "description": Attribute(row["title_en"]),
        "name": Attribute(row["title_vi"]),
    }
    if sub is not None and not of_the_device(rule) and not rule.startswith(_NO_FIRE):
        found["subCategory"] = Attribute(sub)
    if row["cleared_at"] is not None:
        found["validTo"] = Attribute(_time(row["cleared_at"]))
    if row["latitude"] is not None and row["longitude"] is not None:
        point = {"type": "Point", "coordinates": [row["longitude"], row["latitude"]]}
        found["location"] = Attribute(point, kind="GeoProperty")
    return found


def class_of_rule(rule: str) -> str:
    """Name the class of a rule, of an incident that of what is inside."""
    return rule.removeprefix("incident.").partition(".")[0]


def _source(row: Mapping[str, Any], classes: Mapping[str, DeviceClass]) -> str:
    if row["device_key"] is None:
        return str(row["center"] or row["area_key"] or _OURSELVES)
    device_class = classes.get(row["class_key"])
    return entity_id("Device" if device_class is None else type_of(device_class), row["device_key"])


def simplified(kind: str, key: str, found: Mapping[str, Attribute]) -> dict[str, Any]:
    """Write an entity as key-values (4.5.4): what the Smart Data Models' schemas describe."""
    return {"id": entity_id(kind, key), "type": kind, **{name: each.value for name, each in found.items()}}


def normalized(kind: str, key: str, found: Mapping[str, Attribute]) -> dict[str, Any]:
    """Write an entity in the normalized form (4.5.1)."""
    return {"id": entity_id(kind, key), "type": kind, **{name: _written(each) for name, each in found.items()}}


def context(kinds: Sequence[str]) -> list[str]:
    """Give the @context of these types."""
    repositories = dict.fromkeys(CONTEXTS[kind] for kind in kinds if kind in CONTEXTS)
    where = "https://raw.githubusercontent.com/smart-data-models"
    return [*(f"{where}/{repository}/master/context.jsonld" for repository in repositories), CORE_CONTEXT]


def _written(each: Attribute) -> dict[str, Any]:
    if each.kind == "Relationship":
        return {"type": "Relationship", "object": each.value}
    facts: dict[str, Any] = {"type": each.kind, "value": each.value}
    if isinstance(each.value, str) and each.at is None and each.value.endswith("Z") and "T" in each.value:
        facts["value"] = {"@type": "DateTime", "@value": each.value}
    if each.unit is not None:
        facts["unitCode"] = each.unit
    if each.at is not None:
        facts["observedAt"] = _time(each.at)
    return facts


def _value(metric: Metric, name: str, value: float) -> Any:
    if metric.type is MetricType.ENUM:
        return next((member for member, number in metric.members.items() if number == value), None)
    if name in _WHOLE:
        return int(value)
    if metric.type is MetricType.BOOL:
        return bool(value)
    if name in _SHARES and metric.ucum == "%":
        return round(value / 100, 6)
    return round(value, metric.precision) if metric.type is MetricType.FLOAT else int(value)


def _unit(metric: Metric, name: str) -> str | None:
    return None if name in _SHARES else UNIT_CODES.get(metric.ucum)


def _status(known: Mapping[str, Point]) -> Attribute:
    failed = [known[name] for name in ("lamp_failure", "gear_failure", "relay_failure") if name in known]
    at = max((point.time for point in failed), default=None)
    return Attribute("defectiveLamp" if any(point.value for point in failed) else "ok", at)


def _power(known: Mapping[str, Point]) -> Attribute | None:
    on, dim = known.get("on"), known.get("dim")
    if on is None:
        return None
    low = dim is not None and 0 < dim.value < 100
    return Attribute(("low" if low else "on") if on.value else "off", on.time)


def _flood(known: Mapping[str, Point]) -> Attribute | None:
    said = [known[name] for name in ("alert", "danger") if name in known]
    if not said:
        return None
    worst = "Danger" if "danger" in known and known["danger"].value else "Alert"
    return Attribute(worst if any(point.value for point in said) else "Normal", max(point.time for point in said))


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_DERIVED: Final[Mapping[str, Mapping[str, Callable[[Mapping[str, Point]], Attribute | None]]]] = {
    "Streetlight": {"status": _status, "powerState": _power},
    "FloodMonitoring": {"floodLevelStatus": _flood},
}
