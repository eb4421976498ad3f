"""From an uplink to what should be stored of it: identify, decode, check. Pure, no I/O, never raises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from iot_core.errors import DecodeError, NotFoundError
from iot_core.ingest.check import Checker, usable_time
from iot_core.ingest.express import Express
from iot_core.ingest.unpack import GZIP, unpacked
from iot_core.model import FOUND, Decoded, MountedUnit, Observation, Problem, Quality, Reason, Sample, Uplink
from iot_core.profiles.native import JSON, MAX_RUN, MAX_SEQ
from iot_core.store.columns import ClassTable
from iot_core.store.status import Seq

if TYPE_CHECKING:
    from iot_core.profiles import Profiles
    from iot_core.registry.directory import Directory

log = structlog.get_logger()

_JSON: Final = (None, JSON)
_MQTT: Final = "mqtt"
"""The driver whose uplinks come over a broker, which may let a sender go on that we let in no more."""


class Work(msgspec.Struct, gc=False):
    """An uplink on its way through: what to store of it and what to hold."""

    uplink: Uplink
    unit: MountedUnit | None = None
    observations: list[Observation] = []
    problems: list[Problem] = []
    untimed: list[Observation] = []
    """Observations (also in `observations`) without a usable time of their own: `seq` alone tells a redelivery."""
    online: bool | None = None
    numbers: list[Seq] = []
    """Every `seq` it carried, of what is stored and of what is held: the completeness record."""
    timed: bool = False
    """It says a usable time of its own, perhaps in a part that could not be used."""
    replay: bool = False
    """A person asked for it again: it replaces what is stored, whatever its age."""
    dropped: bool = False
    """It is acknowledged and counted, and not kept."""

    @property
    def once(self) -> bool:
        """Whether the same bytes again are the same message again: it says a time or a number of its own."""
        listed = self.uplink.kind == FOUND and self.uplink.registers is None
        return listed or self.timed or bool(self.numbers) or len(self.observations) > len(self.untimed)


class Prepare:
    """Turns uplinks into work, by the registry and the profiles as they are now."""

    def __init__(self, directory: Directory, profiles: Profiles, tables: Mapping[str, ClassTable], most: int) -> None:
        self._directory = directory
        self._profiles = profiles
        self._checkers: dict[str, Checker] = {}
        self._tables = tables
        self.renew()
        self._most = most
        self._polls: dict[int, set[tuple[Reason, str]]] = {}

    def renew(self) -> None:
        """Look at the profiles again, and at tables of classes that are new or changed."""
        for key, table in self._tables.items():
            if key not in self._checkers or self._checkers[key].table is not table:
                self._checkers[key] = Checker(table)
        # By profile: those that speak the native contract, whose plain messages are read the short way.
        self._express = {
            profile.model: Express(self._tables[profile.class_key])
            for profile in self._profiles.all()
            if profile.native and profile.class_key in self._tables
        }
        self._life_safety = frozenset(key for key, checker in self._checkers.items() if checker.life_safety)
        self._faulty: set[str] = set()

    def __call__(self, uplink: Uplink, *, replay: bool = False) -> Work:
        """Prepare one uplink; a replay of it replaces what is stored."""
        work = self._prepared(uplink, replay=replay)
        if self._directory.worked_at:
            self._mark(work.observations)
        return work

    def _mark(self, observations: Sequence[Observation]) -> None:
        """Mark what was measured while somebody worked at its device, as `extra.window`: it is kept like any other."""
        for each in observations:
            window = self._directory.window(each.device_id, each.time)
            if window is not None:
                each.extra = {**(each.extra or {}), "window": window.mark}

    def _prepared(self, uplink: Uplink, *, replay: bool) -> Work:
        unit = self._directory.at(uplink.address)
        if unit is None:
            return self._of_who_left(uplink, replay=replay) or Work(uplink, problems=[Problem(Reason.UNKNOWN_ADDRESS)])
        if uplink.kind == FOUND:
            return self._found(uplink, unit)
        revoked = unit.revoked and uplink.driver == _MQTT
        observation = None if replay or revoked else self._by_express(uplink, unit)
        if observation is not None and self._directory.owner(unit, observation.time) is unit:
            seq = observation.seq
            numbers = [] if seq is None else [(unit.unit_id, observation.run, seq)]
            return Work(uplink, unit, [observation], numbers=numbers)
        try:
            return self._of_revoked(uplink, unit) if revoked else self._work(uplink, unit, replay=replay)
        except Exception as exc:
            # A fault of ours or of a codec's. Raised, it would end the worker and come again after each start.
            if unit.profile not in self._faulty:
                self._faulty.add(unit.profile)
                log.exception("ingest.profile_failed", profile=unit.profile)
            return Work(uplink, unit, problems=[Problem(Reason.WRONG_FORMAT, type(exc).__name__)])

    def _of_who_left(self, uplink: Uplink, *, replay: bool) -> Work | None:
        """Store what a unit still had queued when its device got one at another address; None where nothing is its own.

        Only a time of its own proves that: what says none was said by whoever is there now, and waits in the inbox.
        """
        if uplink.retained or uplink.kind == FOUND:
            return None
        for owner in self._directory.left(uplink.address):
            if owner.revoked and uplink.driver == _MQTT:
                continue
            try:
                decoded = self._decode(owner, uplink)
            except Exception:
                log.exception("ingest.profile_failed", profile=owner.profile)
                continue
            own = [each for each in decoded.samples if each.time and self._directory.was_mounted(owner, each.time)]
            if own:
                work = Work(uplink, owner, replay=replay)
                for sample in own:
                    self._add(work, owner, sample, alone=True)
                others = [each for each in decoded.samples if each not in own]
                work.problems.extend(Problem(Reason.UNKNOWN_ADDRESS, part=dict(each.values)) for each in others)
                work.problems.extend(decoded.problems)
                return work
        return None

    def _of_revoked(self, uplink: Uplink, unit: MountedUnit) -> Work:
        """Hold what is said as a unit whose credentials were taken back; that it is gone is its broker's word."""
        if uplink.kind == "status" and self._decode(unit, uplink).online is False:
            return Work(uplink, unit, online=False)
        return Work(uplink, unit, problems=[Problem(Reason.REVOKED)])

    def _found(self, uplink: Uplink, unit: MountedUnit) -> Work:
        """Store what a scan read, as far as the unit's own model reads the same; who is registered is no news."""
        if uplink.registers is None:
            return Work(uplink, unit)
        work = self._work(uplink, unit, replay=False)
        work.problems = []
        self._polls.pop(unit.unit_id, None)  # what is wrong with it says nothing of the next poll
        return work

    def limited(self, address: str) -> bool:
        """Say whether a sender has a rate limit: those that people's lives hang on have none."""
        unit = self._directory.at(address)
        if unit is None:
            return False  # strangers have a bound of their own
        fed = (unit.device_id, *unit.channels.values())
        classes = {self._directory.class_of(unit, each) for each in fed}
        return all(key in self._checkers and not self._checkers[key].life_safety for key in classes)

    def urgent(self, address: str) -> bool:
        """Say whether lives hang on what a sender says. Asked of every uplink: two look-ups."""
        unit = self._directory.at(address)
        if unit is None:
            return False
        if not unit.channels:
            return unit.class_key in self._life_safety
        fed = (unit.device_id, *unit.channels.values())
        return any(self._directory.class_of(unit, each) in self._life_safety for each in fed)

    def above_limit(self, uplink: Uplink, *, sampled: bool) -> Work:
        """Make the work of an uplink above its sender's limit: nothing to store, and to hold only if it is a sample."""
        problem = Problem(Reason.RATE, "above the device's rate limit; others like it are counted only")
        return Work(uplink, self._directory.at(uplink.address), problems=[problem], dropped=not sampled)

    def _by_express(self, uplink: Uplink, unit: MountedUnit) -> Observation | None:
        express = self._express.get(unit.profile)
        if express is None or uplink.retained or uplink.kind != "telemetry" or uplink.content_format not in _JSON:
            return None
        return express(uplink, unit) if len(uplink.payload) <= self._most else None

    def _work(self, uplink: Uplink, unit: MountedUnit, *, replay: bool) -> Work:
        work = Work(uplink, unit, replay=replay)
        decoded = self._decode(unit, uplink)
        work.online = decoded.online
        work.problems.extend(decoded.problems)
        if unit.address.startswith("iot:"):
            work.numbers.extend((unit.unit_id, run, seq) for run, seq in _numbers_held(decoded.problems))
        if uplink.retained:
            self._refuse_retained(work, decoded.samples)
            return work
        earlier = self._add_own(work, unit, decoded.samples)
        for owner in earlier:
            again = self._decode(owner, uplink)
            work.problems.extend(again.problems)
            mine = [each for each in again.samples if each.time and self._directory.owner(unit, each.time) is owner]
            for sample in mine:
                self._add(work, owner, sample, alone=True)
        if not (work.observations or work.problems or decoded.online is not None):
            work.problems.append(Problem(Reason.NO_VALUES))
        if uplink.registers is not None and not replay:
            self._hold_changes_only(work, unit)
        return work

    def _hold_changes_only(self, work: Work, unit: MountedUnit) -> None:
        """Hold what is wrong with a poll when it changes: the same registers refused every minute are one fact."""
        wrong = {(problem.reason, problem.detail) for problem in work.problems}
        before, self._polls[unit.unit_id] = self._polls.get(unit.unit_id, set()), wrong
        work.problems = [problem for problem in work.problems if (problem.reason, problem.detail) not in before]

    def _add_own(self, work: Work, unit: MountedUnit, samples: Sequence[Sample]) -> list[MountedUnit]:
        """Add what is this unit's own; give back earlier units at its address whose time some samples tell."""
        several = _several_times(samples)
        earlier: list[MountedUnit] = []
        for sample in samples:
            owner = self._directory.owner(unit, sample.time) if sample.time else unit
            if owner is unit:
                self._add(work, unit, sample, alone=not sample.element and sample.channel not in several)
            elif owner not in earlier:
                earlier.append(owner)
        return earlier

    def _decode(self, unit: MountedUnit, uplink: Uplink) -> Decoded:
        if len(uplink.payload) > self._most:
            return Decoded(problems=[Problem(Reason.TOO_LARGE, f"{len(uplink.payload)} > {self._most}")])
        try:
            profile = self._profiles.get(unit.profile)
            if uplink.payload[:1] == GZIP:
                opened = unpacked(uplink.payload, self._most, text=profile.native)
                uplink = msgspec.structs.replace(uplink, payload=opened)
            return profile.decode(uplink)
        except NotFoundError:
            return Decoded(problems=[Problem(Reason.PROFILE, f"profile {unit.profile} is not installed")])
        except DecodeError as exc:
            return Decoded(problems=[Problem(exc.reason, exc.detail)])

    @staticmethod
    def _refuse_retained(work: Work, samples: Sequence[Sample]) -> None:
        """Hold the readings of a retained message: it may be of any age, so it restores presence only."""
        if samples:
            work.problems.append(Problem(Reason.RETAINED))

    def _add(self, work: Work, unit: MountedUnit, sample: Sample, *, alone: bool) -> None:
        uplink = work.uplink
        sample = _countable(sample)
        if sample.seq is not None:
            work.numbers.append((unit.unit_id, sample.run, sample.seq))
        device_id = unit.channels.get(sample.channel, unit.device_id if sample.channel == "" else None)
        if device_id is None:
            work.problems.append(Problem(Reason.UNKNOWN_ADDRESS, f"channel {sample.channel}", dict(sample.values)))
            return
        class_key = self._directory.class_of(unit, device_id)
        checker = self._checkers.get(class_key)
        if checker is None:
            work.problems.append(_unused(Reason.PROFILE, sample, device_id, f"class {class_key} is not installed"))
            return
        time, quality = sample.time, sample.quality
        timed = usable_time(time, uplink.received_at)
        if timed:
            work.timed = True
        else:
            if not alone:
                work.problems.append(_unused(Reason.NO_TIME, sample, device_id))
                return
            time, quality = uplink.received_at, max(quality, Quality.UNCERTAIN)
        assert time is not None
        if uplink.received_at - time > checker.window and not work.replay:
            work.problems.append(_unused(Reason.TOO_OLD, sample, device_id))
            return
        values, bad, problems = checker.values(sample)
        work.problems.extend(replace(problem, device_id=device_id) for problem in problems)
        if not values and not sample.extra:
            return
        observation = Observation(
            device_id=device_id,
            unit_id=unit.unit_id,
            class_key=class_key,
            time=time,
            received_at=uplink.received_at,
            values=values,
            quality=quality,
            bad=bad,
            correction=sample.correction or work.replay,
            seq=sample.seq,
            run=sample.run,
            extra=sample.extra,
            simulated=unit.simulated,
        )
        work.observations.append(observation)
        if not timed:
            work.untimed.append(observation)


