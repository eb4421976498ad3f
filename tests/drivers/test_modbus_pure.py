"""Addresses, the grid in time and the judgement over frames: values in, values out."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus import schedule
from drivers.modbus.address import Address, Endpoint, parse
from drivers.modbus.frames import Question
from iot_core.errors import ConfigError

ADDRESS = "modbus://10.0.3.7:502/12"
ASKED = Question(transaction=7, unit_id=12, function=3)


def frame(pdu: bytes, transaction: int = 7, unit_id: int = 12, protocol: int = 0) -> bytes:
    return struct.pack(">HHHB", transaction, protocol, len(pdu) + 1, unit_id) + pdu


GOOD = frame(bytes([3, 4, 0, 1, 0, 2]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ADDRESS, Address(Endpoint("10.0.3.7", 502), 12)),
        ("modbus://plc-7.local/0", Address(Endpoint("plc-7.local", 502), 0)),
        ("modbus://[fd00::7]:1502/255", Address(Endpoint("fd00::7", 1502), 255)),
    ],
)
def test_an_address_names_gateway_and_unit(text: str, expected: Address) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["modbus://10.0.3.7:502", "modbus://10.0.3.7:502/256", "modbus://10.0.3.7:502/-1", "modbus://10.0.3.7:502/x",
     "modbus://10.0.3.7:99999/1", "modbus:///1", "tcp://10.0.3.7:502/1", "modbus://[::1/1", "modbus://h:0/1"],
)  # fmt: skip
def test_an_address_that_cannot_be_polled_names_the_expected_form(text: str) -> None:
    with pytest.raises(ConfigError, match="UNIT_ID"):
        parse(text)


def test_an_endpoint_is_written_as_in_a_url() -> None:
    assert [str(Endpoint("10.0.3.7", 502)), str(Endpoint("::1", 1502))] == ["10.0.3.7:502", "[::1]:1502"]


@given(now=st.floats(0, 1e7), interval=st.sampled_from([1.0, 10.0, 60.0, 900.0]), unit=st.integers(0, 255))
def test_a_unit_stays_on_its_own_grid_however_late_a_poll_was(now: float, interval: float, unit: int) -> None:
    address = f"modbus://10.0.3.7:502/{unit}"
    slot = schedule.next_slot(address, interval, now)
    assert now < slot <= now + interval * 1.000001
    steps = (slot - schedule.share(address) * interval) / interval
    assert steps == pytest.approx(round(steps), abs=1e-6)


def test_units_are_spread_over_their_interval() -> None:
    shares = sorted(schedule.share(f"modbus://10.0.3.{host}:502/{unit}") for host in range(10) for unit in range(100))
    assert 0 <= shares[0] < 0.02
    assert 0.98 < shares[-1] < 1
    assert max(after - before for before, after in pairwise(shares)) < 0.02


def test_a_new_unit_is_polled_within_seconds_even_when_it_speaks_hourly() -> None:
    assert 100 <= schedule.first(ADDRESS, 3600, 100) < 100 + schedule.FIRST_WITHIN_S
    assert 100 <= schedule.first(ADDRESS, 1, 100) < 101


def test_a_dead_unit_is_left_alone_ever_longer_but_not_for_hours() -> None:
    waits = [schedule.back_off(10, failures) for failures in range(1, 9)]
    assert waits == [0, 10, 20, 40, 80, 120, 120, 120]
    assert schedule.back_off(3600, 50) == 3600


def test_reconnects_are_spread_and_bounded() -> None:
    delays = [schedule.reconnect_delay(20) for _ in range(50)]
    assert 30 <= min(delays) < max(delays) <= 60
    assert 0.5 <= schedule.reconnect_delay(1) <= 1


@pytest.mark.parametrize("cut", range(len(GOOD) + 1))
def test_an_answer_that_is_still_arriving_is_no_garbage(cut: int) -> None:
    assert not ASKED.is_garbage(GOOD[:cut])


@pytest.mark.parametrize(
    "received",
    [
        frame(bytes([0x83, 2])),
        frame(bytes([3, 4, 0, 1, 0, 2]), transaction=6),
        frame(bytes([3, 4, 0, 1, 0, 2]), transaction=6) + GOOD,
        frame(bytes([3, 4, 0, 1, 0, 2]), unit_id=13),
        frame(bytes([3, 4, 0, 1, 0, 2]), transaction=0),
        frame(bytes([3, 2, 0, 1])),
    ],
    ids=["exception", "late", "late, then mine", "another unit", "transaction 0", "fewer registers"],
)
def test_a_whole_frame_that_is_not_what_was_hoped_for_is_no_garbage(received: bytes) -> None:
    assert not ASKED.is_garbage(received)


@pytest.mark.parametrize(
    "received",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x07\x00\x01",
        frame(bytes([3, 4, 0, 1, 0, 2]), protocol=9),
        struct.pack(">HHHBB", 7, 0, 1, 12, 3),
        struct.pack(">HHHBB", 7, 0, 600, 12, 3),
        frame(bytes([4, 4, 0, 1, 0, 2])),
        frame(bytes([3, 9, 0, 1, 0, 2])),
        frame(bytes([3])),
    ],
    ids=["http", "protocol, early", "protocol", "too short", "too long", "function", "byte count", "no byte count"],
)
def test_bytes_that_can_never_become_an_answer_are_garbage(received: bytes) -> None:
    assert ASKED.is_garbage(received)


@given(st.binary(max_size=600))
def test_any_bytes_are_judged_without_a_failure(received: bytes) -> None:
    assert ASKED.is_garbage(received) in (True, False)
