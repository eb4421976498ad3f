"""Protobuf by field numbers, held against the protobuf library: what it writes is read, what is written it reads."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import example, given, settings
from hypothesis import strategies as st

from iot_core.errors import ConfigError, DecodeError
from iot_core.model import Problem, Reason
from iot_core.profiles.protobuf import Kind, Member, read_protobuf, write_protobuf
from tests.profiles.making import Make, decode, values_of

AT = datetime(2026, 1, 15, 8, 0, tzinfo=UTC)
_FIELD = descriptor_pb2.FieldDescriptorProto
_SINT = st.integers(-(1 << 31), (1 << 31) - 1)
_LONG = st.integers(-(1 << 63), (1 << 63) - 1)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "int32": _SINT, "sint32": _SINT, "sfixed32": _SINT,
    "int64": _LONG, "sint64": _LONG, "sfixed64": _LONG,
    "uint32": st.integers(0, (1 << 32) - 1), "fixed32": st.integers(0, (1 << 32) - 1),
    "uint64": st.integers(0, (1 << 64) - 1), "fixed64": st.integers(0, (1 << 64) - 1),
    "bool": st.booleans(), "float": st.floats(width=32), "double": st.floats(),
    "string": st.text(max_size=20), "bytes": st.binary(max_size=20).map(bytes.hex),
}  # fmt: skip
ONE = {at: Member(kind, cast("Kind", kind)) for at, kind in enumerate(KINDS, 1)}
MANY = {at + 100: Member(f"{kind}s", cast("Kind", kind), repeated=True) for at, kind in enumerate(KINDS, 1)}
INNER = {**ONE, **MANY}
MESSAGE = {
    **INNER,
    1000: Member("within", "message", message=INNER),
    536_870_911: Member("all", "message", repeated=True, message=INNER),
}
FLAT = st.fixed_dictionaries(
    {}, optional={**KINDS, **{f"{kind}s": st.lists(each, max_size=4) for kind, each in KINDS.items()}}
)
SAID = st.tuples(FLAT, st.none() | FLAT, st.lists(FLAT, max_size=3)).map(
    lambda three: {**three[0], **({} if three[1] is None else {"within": three[1]}), "all": three[2]}
)
CALM = settings(max_examples=150, deadline=None)


def library() -> Any:
    """Make the same messages in the protobuf library."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto2")
    for name, members in (("Inner", INNER), ("Whole", MESSAGE)):
        kind = file.message_type.add(name=name)
        for number, member in members.items():
            label = _FIELD.LABEL_REPEATED if member.repeated else _FIELD.LABEL_OPTIONAL
            field = kind.field.add(name=f"f{number}", number=number, label=label)
            field.type = getattr(_FIELD, f"TYPE_{member.kind.upper()}")
            if member.message is not None:
                field.type_name = ".t.Inner"
            field.options.packed = (
                member.repeated and member.kind not in {"string", "bytes", "message"} and number % 2 == 0
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Whole"))


WHOLE = library()


def fill(into: Any, said: dict[str, Any], members: dict[int, Member]) -> None:
    for number, member in members.items():
        value = said.get(member.name)
        name = f"f{number}"
        if value is None:
            continue
        if member.message is not None:
            for each in value if member.repeated else [value]:
                inner = getattr(into, name).add() if member.repeated else getattr(into, name)
                inner.SetInParent()
                fill(inner, each, dict(member.message))
            continue
        plain = [
            bytes.fromhex(each) if member.kind == "bytes" else each for each in (value if member.repeated else [value])
        ]
        if member.repeated:
            getattr(into, name).extend(plain)
        else:
            setattr(into, name, plain[0])


def whole(said: dict[str, Any], members: dict[int, Member]) -> dict[str, Any]:
    """Give what a reader makes of it: what is repeated is always there."""
    read: dict[str, Any] = {}
    for member in members.values():
        value = said.get(member.name, [] if member.repeated else None)
        if value is None:
            continue
        if member.message is not None:
            inner = dict(member.message)
            value = [whole(each, inner) for each in value] if member.repeated else whole(value, inner)
        read[member.name] = value
    return read


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return bool(one == other) and type(one) is type(other)


@CALM
@given(said=SAID)
def test_what_the_library_writes_is_read(said: dict[str, Any]) -> None:
    message = WHOLE()
    fill(message, said, MESSAGE)
    data = message.SerializeToString()
    problems: list[Problem] = []
    read = read_protobuf(data, MESSAGE, problems) if data else whole({}, MESSAGE)
    assert alike(read, whole(said, MESSAGE)), read
    assert problems == []


@CALM
@given(said=SAID)
def test_what_is_written_the_library_reads_and_so_do_we(said: dict[str, Any]) -> None:
    data = write_protobuf(said, MESSAGE)
    message = WHOLE()
    fill(message, said, MESSAGE)
    found = WHOLE.FromString(data)
    assert found.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
    assert not data or alike(read_protobuf(data, MESSAGE, []), whole(said, MESSAGE))


@settings(max_examples=400, deadline=None)
@given(data=st.binary(max_size=60))
@example(data=bytes.fromhex("0a06282c02424eed1001183c220f080110b8d0a7c20620d2032a020000"))
@example(data=b"\xff" * 60)
def test_any_bytes_are_a_message_or_a_reason_and_never_a_message_that_the_library_refuses(data: bytes) -> None:
    problems: list[Problem] = []
    refused = None
    try:
        read_protobuf(data, MESSAGE, problems)
    except DecodeError as exc:
        refused = exc.reason
    assert refused in {None, Reason.EMPTY, Reason.TRUNCATED, Reason.NOT_PROTOBUF}
    if refused is None and not problems:
        WHOLE.FromString(data)


# ---------------------------------------------------------------- as a profile says it
FRAME = """protobuf:
  message:
    1: {name: t, type: sint32, default: 0}
    2: {name: h, type: double}
    3: {name: list, repeated: true, message: {1: {name: id, type: uint32}, 2: {name: t, type: sint32}}}
"""


def test_values_stand_at_the_names_of_the_message_and_what_proto3_leaves_out_is_zero_only_where_said(
    make: Make,
) -> None:
    node = make(FRAME + "  values: {temperature: {path: t, scale: 0.1}, humidity: h}\n")
    assert values_of(decode(node, "hex:08d303")) == [{"temperature": -23.4}]
    assert values_of(decode(node, "hex:110000000000004440")) == [{"temperature": 0, "humidity": 40}]
    uplink = node.encode({"temperature": -23.4, "humidity": 40.0})
    assert values_of(decode(node, bytes(uplink.payload or b""))) == [{"temperature": -23.4, "humidity": 40}]


def test_a_field_of_another_type_on_the_wire_is_held_and_what_stands_beside_it_is_stored(make: Make) -> None:
    node = make(FRAME + "  values: {temperature: {path: t, scale: 0.1}, humidity: h}\n")
    decoded = decode(node, "hex:08d303 12025a5a".replace(" ", ""))
    assert values_of(decoded) == [{"temperature": -23.4}]
    assert [(each.reason, each.detail) for each in decoded.problems] == [
        (Reason.WRONG_TYPE, "2 h: bytes on the wire, not double")
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [("08", Reason.TRUNCATED), ("12", Reason.TRUNCATED), ("1a0508", Reason.TRUNCATED), ("0b", Reason.NOT_PROTOBUF),
     ("08" + "ff" * 11, Reason.NOT_PROTOBUF), ("00", Reason.NOT_PROTOBUF), ("", Reason.EMPTY)],
)  # fmt: skip
def test_what_is_no_message_has_a_reason(make: Make, data: str, reason: Reason) -> None:
    node = make(FRAME + "  values: {temperature: t}\n")
    assert [each.reason for each in decode(node, f"hex:{data}").problems] == [reason]


def test_elements_of_a_message_are_channels(make: Make) -> None:
    node = make(FRAME + "  each: list\n  channel: id\n  values: {temperature: {path: t, scale: 0.1}}\n")
    decoded = decode(node, "hex:1a05080110d303 1a0408021002".replace(" ", ""))
    assert [(each.channel, dict(each.values)) for each in decoded.samples] == [
        ("1", {"temperature": -23.4}), ("2", {"temperature": 0.1})
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "key", "expected"),
    [
        ("protobuf: {message: {1: {name: t, type: sint33}}, values: {temperature: t}}", "message.1.type", "did you mean sint32?"),
        ("protobuf: {message: {1: {name: t}}, values: {temperature: t}}", "message.1.type", "a type such as sint32"),
        ("protobuf: {message: {0: {name: t, type: bool}}, values: {temperature: t}}", "message.0", "a field number from 1"),
        ("protobuf: {message: {1: {name: temp, type: bool}}, values: {temperature: tmp}}", "temperature", "did you mean temp?"),
        ("protobuf: {message: {1: {name: t, type: bool}}, values: {temperature: 't[0]'}}", "temperature", "not repeated"),
        ("protobuf: {message: {1: {name: t, type: bool}}, values: {temperature: t.x}}", "temperature", "nothing within"),
        ("protobuf: {values: {temperature: t}}", "protobuf.message", "this key to be given"),
        ("protobuf: {message: {1: {name: t, type: bool, default: 0, repeated: true}}, values: {temperature: t}}", "message.1.default", "no default"),
        ("protobuf: {message: {1: {name: t, type: bool}, 2: {name: t, type: bool}}, values: {temperature: t}}", "message.2.name", "a name of its own"),
        ("protobuf: {message: {one: {name: t, type: bool}}, values: {temperature: t}}", "message", "a whole number"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_message_is_named(make: Make, said: str, key: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(said + "\n")
    assert key in str(caught.value.facts["key"])
    assert expected in str(caught.value.facts["expected"])


# ---------------------------------------------------------------- elements that only say how far apart they are
APART = "time: start, every: {path: gap, times: n, scale: 60}"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (f"columns: ., {APART}, values: {{temperature: a.t, humidity: h}}", '{"start": 1768464000, "gap": 5, "n": "2", "a": {"t": [20, 21]}, "h": [40, 41]}'),
        (f"columns: a, {APART}, values: {{temperature: t, humidity: h}}", '{"start": 1768464000, "gap": 5, "n": 2, "a": {"t": [20, 21], "h": [40, 41]}}'),
        (f"each: a, {APART}, values: {{temperature: t, humidity: h}}", '{"start": 1768464000, "gap": 5, "n": 2, "a": [{"t": 20, "h": 40}, {"t": 21, "h": 41}]}'),
        ("columns: ., time: start, every: 10m, values: {temperature: 'a[k=x].t', humidity: 'a[-1].h'}", '{"start": 1768464000, "a": [{"k": "x", "t": [20, 21]}, {"h": [40, 41]}]}'),
        ("columns: ., time: start, every: 10m, values: {temperature: a.t, humidity: a.h}", '{"start": 1768464000, "a": [{"t": 20, "h": 40}, {"t": 21, "h": 41}]}'),
    ],
)  # fmt: skip
def test_times_are_counted_from_the_first(make: Make, keys: str, said: str) -> None:
    node = make(f"json: {{{keys}}}\n")
    decoded = decode(node, said)
    assert values_of(decoded) == [{"temperature": 20, "humidity": 40}, {"temperature": 21, "humidity": 41}]
    assert [each.time for each in decoded.samples] == [AT, AT.replace(minute=10)]
    uplink = node.encode({"temperature": 20, "humidity": 40}, time=AT)
    (sample,) = decode(node, bytes(uplink.payload or b"")).samples
    assert (dict(sample.values), sample.time) == ({"temperature": 20, "humidity": 40}, AT)


def test_numbers_alone_can_be_elements(make: Make) -> None:
    node = make("json: {each: t, time: at, every: -10m, values: {temperature: .}}\n")
    decoded = decode(node, '{"at": 1768464000, "t": [20, 21]}')
    assert [(each.values["temperature"], each.time) for each in decoded.samples] == [
        (20, AT), (21, AT.replace(hour=7, minute=50))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('{"gap": 5, "n": 2, "t": [20, 21]}', Reason.NO_TIME),
        ('{"start": "soon", "gap": 5, "n": 2, "t": [20]}', Reason.BAD_TIME),
        ('{"start": 1768464000, "t": [20, 21]}', Reason.BAD_TIME),
        ('{"start": 1768464000, "gap": 0, "n": 1, "t": [20, 21]}', Reason.BAD_TIME),
        ('{"start": 1768464000, "gap": 1e300, "n": 1e9, "t": [20, 21]}', Reason.BAD_TIME),
        ('{"start": 1768464000, "gap": "x", "n": 1, "t": [20, 21]}', Reason.BAD_TIME),
    ],
)
def test_elements_that_nobody_can_place_are_held(make: Make, said: str, reason: Reason) -> None:
    decoded = decode(make(f"json: {{columns: ., {APART}, values: {{temperature: t}}}}\n"), said)
    assert ([each.reason for each in decoded.problems], decoded.samples) == ([reason], ())
    assert [
        each.reason
        for each in decode(
            make(f"json: {{columns: ., {APART}, values: {{temperature: t}}}}\n"), '{"start": 1768464000, "t": [20]}'
        ).problems
    ] == []


def test_a_path_may_take_the_last_of_a_list(make: Make) -> None:
    node = make("json: {values: {temperature: 'log[-1].t'}}\n")
    assert values_of(decode(node, '{"log": [{"t": 20}, {"t": 21}]}')) == [{"temperature": 21}]
    assert [each.reason for each in decode(node, '{"log": []}').problems] == [Reason.NO_VALUES]
    assert values_of(decode(node, bytes(node.encode({"temperature": 5}).payload or b""))) == [{"temperature": 5}]
