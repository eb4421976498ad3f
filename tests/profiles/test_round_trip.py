"""decode(encode(x)) == x up to the wire's resolution, for every shipped model."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from iot_core.model import MetricType, Sample, Uplink
from iot_core.profiles import Encoded, Profile, example_uplink
from iot_core.profiles.bytes_format import BytesFormat
from iot_core.profiles.envelope import LorawanFormat
from iot_core.profiles.fields import Field
from iot_core.profiles.json_format import JsonFormat
from iot_core.profiles.modbus import Point
from iot_core.profiles.places import Bytes
from iot_core.profiles.senml_format import SenmlFormat
from iot_core.profiles.values import Cases, Codec, apply
from tests.profiles.conftest import shipped

START = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
MODELS = [each.model for each in shipped().all()]


def fields_of(profile: Profile, channel: str = "") -> list[Field[Any]]:
    """Each entry that a channel's values are written with."""
    if profile.modbus is not None:
        return [each for name, each in profile.modbus.points if name == channel]
    found: list[Field[Any]] = []
    formats = [profile.format] if profile.format else [route.format for route in profile.routes]
    if profile.address.startswith("lorawan:"):
        formats = formats[:1]  # all network servers carry the same bytes
    for each in formats:
        for inner in each.ports.values() if isinstance(each, LorawanFormat) else [each]:
            if isinstance(inner, JsonFormat):
                found += [field for group in inner.groups if group.channel == channel for field in group.fields]
            if isinstance(inner, BytesFormat):
                for layout in (layout for frame in inner.frames for layout in frame.layout.parts()):
                    mine = [group.fields for group in layout.groups if group.channel == channel]
                    if channel in (layout.channel.known if layout.channel is not None else ("",)):
                        mine.append(layout.fields)
                    found += [field for fields in mine for field in fields]
    return found


def codecs_of(profile: Profile, channel: str = "") -> list[tuple[Codec | Cases, Point | Bytes | None]]:
    """Each codec with the place that limits it; None where the wire takes any number."""
    return [
        (each.codec, each.place if isinstance(each.place, (Point, Bytes)) else None)
        for each in fields_of(profile, channel)
    ]


def _taken(profile: Profile, channel: str, key: str, values: dict[str, Any]) -> bool:
    """Say whether another value stands where this one would: a sentinel and its fault, a size that a switch chooses."""
    codecs = codecs_of(profile, channel)
    mine = [place for codec, place in codecs if key in codec.keys and place is not None]
    return any(place in mine for codec, place in codecs if any(other in values for other in codec.keys if other != key))


@st.composite
def sayable(draw: st.DrawFn, model: str, channel: str) -> dict[str, Any]:  # noqa: C901 - one branch a type
    """Values that the model can say all at once."""
    profile = shipped().get(model)
    values: dict[str, Any] = {}
    wires: dict[str, tuple[Codec, Point | Bytes | None]] = {}
    for codec, wire in codecs_of(profile, channel):
        if isinstance(codec, Cases):
            values.update(draw(st.sampled_from([dict(says) for _, _, says in codec.cases])))
        elif codec.type is not None:
            wires.setdefault(codec.key, (codec, wire))
    from_cases = {key for codec, _ in codecs_of(profile, channel) if isinstance(codec, Cases) for key in codec.keys}
    said = {key for codec, _ in codecs_of(profile, channel) for key in codec.keys} or set(profile.metrics)
    for key in sorted(draw(st.sets(st.sampled_from([key for key in profile.metrics if key in said]), min_size=1))):
        metric = profile.device_class.metric(key)
        assert metric is not None
        if key in from_cases or _taken(profile, channel, key, values):
            continue
        if metric.type is MetricType.BOOL:
            values[key] = draw(st.booleans())
            continue
        if metric.type is MetricType.ENUM:
            mapped = {str(each) for each in wires[key][0].map.values()} if key in wires else set()
            values[key] = draw(st.sampled_from(sorted(mapped or metric.members)))
            continue
        low, high = metric.minimum, metric.maximum
        assert low is not None
        assert high is not None
        found = wires.get(key)
        if found is not None and found[1] is not None and found[1].wire is not None and found[1].wire.kind != "float":
            given_as = next(each.given for each in fields_of(profile, channel) if each.codec is found[0])
            ends = [apply(given_as, apply(found[0].linear, raw)) for raw in found[1].limits]
            low, high = max(low, min(ends)), min(high, max(ends))
        if metric.type is MetricType.INT:
            values[key] = draw(st.integers(math.ceil(low), math.floor(high)))
        else:
            values[key] = draw(st.floats(low, high, allow_nan=False, allow_infinity=False))
        if found is not None and values[key] in found[0].unknown:
            del values[key]
    values = _consistent(values, codecs_of(profile, channel))
    assume(values)
    return values


