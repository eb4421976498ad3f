"""Escalation chains: who is told next while nobody takes an alarm. Pure; the rows are in chains.py.

raised --after--> step 1's target --after--> step 2's --after--> ... last one's, again every `repeat_s`
   '- acknowledged: quiet, but told again at the times of `remind` while it stays open
   '- acknowledgement undone, or it rises: from the first step
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

from iot_core import hours
from iot_core.errors import RequestError
from iot_core.model import is_key

__all__ = ["Chain", "Ring", "Stage", "Step", "check", "first", "next_ring"]

_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
LONGEST_S: Final = 7 * 24 * 3600


class Stage(StrEnum):
    """Where an alarm stands on its chain."""

    WAITING = "waiting"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """After this long without an acknowledgement, tell this target; outside its hours it is passed over."""

    after_s: int
    target: str
    hours: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Steps in order, how often the last one is repeated, and the times of day that an open alarm is named again."""

    steps: Sequence[Step]
    repeat_s: int = 900
    remind: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Ring:
    """What is to be done now (`target` None: nothing), and when to look again (None: there is nothing more to do)."""

    target: str | None
    step: int
    due_at: datetime | None


def check(steps: Sequence[Step], repeat_s: int, remind: Sequence[str]) -> Chain:
    """Make a chain of what a person said. Raises RequestError."""
    if not steps or len(steps) > 20:
        raise RequestError("chain.steps")
    for step in steps:
        if not is_key(step.target) or not 0 < step.after_s <= LONGEST_S:
            raise RequestError("chain.step", target=step.target, seconds=step.after_s)
        hours.parse(step.hours)
    if not 10 <= repeat_s <= LONGEST_S:
        raise RequestError("chain.repeat", seconds=repeat_s)
    for clock in remind:
        if _CLOCK.fullmatch(clock) is None:
            raise RequestError("chain.remind", time=clock)
    return Chain(steps=tuple(steps), repeat_s=repeat_s, remind=tuple(sorted(set(remind))))


def of(row: Any) -> Chain:
    """Read a chain as it is kept."""
    return Chain(steps=tuple(Step(**step) for step in row["steps"]), repeat_s=row["repeat_s"], remind=row["remind"])


def first(chain: Chain, raised_at: datetime) -> datetime:
    """Say when the first step is due."""
    return raised_at + timedelta(seconds=chain.steps[0].after_s)


def next_ring(
    chain: Chain, stage: Stage, step: int, now: datetime, *, zone: str, holidays: AbstractSet[date] = frozenset()
) -> Ring:
    """Decide what a due row does. `step` is the number of the step that is due; past the end it is the last, again."""
    if stage is Stage.TAKEN:
        return Ring(chain.steps[0].target, step, reminder(chain, now, zone))
    number = min(step, len(chain.steps) - 1)
    open_now = hours.within(chain.steps[number].hours, now, zone, holidays)
    if number + 1 < len(chain.steps):
        pause = chain.steps[number + 1].after_s if open_now else 0  # who is not there is passed over at once
        return Ring(chain.steps[number].target if open_now else None, number + 1, now + timedelta(seconds=pause))
    # Repeated until someone takes it: by the last one who is there now.
    there = [each for each in chain.steps if hours.within(each.hours, now, zone, holidays)]
    target = there[-1].target if there else chain.steps[-1].target
    return Ring(target, number, now + timedelta(seconds=chain.repeat_s))


def reminder(chain: Chain, now: datetime, zone: str) -> datetime | None:
    """Say when an acknowledged, open alarm is named next."""
    local = now.astimezone(ZoneInfo(zone))
    moments = [
        datetime(day.year, day.month, day.day, int(clock[:2]), int(clock[3:]), tzinfo=ZoneInfo(zone))
        for day in (local.date(), local.date() + timedelta(days=1))
        for clock in chain.remind
    ]
    return min((moment for moment in moments if moment > now), default=None)
