"""Sparkplug B: values by the names of metrics, each with its own time. Aliases are names again before this is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from iot_core import sparkplug
from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Quality, Reason, Sample
from iot_core.profiles.fields import Group, Trace, collect

if TYPE_CHECKING:
    from iot_core.model import Uplink, Value
    from iot_core.profiles.formats import Context
    from iot_core.sparkplug import Payload

__all__ = ["SparkplugFormat"]


@dataclass(slots=True)
class _Moment:
    """What a payload says of one time."""

    time: datetime | None
    said: dict[str, object]
    stale: bool = False


@dataclass(frozen=True, slots=True)
class SparkplugFormat:
    """Values of an edge node or a device behind one. What a BIRTH says is read like DATA; a DEATH is presence only."""

    groups: tuple[Group[object], ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for group in self.groups for key in group.keys))

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(group.channel for group in self.groups)

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        topic = sparkplug.Topic.read(uplink.topic)
        if topic is not None and topic.kind.death:
            return Decoded(online=False)
        try:
            payload = sparkplug.read(uplink.payload)
        except DecodeError as exc:
            return Decoded(problems=(Problem(exc.reason, exc.detail),))
        if trace is not None:
            shown = {each.name or f"alias {each.alias}": each.value for each in payload.metrics}
            trace("sparkplug", "" if topic is None else topic.kind.value, uplink.payload, shown)
        problems: list[Problem] = []
        samples = [
            sample
            for moment in _moments(payload, problems)
            for group in self.groups
            if (sample := _sample(group, moment, problems, trace)) is not None
        ]
        # Only what changed is said, and a node says much of itself: a message without our values is a normal one.
        born = topic is not None and topic.kind.birth
        return Decoded(samples, problems, True if born or not (samples or problems) else None)

    @staticmethod
    def topic(address: str) -> str:
        """Give the topic of data from GROUP/NODE or GROUP/NODE/DEVICE."""
        return sparkplug.Topic.of(address, node=sparkplug.Kind.NDATA, device=sparkplug.Kind.DDATA).text

    def write(self, values: Mapping[str, Value], context: Context) -> Sequence[bytes]:
        time = None if context.time is None else round(context.time.timestamp() * 1000)
        said: dict[str, object] = {}
        for group in self.groups:
            if group.channel and group.channel != context.channel:
                continue
            for each in group.fields:
                raw = each.raw(values) if any(key in values for key in each.codec.keys) else None
                if raw is not None and each.place is not None:
                    said = each.place.place(raw, said)
                    for place, wanted in each.beside:
                        said = place.place(wanted, said)
        metrics = tuple(
            sparkplug.Metric(name=name, time=time, type=sparkplug.type_of(raw), value=raw) for name, raw in said.items()
        )
        seq = None if context.seq is None else context.seq % 256
        return (sparkplug.write(sparkplug.Payload(metrics=metrics, time=time, seq=seq)),)


def _moments(payload: Payload, problems: list[Problem]) -> list[_Moment]:
    """Sort metrics by what they say of time; one that is said twice at one time stands twice."""
    moments: dict[tuple[datetime | None, int], _Moment] = {}
    times_said: dict[tuple[datetime | None, str], int] = {}
    unborn: list[str] = []
    for metric in payload.metrics:
        if not metric.whole:
            unborn.append(metric.name or f"alias {metric.alias}")
            continue
        if metric.value is None or metric.quality == sparkplug.BAD:
            continue  # unknown
        if metric.historical and metric.time is None:
            problems.append(Problem(Reason.NO_TIME, f"{metric.name}: historical", {metric.name: metric.value}))
            continue
        time = _time(payload.time if metric.time is None else metric.time)
        count = times_said[time, metric.name] = times_said.get((time, metric.name), -1) + 1
        found = moments.setdefault((time, count), _Moment(time, {}))
        found.said[metric.name] = metric.value
        found.stale |= metric.quality == sparkplug.STALE
    if unborn:
        named = ", ".join(unborn[:_SHOWN])
        problems.append(
            Problem(Reason.NO_BIRTH, named if len(unborn) <= _SHOWN else f"{named}, ...", {"seq": payload.seq})
        )
    return list(moments.values())


_SHOWN = 8


def _time(milliseconds: int | None) -> datetime | None:
    try:
        return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _sample(group: Group[object], moment: _Moment, problems: list[Problem], trace: Trace | None) -> Sample | None:
    values = collect(group.fields, moment.said, problems, trace)
    extra = collect(group.extra, moment.said, problems, trace) or None
    if not values:
        return None
    quality = Quality.UNCERTAIN if moment.stale else Quality.GOOD
    return Sample(values, moment.time, group.channel, quality=quality, extra=extra)
