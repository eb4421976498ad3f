"""The verdict: what the devices said held against what the tables have, observation by observation. Pure.

lost       an observation (device, time, values) without its row
duplicate  a row that nobody sent
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

import msgspec

from iot_core.model import DeviceClass, MetricType, Value
from simulators.ledger import PROTOCOLS, Sent

ARRIVES_WITHIN = timedelta(seconds=120)
"""How long after it was sent an observation without a time of its own may get its arrival time."""
CLOCK_STEP = timedelta(seconds=1)
FLOAT32 = 1.2e-7


@dataclass(frozen=True, slots=True)
class Stored:
    """One row of a telemetry table, its empty metrics left out."""

    device: str
    time: datetime
    received_at: datetime
    values: Mapping[str, Value]

    @property
    def id(self) -> tuple[str, datetime]:
        """What makes a row one."""
        return self.device, self.time


Same = Callable[[Mapping[str, Value], Mapping[str, Value]], bool]


def same_values(device_class: DeviceClass) -> Same:
    """Give the comparison of a class: rounded as declared, and as a `real` column keeps it."""
    half = {
        metric.key: 0.5000001 * 10.0**-metric.precision if metric.type is MetricType.FLOAT else 0.0
        for metric in device_class.metrics
    }

    def same(said: Mapping[str, Value], stored: Mapping[str, Value]) -> bool:
        return said.keys() == stored.keys() and all(
            value == stored[key] or _near(value, stored[key], half.get(key, 0.0)) for key, value in said.items()
        )

    return same


def _near(said: Value, stored: Value, half: float) -> bool:
    if isinstance(said, bool | str) or isinstance(stored, bool | str):
        return False
    return abs(said - stored) <= half + abs(said) * FLOAT32


@dataclass(slots=True)
class Matched:
    """Observations with their rows, those without, and rows without an observation."""

    found: list[tuple[Sent, Stored]] = field(default_factory=list)
    lost: list[Sent] = field(default_factory=list)
    unsent: list[Stored] = field(default_factory=list)


def match(sent: Iterable[Sent], rows: Iterable[Stored], same: Mapping[str, Same]) -> Matched:
    """Find the row of each observation. `same` compares the values of a device, by its key."""
    result = Matched()
    said: defaultdict[str, list[Sent]] = defaultdict(list)
    have: defaultdict[str, dict[datetime, Stored]] = defaultdict(dict)
    for line in sent:
        said[line.device].append(line)
    for row in rows:
        have[row.device][row.time] = row
    for device in said.keys() | have.keys():
        _match_device(said[device], have[device], same[device], result)
    return result


def _match_device(sent: Sequence[Sent], rows: dict[datetime, Stored], same: Same, result: Matched) -> None:
    timed = sorted((line for line in sent if line.time is not None), key=_time)
    for time, together in groupby(timed, key=_time):
        lines = list(together)
        said = {key: value for line in reversed(lines) for key, value in line.values.items()}
        if time in rows and same(said, rows[time].values):
            row = rows.pop(time)
            result.found += [(line, row) for line in lines]
        else:
            result.lost += lines
    left = sorted(rows.values(), key=lambda row: row.received_at)
    for line in (line for line in sent if line.time is None):
        arrived = next((row for row in left if _can_be(line, row) and same(line.values, row.values)), None)
        if arrived is None:
            result.lost.append(line)
        else:
            left.remove(arrived)
            result.found.append((line, arrived))
    result.unsent += left


def _time(line: Sent) -> datetime:
    assert line.time is not None
    return line.time


def _can_be(line: Sent, row: Stored) -> bool:
    """Say whether a row's arrival fits an observation that said no time.

    A Modbus cycle is sent when its last register is answered, which is just before or after the poller's own clock.
    """
    return line.sent_at - CLOCK_STEP <= row.received_at <= line.sent_at + ARRIVES_WITHIN


@dataclass(slots=True)
class Account:
    """What has been settled so far, and what is still open. Rows received before `since` are settled."""

    since: datetime
    stored: Counter[str] = field(default_factory=Counter)
    published: Counter[str] = field(default_factory=Counter)
    lost: list[Sent] = field(default_factory=list)
    unsent: list[Stored] = field(default_factory=list)
    open: list[Sent] = field(default_factory=list)
    claimed: dict[tuple[str, datetime], datetime] = field(default_factory=dict)
    """Rows of settled observations that the next look at the tables will find again, and when they came."""

    def settle(
        self, sent: Sequence[Sent], rows: Iterable[Stored], same: Mapping[str, Same], before: datetime
    ) -> Matched:
        """Take what was newly sent, and the rows received from `since` on; close what was sent before `before`.

        What is closed stays so: two looks at once may come in either order, and no row is remembered behind `since`.
        """
        before = max(before, self.since)
        for line in sent:
            self.published[line.protocol] += 1
        known = [row for row in rows if row.id not in self.claimed]
        matched = match([*self.open, *sent], known, same)
        self.open = [line for line in matched.lost if line.sent_at >= before]
        self.lost += [line for line in matched.lost if line.sent_at < before]
        for line, row in matched.found:
            if line.sent_at < before or row.received_at < before:
                self.stored[line.protocol] += 1
                self.claimed[row.id] = row.received_at
            else:
                self.open.append(line)
        self.unsent += [row for row in matched.unsent if row.received_at < before]
        self.claimed = {key: at for key, at in self.claimed.items() if at >= before}
        self.since = before
        return matched


def numbers(counts: Counter[str]) -> Numbers:
    """Name every protocol, those with nothing too; cameras only where there are some."""
    return Numbers(**by_protocol(counts))


def percentile(values: Sequence[float], part: float) -> float | None:
    """Give the value below which `part` of the values lie (nearest rank); None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered) - 1e-9) - 1)]


def by_protocol(counts: Counter[str]) -> dict[str, int]:
    """Count by protocol, for a sentence; what is asked for its health only where there is some."""
    cameras = {"camera": counts["camera"]} if "camera" in counts else {}
    return {protocol: counts[protocol] for protocol in PROTOCOLS} | cameras


class Numbers(msgspec.Struct, frozen=True):
    """Observations by protocol; `camera`: looks that a camera answered."""

    mqtt: int
    coap: int
    modbus: int
    camera: int | msgspec.UnsetType = msgspec.UNSET


class AlarmNumbers(msgspec.Struct, frozen=True):
    """Raised alarms: in the tables, delivered by the outbox, received by the center with a right signature."""

    raised: int
    pushed: int
    received: int


class Percentiles(msgspec.Struct, frozen=True):
    """Of milliseconds."""

    p50: float | None
    p99: float | None


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from sending to the commit, and from the first smoke to its receipt."""

    commit: Percentiles
    fire_to_receipt: float | None


class Faults(msgspec.Struct, frozen=True):
    """Devices by the fault they were given, and messages that nobody can read: each of those must be held."""

    devices: dict[str, int]
    broken: int


class Verdict(msgspec.Struct, frozen=True):
    """The last line of the demo. `faults` only where some were asked for."""

    published: Numbers
    stored: Numbers
    lost: int
    duplicate: int
    held: int
    alarms: AlarmNumbers
    latency_ms: Latency
    faults: Faults | msgspec.UnsetType = msgspec.UNSET

    @property
    def good(self) -> bool:
        """Say whether nothing was lost, nothing doubled, what cannot be read is held, and a fire arrived."""
        kept = not self.faults or self.held >= self.faults.broken
        return kept and not self.lost and not self.duplicate and self.latency_ms.fire_to_receipt is not None
