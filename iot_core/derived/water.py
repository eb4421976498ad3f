"""Water that should stand still, from hourly flows: leaks behind a house's meter, and the night flow of a district.

Flows are in m3/h. Hours without a reading are None. Sources:

- continuous flow, burst: no standstill in 24 hours is a leak (Kamstrup's LEAK code, miva.se; waterwatch.co.za), a flow
  constantly above half of Q3 a burst (as Kamstrup's BURST). Q3 of a house's meter is 2.5 (DN15), its overload
  flow Q4 = 1.25 Q3 (ISO 4064-1): where half of the day's hours reach more (flats, a hotel, a school) is no house, and
  not judged by these. The median, and of the hours before a burst: else the burst itself would decide.
- minimum night flow: Water Loss Control ch. 16: what a district (DMA) draws when nearly nobody does, here the lower
  hourly mean from 02:00 to 04:00 of its inlets less its outlets, against its own usual. 15 % above the usual is worth a
  look (platform default).

The same in SQL, for a hundred thousand meters at once: iot_core/alarms/water_flows.py; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

__all__ = [
    "BURST_HOURS", "DAY", "HOUSE_Q4", "LEAST_FLOW", "LEAST_HOURS", "LEAST_NIGHTS", "NIGHTS", "NIGHT_HOURS",
    "burst_flow", "continuous_flow", "night_flow_ratio",
]  # fmt: skip

HOUSE_Q4: Final = 3.125
"""m3/h: 1.25 times the Q3 of 2.5 m3/h of a DN15 meter (ISO 4064-1)."""
BURST_HOURS: Final = 2
DAY: Final = 24
NIGHT_HOURS: Final = (2, 3)
"""The civil hours of a night's minimum."""
NIGHTS: Final = 14
LEAST_HOURS: Final = 18
LEAST_NIGHTS: Final = 5
LEAST_FLOW: Final = 0.05

Hours = Sequence[float | None]


def continuous_flow(lowest: Hours, highest: Hours) -> float | None:
    """Give the lowest flow of a house's last 24 hours; None of less than 18 of them, or where no house draws.

    continuous_flow([0.004] * 24, [0.4] * 24) -> 0.004: four litres an hour that never stop
    continuous_flow([0.004] * 23 + [0.0], [0.4] * 24) -> 0.0: it stood still once
    continuous_flow([12.0] * 24, [60.0] * 24) -> None: a district's main
    """
    known = [value for value in lowest[:DAY] if value is not None]
    if len(known) < LEAST_HOURS or (min(known) and not _is_house(highest)):
        return None
    return min(known)


def burst_flow(lowest: Hours, highest: Hours) -> float | None:
    """Give the flow that a house never fell below in its last two hours, newest first; None without both of them.

    None also where nothing ever stood still in the day before: no house, or a leak that another rule tells of.
    burst_flow([5.6, 5.4, 0.0], [5.9, 5.8, 0.3]) -> 5.4
    burst_flow([1.6, 0.0, 0.0], [1.9, 1.8, 0.3]) -> 0.0
    burst_flow([1.6, 1.4, 0.2], [1.9, 1.8, 2.3]) -> None
    """
    first = [value for value in lowest[:BURST_HOURS] if value is not None]
    if len(first) < BURST_HOURS:
        return None
    if min(first) and not (0 in lowest[BURST_HOURS:DAY] and _is_house(highest)):
        return None
    return min(first)


def night_flow_ratio(nights: Sequence[Hours]) -> float | None:
    """Give last night's minimum against the median of those before, newest night first, each its hours' means.

    None where last night lacks an hour: what is left of it is no minimum.

    night_flow_ratio([[13.0, 12.0], *[[11.0, 10.0]] * 5]) -> 1.2
    night_flow_ratio([[13.0, 12.0], *[[11.0, 10.0]] * 4]) -> None: four nights are no usual
    night_flow_ratio([[None, 13.0], *[[11.0, 10.0]] * 5]) -> None: the quietest hour may be the one missing
    """
    lowest = [min((hour for hour in night if hour is not None), default=None) for night in nights[: NIGHTS + 1]]
    if not lowest or lowest[0] is None or None in nights[0]:
        return None
    before = [value for value in lowest[1:] if value is not None]
    if len(before) < LEAST_NIGHTS or (usual := median(before)) < LEAST_FLOW:
        return None
    return lowest[0] / usual


def _is_house(highest: Hours) -> bool:
    known = [value for value in highest[BURST_HOURS:DAY] if value is not None]
    return bool(known) and median(known) <= HOUSE_Q4
