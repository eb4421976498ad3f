"""Coincidence of detectors: so many different ones within a time of each other.

Source: EN 54-2 clause 7.12, dependency on more than one alarm signal: the confirming signal comes from another detector
of the same zone, and is not held off for more than 60 s after the first (type A).

    confirmed([Signal(1, 10:00:00, None), Signal(2, 10:00:45, None)], 2, 60 s) -> 10:00:45
    confirmed([Signal(1, 10:00:00, 10:00:20), Signal(2, 10:01:30, None)], 2, 60 s) -> None: over for 70 s
    confirmed([Signal(1, 10:00:00, None), Signal(1, 10:00:45, None)], 2, 60 s) -> None: one detector said both
    confirmed([Signal(1, 09:00:00, None), Signal(2, 10:00:45, None)], 2, 60 s, fresh=True) -> None: an old one
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["Signal", "confirmed"]


@dataclass(frozen=True, slots=True)
class Signal:
    """What one source said: since when, and until when if it is over."""

    source: int
    since: datetime
    until: datetime | None


def confirmed(signals: Iterable[Signal], least: int, within: timedelta, *, fresh: bool = False) -> datetime | None:
    """Give the time at which `least` different sources held, or had ceased at most `within` before; else None.

    `fresh`: only those that began at most `within` before, and stand: what has recovered is no part of an outage.
    """
    known = sorted(signals, key=lambda signal: signal.since)
    for signal in known:
        at = signal.since
        held = {
            each.source
            for each in known
            if each.since <= at
            and (each.until is None or each.until >= at - within)
            and (not fresh or (each.until is None and each.since >= at - within))
        }
        if len(held) >= least:
            return at
    return None
