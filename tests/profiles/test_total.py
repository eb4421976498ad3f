"""Decoding is total: any bytes, registers or JSON give values or a Problem, never an exception, in bounded time."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import Any

import cbor2
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iot_core.model import Decoded, Reason, Uplink
from iot_core.profiles import Profile, Profiles, example_uplink
from iot_core.profiles.envelope import LorawanFormat
from tests.profiles.conftest import shipped

CALM = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
"""For each of the models."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=20,
)
FORMATS = st.sampled_from([None, 0, 50, 60, 110, 112])


def decode(profile: Profile, payload: bytes, content_format: int | None = None, topic: str = "") -> Decoded:
    uplink = Uplink(driver="t", address="t", topic=topic, payload=payload, content_format=content_format)
    decoded = profile.decode(uplink)
    said = decoded.samples or decoded.problems or decoded.online is not None
    assert said, "an uplink that leaves no trace"
    msgspec.json.encode([problem.part for problem in decoded.problems])
    return decoded


def topics(profile: Profile) -> list[str]:
    return [route.concrete("a1") for route in profile.routes] or [""]


@CALM
@given(data=st.data(), payload=st.binary(max_size=80), content=FORMATS)
def test_any_bytes(profile: Profile, data: st.DataObject, payload: bytes, content: int | None) -> None:
    topic = data.draw(st.sampled_from(topics(profile)))
    decode(profile, payload, content, topic)
    lorawan = next((route.format for route in profile.routes if isinstance(route.format, LorawanFormat)), None)
    if lorawan is not None:
        inner = data.draw(st.sampled_from([payload, *(damaged(data, each) for each in inner_bytes(profile))]))
        port = data.draw(st.sampled_from([*lorawan.ports, 85]))
        envelope = {"deviceInfo": {}, "fPort": port, "data": base64.b64encode(inner).decode()}
        decode(profile, msgspec.json.encode(envelope), None, profile.routes[0].concrete("a1"))


def inner_bytes(profile: Profile) -> list[bytes]:
    """Take the device's own bytes out of the envelopes of the examples."""
    found: list[bytes] = []
    for example in profile.examples:
        try:
            message = msgspec.json.decode(example_uplink(profile, example).payload)
            found.append(base64.b64decode(message["data"]))
        except (msgspec.DecodeError, ValueError, KeyError, TypeError):
            continue
    return found


def damaged(data: st.DataObject, whole: bytes) -> bytes:
    """Turn some bytes over, cut the end off, or put something behind it."""
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    kept = changed[: data.draw(st.integers(0, len(changed)))] if data.draw(st.booleans()) else changed
    return bytes(kept) + data.draw(st.binary(max_size=4))


def names_of(profile: Profile) -> list[str]:
    """Words that the model's own examples use, so that random objects come close to the real ones."""
    found: set[str] = {"time", "seq", "run", "quality", "correction", "extra", *profile.metrics}
    for example in profile.examples:
        found |= {word for word in str(example.given["payload"]).replace("\\", '"').split('"') if word.isidentifier()}
    return sorted(found)


@CALM
@given(data=st.data(), content=FORMATS)
def test_any_json_and_cbor(profile: Profile, data: st.DataObject, content: int | None) -> None:
    names = st.sampled_from(names_of(profile)) | st.text(max_size=8)
    like = st.dictionaries(names, JSON | st.dictionaries(names, JSON, max_size=4), max_size=6)
    said = data.draw(JSON | like | st.lists(like, max_size=3))
    topic = data.draw(st.sampled_from(topics(profile)))
    decode(profile, msgspec.json.encode(said), content, topic)
    decode(profile, cbor2.dumps(said), content, topic)


@CALM
@given(data=st.data())
def test_damaged_examples(profile: Profile, data: st.DataObject) -> None:
    uplink = example_uplink(profile, data.draw(st.sampled_from(profile.examples)))
    decode(profile, damaged(data, uplink.payload), uplink.content_format, uplink.topic)


