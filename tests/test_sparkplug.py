"""Sparkplug B's payload, read as somebody else writes it."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iot_core import sparkplug
from iot_core.errors import DecodeError
from iot_core.model import Reason
from iot_core.sparkplug import Metric, Payload, Topic
from tests import sparkplug_wire as wire
from tests.sparkplug_wire import Said

RANGES = {
    wire.INT8: (-(2**7), 2**7 - 1),
    wire.INT16: (-(2**15), 2**15 - 1),
    wire.INT32: (-(2**31), 2**31 - 1),
    wire.INT64: (-(2**63), 2**63 - 1),
    wire.UINT8: (0, 2**8 - 1),
    wire.UINT16: (0, 2**16 - 1),
    wire.UINT32: (0, 2**32 - 1),
    wire.UINT64: (0, 2**64 - 1),
    wire.DATETIME: (0, 2**63),
}
TIMES = st.none() | st.integers(0, 2**53)


@st.composite
def said(draw: st.DrawFn) -> Said:
    kind = draw(st.sampled_from([*RANGES, wire.FLOAT, wire.DOUBLE, wire.BOOLEAN, wire.STRING]))
    value: Any
    if kind in RANGES:
        value = draw(st.integers(*RANGES[kind]))
    elif kind in {wire.FLOAT, wire.DOUBLE}:
        value = draw(st.floats(width=32 if kind == wire.FLOAT else 64, allow_nan=False))
    else:
        value = draw(st.booleans() if kind == wire.BOOLEAN else st.text(max_size=12))
    null = draw(st.booleans())
    return Said(
        name=draw(st.text(min_size=1, max_size=12)), alias=draw(st.none() | st.integers(0, 2**64 - 1)),
        time=draw(TIMES), type=kind, value=None if null else value, null=null, historical=draw(st.booleans()),
        quality=draw(st.sampled_from([None, 0, 192, 500])),
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(metrics=st.lists(said(), max_size=6), time=TIMES, seq=st.none() | st.integers(0, 255))
def test_what_is_written_byte_by_byte_is_read_as_it_was_meant(
    metrics: list[Said], time: int | None, seq: int | None
) -> None:
    payload = wire.payload(*metrics, time=time, seq=seq)
    assume(payload)  # nothing at all is empty, and refused
    found = sparkplug.read(payload)
    assert [(each.name, each.alias, each.time, each.value, each.historical) for each in found.metrics] == [
        (each.name, each.alias, each.time, each.value, each.historical) for each in metrics
    ]
    assert [each.quality for each in found.metrics] == [
        192 if each.quality is None else each.quality for each in metrics
    ]
    assert (found.time, found.seq) == (time, seq)


@settings(max_examples=100, deadline=None)
@given(
    values=st.dictionaries(
        st.text(min_size=1, max_size=9),
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=9),
        max_size=6,
    ),
    time=st.integers(0, 2**53),
)
def test_read_of_written_is_what_it_was(values: dict[str, Any], time: int) -> None:
    kinds = {bool: wire.BOOLEAN, int: wire.INT64, float: wire.DOUBLE, str: wire.STRING}
    metrics = tuple(
        Metric(name=name, time=time, type=kinds.get(type(value), wire.STRING), value=value)
        for name, value in values.items()
    )
    payload = Payload(metrics=metrics, time=time, seq=7)
    assert sparkplug.read(sparkplug.write(payload)) == payload


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=80))
def test_any_bytes_are_read_or_refused_with_a_reason(data: bytes) -> None:
    reason = None
    try:
        sparkplug.read(data)
    except DecodeError as exc:
        reason = exc.reason
    assert reason in {None, Reason.EMPTY, Reason.NOT_PROTOBUF}


def test_too_many_metrics_are_refused() -> None:
    with pytest.raises(DecodeError) as refused:
        sparkplug.read(b"\x12\x00" * 20_001)
    assert refused.value.reason is Reason.TOO_LARGE


def test_templates_in_templates_end() -> None:
    deep = Said(name="x").encode()
    for _ in range(300):
        deep = wire.text(18, wire.text(2, deep))
    with pytest.raises(DecodeError):
        sparkplug.read(wire.text(2, deep))


@pytest.mark.parametrize(
    ("kind", "packed", "value"),
    [
        (22, struct.pack("<3b", 1, -2, 3), [1, -2, 3]),
        (24, struct.pack("<2i", -1, 315338746), [-1, 315338746]),
        (29, struct.pack("<1Q", 2**64 - 1), [2**64 - 1]),
        (30, struct.pack("<2f", 1.25, -0.5), [1.25, -0.5]),
        # Of the specification, 6.4.16: 0011 0100 1101.
        (32, bytes.fromhex("0C 00 00 00 34 D0"), [bool(int(bit)) for bit in "001101001101"]),
        (33, b"ABC\0hello\0", ["ABC", "hello"]),
        (24, b"\1\2\3", "010203"),
        (32, b"\xff\xff\xff\xff\0", "ffffffff00"),
        (wire.BYTES, b"\xca\xfe", "cafe"),
    ],
    ids=["Int8", "Int32", "UInt64", "Float", "Boolean", "String", "no whole number", "too few bits", "bytes"],
)
def test_arrays_and_bytes(kind: int, packed: bytes, value: object) -> None:
    metric = sparkplug.read(wire.payload(Said(name="a", type=kind, value=packed), time=1, seq=0)).metrics[0]
    assert metric.value == value


def test_a_dataset_is_its_rows() -> None:
    cells = wire.text(1, wire.number(1, 2**32 - 5)) + wire.text(1, wire.text(6, "Kênh Tẻ"))
    table = wire.number(1, 2) + wire.text(2, "level") + wire.text(2, "place")
    table += wire.number(3, wire.INT32) + wire.number(3, wire.STRING) + wire.text(4, cells)
    metric = sparkplug.read(wire.payload(Said(name="d", type=wire.DATASET, value=table), time=1, seq=0)).metrics[0]
    assert metric.value == [{"level": -5, "place": "Kênh Tẻ"}]


@pytest.mark.parametrize(
    ("kind", "value", "field"),
    [("Int8", -1, 10), ("Int32", -20, 10), ("UInt16", 65535, 10), ("UInt32", 2**32 - 1, 11), ("Int64", -1, 11),
     ("Float", 1.5, 12), ("Double", 2, 13), ("Boolean", False, 14), ("Text", "a", 15)],
)  # fmt: skip
def test_a_value_is_written_into_the_field_of_its_type(kind: str, value: Any, field: int) -> None:
    metric = Metric(name="m", type=sparkplug.TYPES[kind], value=value)
    written = sparkplug.write(Payload(metrics=(metric,)))
    assert sparkplug.read(written).metrics[0].value == value
    said = sparkplug.parse(written).metrics[0]
    assert said.DESCRIPTOR.fields_by_name[said.WhichOneof("value")].number == field


@pytest.mark.parametrize(("kind", "value"), [("Int8", 128), ("UInt8", -1), ("UInt32", 2**32), ("Int16", -32769)])
def test_what_a_type_cannot_hold_is_refused(kind: str, value: int) -> None:
    with pytest.raises(ValueError, match="none of"):
        sparkplug.write(Payload(metrics=(Metric(name="m", type=sparkplug.TYPES[kind], value=value),)))


def test_infinity_and_nan_stand_as_they_are() -> None:
    metrics = (Said(name="i", type=wire.FLOAT, value=math.inf), Said(name="n", type=wire.DOUBLE, value=math.nan))
    found = sparkplug.read(wire.payload(*metrics, time=1, seq=0)).metrics
    assert found[0].value == math.inf
    assert isinstance(found[1].value, float)
    assert math.isnan(found[1].value)


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        ("spBv1.0/Sparkplug B Devices/NDATA/Raspberry Pi", "sparkplug:Sparkplug B Devices/Raspberry Pi"),
        ("spBv1.0/park/DBIRTH/node-1/lamp-7", "sparkplug:park/node-1/lamp-7"),
        ("spBv1.0/park/NCMD/node-1", None),
        ("spBv1.0/STATE/ioc", None),
        ("spBv1.0/park/NDATA/node-1/lamp-7", None),
        ("spBv1.0/park/DDATA/node-1", None),
        ("spBv1.0/park/NDATA/", None),
        ("spBv1.0/park/NDATA/a/b/c", None),
        ("spAv1.0/park/NDATA/node-1", None),
    ],
)
def test_topics(topic: str, address: str | None) -> None:
    found = Topic.read(topic)
    assert (None if found is None else found.address) == address
    assert found is None or found.text == topic


def test_an_edge_node_may_speak_for_itself_and_its_devices_and_hear_its_commands() -> None:
    write, read = sparkplug.rights("sparkplug:park/node-1")
    assert "spBv1.0/park/NDEATH/node-1" in write
    assert "spBv1.0/park/DDATA/node-1/+" in write
    assert read == ["spBv1.0/park/NCMD/node-1", "spBv1.0/park/DCMD/node-1/+", "spBv1.0/STATE/+"]
    for other in ("sparkplug:park/node-1/lamp-7", "sparkplug:+/node-1", "sparkplug:park/#", "mqtt:a/b", "sparkplug:x"):
        assert sparkplug.rights(other) == ([], [])