def _numbers_held(problems: Sequence[Problem]) -> Iterator[tuple[str, int]]:
    """Find the numbers of native objects that are held whole, such as an array's element without a time."""
    for problem in problems:
        part = problem.part
        if isinstance(part, dict) and type(part.get("seq")) is int and isinstance(run := part.get("run") or "", str):
            number = _countable(Sample({}, seq=part["seq"], run=run))
            if number.seq is not None:
                yield number.run, number.seq


def _countable(sample: Sample) -> Sample:
    """Take away a vendor's number that no range can keep: the values stand, and their time tells a redelivery."""
    if sample.seq is None or (0 <= sample.seq <= MAX_SEQ and len(sample.run) <= MAX_RUN and "\0" not in sample.run):
        return sample
    return replace(sample, seq=None, run="")


def _several_times(samples: Sequence[Sample]) -> set[str]:
    """Name the channels that speak more than once in an uplink: there each element needs its own time."""
    if len(samples) < 2:
        return set()
    seen: set[str] = set()
    return {sample.channel for sample in samples if sample.channel in seen or seen.add(sample.channel)}  # type: ignore[func-returns-value]


def _unused(reason: Reason, sample: Sample, device_id: int, detail: str = "") -> Problem:
    said = sample.time.isoformat() if sample.time else "no time"
    return Problem(reason, detail or said, dict(sample.values), device_id)
