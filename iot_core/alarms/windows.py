"""What a device is under at a time: maintenance keeps its alarms quiet, a walk test marks them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from iot_core.registry.windows import Kind, Window

__all__ = ["Windows", "no_window", "quieted"]


Windows = Callable[[int, datetime], Window | None]


def no_window(device_id: int, at: datetime) -> Window | None:  # noqa: ARG001 - the shape of Windows
    """Nobody works anywhere."""
    return None


def quieted(windows: Windows, device_id: int, at: datetime) -> tuple[str | None, bool]:
    """Say what keeps an alarm quiet then, and whether it is a test."""
    window = windows(device_id, at)
    if window is None:
        return None, False
    return (None, True) if window.kind is Kind.TEST else (window.mark, False)
