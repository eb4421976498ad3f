"""When a rule may ring: hours of the week and holidays on the city's clocks."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import date, datetime
from typing import Final

import asyncpg

from iot_core.hours import within
from iot_core.store.tables import read_calendar

__all__ = ["Times"]

_HOLIDAYS: Final = "SELECT day FROM iot.holiday"


class Times:
    """The city's zone and holidays in memory."""

    def __init__(self, zone: str = "Asia/Ho_Chi_Minh", holidays: AbstractSet[date] = frozenset()) -> None:
        self.zone = zone
        self.holidays = holidays

    async def load(self, connection: asyncpg.Connection) -> None:
        """Read them anew."""
        self.zone = (await read_calendar(connection)).zone
        self.holidays = frozenset(row["day"] for row in await connection.fetch(_HOLIDAYS))

    def open(self, hours: str, at: datetime) -> bool:
        """Say whether a rule with these hours may ring then."""
        return not hours or within(hours, at, self.zone, self.holidays)