@CALM
@given(data=st.data())
def test_any_words_in_the_registers_of_the_model(profile: Profile, data: st.DataObject) -> None:
    if profile.modbus is None:
        return
    words = st.sampled_from([0, 1, 0x7FC0, 0x7FFF, 0x8000, 0xFFFF]) | st.integers(0, 0xFFFF)
    channels = [name for name in profile.channels if name][:2]
    registers = {
        f"{read.table}:{read.address}": data.draw(st.lists(words, min_size=read.count // 2, max_size=read.count))
        for read in profile.modbus.reads(0, channels)
    }
    decoded = profile.decode(Uplink(driver="modbus", address="modbus://x/1", registers=registers))
    assert decoded.samples or decoded.problems


@CALM
@given(
    registers=st.dictionaries(
        st.sampled_from(
            [
                "holding:0",
                "input:0",
                "holding:5",
                "input:1",
                "coil:0",
                "holding:8",
                "input:65530",
                "x:1",
                "holding:",
                "input:-1",
            ]
        )
        | st.text(max_size=10),
        st.lists(st.integers(-5, 70_000), max_size=40),
        max_size=4,
    )
)
def test_any_registers(registers: dict[str, list[int]]) -> None:
    for profile in shipped().all():
        if profile.modbus is not None:
            uplink = Uplink(driver="modbus", address="modbus://x/1", registers=registers)
            decoded = profile.decode(uplink)
            assert decoded.samples or decoded.problems
        else:
            assert profile.decode(Uplink(driver="modbus", address="x", registers=registers)).problems


def reasons(profiles: Profiles, payload: bytes, content_format: int | None = None) -> list[Reason]:
    return [each.reason for each in decode(profiles.native("air_quality"), payload, content_format).problems]


def test_each_kind_of_nonsense_has_its_reason(profiles: Profiles) -> None:
    assert reasons(profiles, b"") == [Reason.EMPTY]
    assert reasons(profiles, b"  \n") == [Reason.EMPTY]
    assert reasons(profiles, b"hello") == [Reason.NOT_JSON]
    assert reasons(profiles, b'{"pm25": "\xff"}') == [Reason.NOT_TEXT]
    assert reasons(profiles, b'{"pm25": "\\ud800"}') == [Reason.NOT_TEXT]
    assert reasons(profiles, b"17") == [Reason.NOT_AN_OBJECT]
    assert reasons(profiles, b"[]") == [Reason.NO_VALUES]
    assert reasons(profiles, b"{}") == [Reason.NO_VALUES]
    assert reasons(profiles, b'{"pm25": 1', 50) == [Reason.NOT_JSON]
    assert reasons(profiles, b"{}", 41) == [Reason.WRONG_FORMAT]
    assert reasons(profiles, b"\xff", 60) == [Reason.NOT_CBOR]
    assert reasons(profiles, b"{}", 110) == [Reason.NOT_SENML]
    assert reasons(profiles, b'[{"v": 1}]', 110) == [Reason.NOT_SENML]


def test_deep_nesting_is_refused_without_recursion(profiles: Profiles) -> None:
    assert reasons(profiles, b"[" * 200_000) == [Reason.TOO_DEEP]
    assert reasons(profiles, b'{"a":' * 40 + b"1" + b"}" * 40) == [Reason.TOO_DEEP]
    assert reasons(profiles, b'{"a":NaN,"b":' + b"[" * 100_000) == [Reason.TOO_DEEP]
    assert reasons(profiles, b"\x81" * 100_000, 60) == [Reason.TOO_DEEP]
    assert reasons(profiles, b"\x81" * 100_000, 112) == [Reason.TOO_DEEP]


def test_tagged_cbor_is_refused_since_tags_can_be_bombs(profiles: Profiles) -> None:
    shared: list[Any] = []
    for _ in range(14):
        shared = [shared, shared]
    bomb = cbor2.dumps(shared, value_sharing=True)
    rational = cbor2.dumps(cbor2.CBORTag(30, [1, 2]))
    large = cbor2.dumps({"pm25": cbor2.CBORTag(4, [10**9, 1])})
    odd = [cbor2.dumps({"pm25": cbor2.CBORTag(4, each)}) for each in ([1], "x", [0.5, 1], [1, "2"], {1: 2})]
    for payload in (bomb, rational, cbor2.dumps(cbor2.CBORTag(35, "(a+)+")), large, *odd):
        assert reasons(profiles, payload, 60) == [Reason.NOT_CBOR]


def test_times_and_decimal_fractions_of_cbor_are_read(profiles: Profiles) -> None:
    tenths, when = cbor2.CBORTag(4, [-1, 374]), datetime(2026, 11, 20, 1, tzinfo=UTC)
    own = profiles.native("air_quality")
    for said in (cbor2.CBORTag(0, "2026-11-20T08:00:00+07:00"), cbor2.CBORTag(1, int(when.timestamp()))):
        (sample,) = decode(own, cbor2.dumps({"time": said, "pm25": tenths}), 60).samples
        assert (sample.values, sample.time) == ({"pm25": 37.4}, when)
    (sample,) = decode(own, cbor2.dumps([{0: "pm25", 2: tenths}]), 112).samples
    assert sample.values == {"pm25": 37.4}


def test_a_large_message_is_read_in_bounded_time(profiles: Profiles) -> None:
    models = (profiles.native("air_quality"), profiles.get("ucifi-air-quality"), profiles.get("airrohr"))
    payloads = [
        (b'{"pm25": "' + b"\\u0041" * 50_000 + b'"}', None),
        (b"[" + b'{"pm25":1},' * 20_000 + b'{"pm25":1}]', None),
        (b'{"pm25": ' + b"9" * 250_000 + b"}", None),
        (cbor2.dumps([{"pm25": 1}] * 20_000), 60),
        (b"[" + b'{"n":"pm25","v":1},' * 10_000 + b'{"n":"pm25","v":1}]', 110),
        (b"[" + b"".join(b'{"n":"pm25","v":1,"t":%d},' % -n for n in range(9000)) + b'{"n":"pm25","v":1}]', 110),
    ]
    for payload, content_format in payloads:
        for model in models:
            started = time.process_time()
            decode(model, payload, content_format)
            assert time.process_time() - started < 1, (model.model, payload[:30])
