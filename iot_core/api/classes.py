"""Device classes and profiles, as they are loaded."""

from collections.abc import Iterable, Sequence
from typing import Any

from iot_core.api import shapes
from iot_core.api.routes import Call, NoQuery, Reach, get
from iot_core.errors import NotFoundError
from iot_core.model import AlarmRule, DeviceClass, Metric
from iot_core.profiles import Profile
from iot_core.store.read import retired_metrics


async def classes(call: Call[NoQuery]) -> shapes.Classes:
    """List device classes with their metrics and default rules."""
    found = call.services.profiles.classes
    async with call.reader() as connection:
        retired = await retired_metrics(connection)
    return shapes.Classes(items=tuple(_class(found[key], retired.get(key, ())) for key in sorted(found)))


async def profiles(call: Call[NoQuery]) -> shapes.ProfileList:
    """List device profiles."""
    return shapes.ProfileList(items=tuple(_profile(each) for each in call.services.profiles.all()))


def require_classes(call: Call[Any], keys: Iterable[str]) -> None:
    """Raise NotFoundError for the first key that is no device class."""
    known = call.services.profiles.classes
    for key in keys:
        if key not in known:
            raise NotFoundError("push.class_unknown", key=key, known=", ".join(sorted(known)))


def _class(found: DeviceClass, retired: Sequence[str]) -> shapes.Class:
    return shapes.Class(
        key=found.key,
        title=found.title,
        life_safety=found.life_safety,
        metrics=tuple(_metric(each) for each in found.metrics),
        retired=tuple(retired),
        rules=tuple(_rule(each) for each in found.rules),
    )


def _metric(metric: Metric) -> shapes.Metric:
    return shapes.Metric(
        key=metric.key,
        title=metric.title,
        type=metric.type,
        ucum=metric.ucum,
        precision=metric.precision,
        minimum=metric.minimum,
        maximum=metric.maximum,
        counter=metric.counter,
        members=dict(metric.members),
    )


def _rule(rule: AlarmRule) -> shapes.Rule:
    return shapes.Rule(
        key=rule.key,
        title=rule.title,
        severity=rule.severity,
        comparison=rule.comparison,
        metric=rule.metric,
        threshold=rule.threshold,
        hysteresis=rule.hysteresis,
        on_delay_s=rule.on_delay.total_seconds(),
        latched=rule.latched,
        source=rule.source,
    )


def _profile(profile: Profile) -> shapes.Profile:
    return shapes.Profile(
        model=profile.model,
        vendor=profile.vendor,
        title=profile.title,
        class_key=profile.class_key,
        source=profile.source,
        interval_s=profile.interval.total_seconds(),
        address=profile.address,
    )


routes = (get("/classes", classes, reach=Reach.ANY), get("/profiles", profiles, reach=Reach.ANY))