def _consistent(values: dict[str, Any], codecs: list[tuple[Codec | Cases, Point | Bytes | None]]) -> dict[str, Any]:
    for first, second in _contradictions(codecs):
        if any(key in values for key in first):
            values = {key: value for key, value in values.items() if key not in second}
    return values


def _contradictions(
    codecs: list[tuple[Codec | Cases, Point | Bytes | None]],
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Find entries that share bits, and so cannot say two things at once."""
    placed = [(codec, place) for codec, place in codecs if place is not None]
    found = []
    for index, (one, first) in enumerate(placed):
        for other, second in placed[index + 1 :]:
            same = getattr(first, "at", getattr(first, "address", 0)) == getattr(
                second, "at", getattr(second, "address", 0)
            )
            if same and first.wire == second.wire and (first.mask or -1) & (second.mask or -1):
                found.append((one.keys, tuple(key for key in other.keys if key not in one.keys)))
    return found


def tolerance(profile: Profile, channel: str, key: str, value: float) -> float:
    for codec, wire in codecs_of(profile, channel):
        if isinstance(codec, Codec) and codec.key == key and wire is not None:
            if wire.wire is not None and wire.wire.kind == "float":
                return max(abs(value), 1) * 1e-6
            powers = profile.modbus is not None and any(
                each.power and each.codec is codec for _, each in profile.modbus.points
            )
            if codec.polynomial:
                return codec.step * sum(map(abs, codec.polynomial[1:])) + 1e-6  # as steep as it gets where it is used
            return codec.step / 2 + 1e-6 + (2e-4 * abs(value) if powers else 0)  # four digits and a power of ten
        if isinstance(codec, Codec) and codec.key == key and getattr(profile.format, "message", None) is not None:
            return codec.step / 2 + 1e-6  # protobuf counts in whole numbers
    return max(abs(value), 1) * 1e-8


def _rounds_to_unknown(profile: Profile, channel: str, key: str, value: object) -> bool:
    """Say whether the wire has no word for a value: its nearest one is the sentinel."""
    if not isinstance(value, (int, float)):
        return False
    for codec, _ in codecs_of(profile, channel):
        if isinstance(codec, Codec) and codec.key == key:
            for each in codec.unknown:
                low, high = each if isinstance(each, tuple) else (each, each)
                ends = [
                    end * codec.linear.factor + codec.linear.offset for end in (low, high) if not isinstance(end, str)
                ]
                if ends and min(ends) - codec.step <= value <= max(ends) + codec.step:
                    return True
    return False


def heard(profile: Profile, encoded: Encoded, address: str) -> list[Sample]:
    uplink = Uplink(
        driver="test",
        address=profile.address.replace("{address}", address),
        topic=encoded.topic,
        payload=encoded.payload,
        registers=encoded.registers,
        content_format=encoded.content_format,
        received_at=START,
    )
    decoded = profile.decode(uplink)
    assert list(decoded.problems) == []
    return list(decoded.samples)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), model=st.sampled_from(MODELS))
def test_what_is_encoded_is_decoded_again(data: st.DataObject, model: str) -> None:
    profile = shipped().get(model)
    channel = data.draw(st.sampled_from(profile.channels or ("",)))
    values = data.draw(sayable(model, channel))
    time = START + timedelta(milliseconds=data.draw(st.integers(0, 10**9)))
    native = profile.format is not None and profile.address.startswith("iot:")
    formats = [110, 112] if isinstance(profile.format, SenmlFormat) else [None, 50, 60, 110, 112] if native else [None]
    messages = profile.encode_all(
        values,
        time=time,
        seq=7,
        run="r",
        address="a1",
        content_format=data.draw(st.sampled_from(formats)),
        channel=channel,
    )
    got: dict[str, object] = {}
    for message in messages:
        for sample in heard(profile, message, "a1"):
            memory = sample.element and not isinstance(profile.format, JsonFormat)  # of fixed length: it is filled up
            if sample.channel == channel and not memory:
                got.update(sample.values)
                told = sample.time
                # A device whose clock counts seconds tells the nearest one.
                near = told is None or told == START or abs(told - time) <= timedelta(seconds=0.5)
                assert near or profile.modbus is not None
    for key, value in values.items():
        if key not in got and _rounds_to_unknown(profile, channel, key, value):
            continue
        if isinstance(value, (bool, str)):
            assert got[key] == value, key
        else:
            assert abs(float(str(got[key])) - value) <= tolerance(profile, channel, key, value), key


def test_a_native_message_keeps_time_seq_and_run(profiles: Any) -> None:
    native = profiles.native("water_meter")
    for content_format in (None, 50, 60, 110, 112):
        encoded = native.encode({"volume": 3.5}, time=START, seq=12, run="b7", content_format=content_format)
        (sample,) = heard(native, encoded, "x")
        assert (sample.time, sample.seq, sample.run, sample.values) == (START, 12, "b7", {"volume": 3.5})


def test_registers_fill_every_block_that_is_polled(profile: Profile) -> None:
    if profile.modbus is None:
        return
    for channel in profile.channels:
        registers = profile.modbus.write({}, channel)
        held = {
            (name.partition(":")[0], int(name.partition(":")[2]) + index)
            for name, words in registers.items()
            for index in range(len(words))
        }
        mine = [each.place for name, each in profile.modbus.points if name in {"", channel} and not each.place.optional]
        for point in mine:
            for read in point.reads:
                assert {(read.table, read.address + index) for index in range(read.count)} <= held


def test_what_was_decoded_is_encoded_to_the_same_values(profile: Profile) -> None:
    """Hold encode(decode(x)) to x's values, for every published message: what the wire can say it says again."""
    for example in profile.examples:
        uplink = example_uplink(profile, example)
        for sample in profile.decode(uplink).samples:
            if sample.element or sample.channel not in (profile.channels or ("",)):
                continue  # a memory is never played, nor a channel that only the bytes name
            values: Any = {key: value for key, value in sample.values.items() if key in profile.metrics}
            try:
                messages = profile.encode_all(
                    values, time=START, address="a1", channel=sample.channel, content_format=uplink.content_format
                )
            except ValueError:
                continue  # the manual's own value lies beyond what its type holds
            again: dict[str, object] = {}
            for message in messages:
                for heard_again in profile.decode(as_uplink(profile, message)).samples:
                    if heard_again.channel == sample.channel and not heard_again.element:
                        again.update(heard_again.values)
            for key in values.keys() & again.keys():
                near = tolerance(profile, sample.channel, key, values[key]) if isinstance(values[key], float) else 0
                same = again[key] == values[key] if near == 0 else abs(float(str(again[key])) - values[key]) <= near
                assert same, (example.name, key, again[key], values[key])
            assert again or not messages, example.name


def as_uplink(profile: Profile, encoded: Encoded) -> Uplink:
    return Uplink(
        driver="test",
        address=profile.address.replace("{address}", "a1"),
        topic=encoded.topic,
        payload=encoded.payload,
        registers=encoded.registers,
        content_format=encoded.content_format,
        received_at=START,
    )
