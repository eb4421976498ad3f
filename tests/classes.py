"""A small class for tests that are about the store or the ingest path, and the shipped ones, compiled once."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from iot_core.model import DeviceClass, Metric, MetricType, Observation, Quality, Title, Value
from iot_core.profiles import Profiles, load

T0 = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)

_loaded = cache(load)


def shipped() -> Profiles:
    """Give the shipped profiles, compiled once in a process; a core may renew what it got without the others seeing."""
    loaded = _loaded()
    return Profiles(loaded._class_files, loaded._profiles, loaded.folders)


def _metric(key: str, kind: MetricType, **more: object) -> Metric:
    return Metric(key=key, title=Title(key, key), type=kind, **more)  # type: ignore[arg-type]


PROBE = DeviceClass(
    key="probe",
    title=Title("Đầu dò", "Probe"),
    metrics=(
        _metric("level", MetricType.FLOAT, precision=1, minimum=-40, maximum=85),
        _metric("total", MetricType.FLOAT, precision=3, minimum=0),
        _metric("count", MetricType.INT, minimum=0, maximum=1000),
        _metric("open", MetricType.BOOL),
        _metric("mode", MetricType.ENUM, members={"idle": 0, "busy": 1}),
    ),
)


def observation(values: dict[str, Value], *, time: datetime = T0, device_id: int = 1, **more: object) -> Observation:
    """Make an observation of a probe."""
    facts: dict[str, object] = {"quality": Quality.GOOD, "received_at": time, **more}
    return Observation(device_id=device_id, unit_id=1, class_key="probe", time=time, values=values, **facts)  # type: ignore[arg-type]
