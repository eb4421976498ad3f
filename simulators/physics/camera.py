"""A camera that works, as somebody sees it who asks it every minute and never looks at its picture."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from simulators.physics.chance import between, seeded, wander
from simulators.physics.weather import weather

_RESTARTS_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera; it restarts once a week, at an hour of its own."""

    city: int
    seed: int

    def at(self, time: datetime) -> dict[str, float | int | bool | str]:
        """Give what the checks find."""
        at = time.timestamp()
        connect = 4 + 1.5 * abs(wander(seeded(self.seed, "latency"), at, 20))
        return {
            "reachable": True,
            "rtsp": True,
            "rtsp_status": 200,
            "onvif": True,
            "login": True,
            "latency": connect,
            "rtsp_latency": 2.5 * connect,
            "clock_offset": 0.3 * wander(seeded(self.seed, "clock"), at, 3600),
            "uptime": float(int(at + between(0, _RESTARTS_S, self.seed, "restart")) % _RESTARTS_S),
            "video_loss": False,
            "tamper": False,
            "storage_fault": False,
            "temperature": weather(self.city, time).temperature + 14,
        }
