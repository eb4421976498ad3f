"""What outside brokers are told, in their own formats."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_core.broker.answers import Format, acl_ask, answer, core_may_login, login_ask, may, takes_over
from iot_core.broker.rights import acl_file, core, covers, granted, native

JSON, FORM = "application/json; charset=utf-8", "application/x-www-form-urlencoded"


def emqx(**fields: str) -> bytes:
    return json.dumps(fields).encode()


def rabbit(**fields: str) -> bytes:
    return urlencode(fields).encode()


def test_emqx_asks_for_a_login() -> None:
    ask = login_ask(JSON, emqx(username="aq-1", password="s", clientid="x"))
    assert ask is not None
    assert (ask.format, ask.username, ask.password) == (Format.EMQX, "aq-1", "s")
    assert json.loads(answer(ask.format, allowed=True).body) == {"result": "allow", "is_superuser": False}
    assert json.loads(answer(ask.format, allowed=False).body)["result"] == "deny"


def test_rabbitmq_asks_for_a_login() -> None:
    ask = login_ask(FORM, rabbit(username="aq-1", password="s&=%", vhost="/"))
    assert ask is not None
    assert (ask.format, ask.username, ask.password) == (Format.RABBITMQ, "aq-1", "s&=%")
    assert answer(ask.format, allowed=True).body == b"allow"
    assert answer(ask.format, allowed=False).body == b"deny"


@pytest.mark.parametrize(
    ("action", "topic", "allowed"),
    [
        ("publish", "iot/v1/aq-1/telemetry", True),
        ("publish", "iot/v1/aq-1/config/reported", True),
        ("publish", "iot/v1/aq-2/telemetry", False),
        ("publish", "iot/v1/aq-1/commands", False),
        ("subscribe", "iot/v1/aq-1/commands", True),
        ("subscribe", "iot/v1/aq-1/telemetry", False),
        ("subscribe", "iot/v1/+/commands", False),
        ("subscribe", "iot/v1/aq-1/#", False),
        ("subscribe", "#", False),
        ("delete", "iot/v1/aq-1/commands", False),
    ],
)
def test_a_device_has_its_own_topics_and_no_others(action: str, topic: str, *, allowed: bool) -> None:
    ask = acl_ask(JSON, emqx(username="aq-1", action=action, topic=topic))
    assert ask is not None
    assert may(ask, native("aq-1")) is allowed


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"vhost": "/"}, True),
        ({"resource": "exchange", "name": "amq.topic", "permission": "write"}, True),
        ({"resource": "exchange", "name": "amq.topic", "permission": "configure"}, False),
        ({"resource": "exchange", "name": "orders", "permission": "write"}, False),
        ({"resource": "queue", "name": "mqtt-subscription-aq-1qos1", "permission": "configure"}, True),
        ({"resource": "queue", "name": "mqtt-subscription-aq-2qos1", "permission": "read"}, False),
        ({"resource": "topic", "permission": "write", "routing_key": "iot.v1.aq-1.telemetry"}, True),
        ({"resource": "topic", "permission": "write", "routing_key": "iot.v1.aq-2.telemetry"}, False),
        ({"resource": "topic", "permission": "read", "routing_key": "iot.v1.aq-1.commands"}, True),
        ({"resource": "topic", "permission": "read", "routing_key": "iot.v1.*.commands"}, False),
        ({"resource": "topic", "permission": "read", "routing_key": "#"}, False),
        ({"resource": "moon"}, False),
    ],
)
def test_rabbitmq_asks_about_more_than_topics(fields: dict[str, str], *, allowed: bool) -> None:
    ask = acl_ask(FORM, rabbit(username="aq-1", **fields))
    assert ask is not None
    assert may(ask, native("aq-1")) is allowed


@pytest.mark.parametrize(
    ("queue", "allowed"),
    [
        ("mqtt-subscription-iot-core-ingestqos1", True),
        ("mqtt-subscription-iot-core-ingest-commandsqos0", True),
        ("mqtt-subscription-iot-core-ingestionqos1", False),
        ("mqtt-subscription-aq-1qos1", False),
        ("orders", False),
    ],
)
def test_the_core_keeps_its_sessions_in_queues_of_its_own(queue: str, *, allowed: bool) -> None:
    ask = acl_ask(FORM, rabbit(username="iot", resource="queue", name=queue, permission="configure"))
    assert ask is not None
    assert may(ask, core(), "iot-core-ingest") is allowed


def test_the_cores_own_account_needs_its_exact_password_and_one_that_is_set() -> None:
    ask = login_ask(JSON, emqx(username="core", password="right"))
    empty = login_ask(JSON, emqx(username="", password=""))
    assert ask is not None
    assert empty is not None
    assert core_may_login(ask, "core", "right")
    assert not core_may_login(ask, "core", "wrong")
    assert not core_may_login(empty, "", "")


@pytest.mark.parametrize(
    ("client_id", "expected"),
    [("", False), ("aq-1", False), ("mosq-B7xQ", False), ("aq-1:2", False), ("aq-2", True), ("iot-core-ingest", True)],
)
def test_a_client_id_that_is_another_devices_key_takes_its_session_over(client_id: str, *, expected: bool) -> None:
    for ask in (
        login_ask(JSON, emqx(username="aq-1", password="s", clientid=client_id)),
        login_ask(FORM, rabbit(username="aq-1", password="s", client_id=client_id)),
    ):
        assert ask is not None
        assert takes_over(ask) is expected


@given(st.sampled_from([JSON, FORM, "", "text/html"]), st.binary(max_size=200))
def test_nonsense_is_no_question_and_no_accident(content_type: str, body: bytes) -> None:
    for ask in (login_ask(content_type, body), acl_ask(content_type, body)):
        assert ask is None or ask.username is not None


@pytest.mark.parametrize(
    ("have", "want", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/+", True),
        ("a/b", "a/+", False),
        ("a/#", "a/b/#", True),
        ("a/#", "a", True),
        ("a/+", "a/#", False),
        ("#", "a/b", True),
        ("#", "$SYS/broker", False),
        ("$SYS/#", "$SYS/broker", True),
        ("a/b/c", "a/b", False),
    ],
)
def test_a_filter_covers_what_it_matches_and_narrower_filters(have: str, want: str, *, expected: bool) -> None:
    assert covers(have, want) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("mqtt:tele/plug1", ["tele/plug1/SENSOR"]),
        ("mqtt:tele/+", []),
        ("mqtt:tele/a\ntopic write #", []),
        ("mqtt:tele/", []),
        ("mqtt:other/plug1", []),
        ("iot:plug1", []),
    ],
)
def test_a_units_address_grants_its_own_vendor_topics_only(address: str, expected: list[str]) -> None:
    assert granted("mqtt:tele/{address}", ["tele/{address}/SENSOR"], address) == expected


def test_the_acl_file_gives_patterns_to_all_and_lines_to_the_named() -> None:
    file = acl_file("_core", {"gw-1": [("write", "tele/a/SENSOR")]})
    assert "pattern write iot/v1/%u/telemetry\n" in file
    assert "pattern read iot/v1/%u/stored\n" in file
    assert "user gw-1\ntopic write tele/a/SENSOR\n" in file
    assert file.index("user _core") < file.index("user gw-1") < file.index("pattern")


def test_rabbitmq_writes_sparkplugs_dot_in_a_way_of_its_own() -> None:
    """With `mqtt.sparkplug = true`: else it were the end of a level."""
    for key, allowed in (("spBv1___0.park.NCMD.node-1", True), ("spBv1___0.park.NDATA.node-1", False)):
        ask = acl_ask(FORM, rabbit(username="iot", resource="topic", permission="write", routing_key=key))
        assert ask is not None
        assert ask.topic == key.replace(".", "/").replace("___", ".")
        assert may(ask, core(), "iot-core-ingest") is allowed
