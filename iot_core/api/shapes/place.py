"""Requests and answers about the map."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from msgspec import field

from iot_core.api.shapes.base import Answer, DeviceState
from iot_core.model import Severity


class MapDevice(Answer, frozen=True, kw_only=True):
    """A device as the page draws it; also what the stream `events` says as `event: device` when one changes."""

    key: str
    name: str
    class_key: str = field(name="class")
    latitude: float | None
    longitude: float | None
    state: DeviceState
    severity: Severity | None
    """Of its most urgent active alarm."""
    simulated: bool


class Map(Answer, frozen=True, kw_only=True):
    """All devices that are not retired."""

    items: tuple[MapDevice, ...]
