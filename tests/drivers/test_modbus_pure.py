"""Addresses, the grid in time and the judgement over frames: values in, values out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus import schedule
from drivers.modbus.address import Address, Endpoint, Line, parse, parse_place
from drivers.modbus.turns import Turns
from iot_core.errors import ConfigError
from iot_core.registry.addresses import address_of

ADDRESS = "modbus://10.0.3.7:502/12"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ADDRESS, Address(Endpoint("10.0.3.7", 502), 12)),
        ("modbus://plc-7.local/0", Address(Endpoint("plc-7.local", 502), 0)),
        ("modbus://[fd00::7]:1502/255", Address(Endpoint("fd00::7", 1502), 255)),
        ("modbus://rtu@10.0.3.7:4001/12", Address(Endpoint("10.0.3.7", 4001, rtu=True), 12)),
        ("modbus:///dev/ttyUSB0:9600-8N1/12", Address(Line("/dev/ttyUSB0", 9600, "N", 1), 12)),
        ("modbus://COM3:19200-8E1/247", Address(Line("COM3", 19200, "E", 1), 247)),
        (
            "modbus:///dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0:2400-8O2/1",
            Address(Line("/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0", 2400, "O", 2), 1),
        ),
    ],
)
def test_an_address_names_gateway_and_unit(text: str, expected: Address) -> None:
    assert parse(text) == expected
    assert str(expected) == text or ":502" in str(expected)


@given(
    st.one_of(
        st.builds(
            Endpoint, st.sampled_from(["10.0.3.7", "plc-7.local", "fd00::7"]), st.integers(1, 65535), st.booleans()
        ),
        st.builds(
            Line,
            st.sampled_from(["/dev/ttyUSB0", "/dev/pts/3", "COM12"]),
            st.sampled_from([1200, 9600, 115200]),
            st.sampled_from("NEO"),
            st.sampled_from([1, 2]),
        ),
    ),
    st.integers(1, 247),
)
def test_an_address_is_read_as_it_is_written_and_the_registry_spells_it_alike(
    place: Endpoint | Line, unit_id: int
) -> None:
    written = str(Address(place, unit_id))
    assert parse(written) == Address(place, unit_id)
    assert parse_place(str(place)) == place
    assert address_of("m-1", "modbus://{address}", written) == written


@pytest.mark.parametrize(
    "text",
    ["modbus://10.0.3.7:502", "modbus://10.0.3.7:502/256", "modbus://10.0.3.7:502/-1", "modbus://10.0.3.7:502/x",
     "modbus://10.0.3.7:99999/1", "modbus:///1", "tcp://10.0.3.7:502/1", "modbus://[::1/1", "modbus://h:0/1",
     "modbus://10.0.3.7:502/012", "modbus://10.0.3.7:502/+1", "modbus://10.0.3.7:502/१", "modbus://10.0.3.7:502/1?x=1",
     "modbus://user:pass@10.0.3.7:502/1", "modbus://tcp@10.0.3.7:502/1", "modbus://10.0.3.7:502/1/2",
     "modbus:10.0.3.7/1",
     "modbus:///dev/ttyUSB0/1", "modbus:///dev/ttyUSB0:9600/1", "modbus:///dev/ttyUSB0:9600-7E1/1",
     "modbus:///dev/ttyUSB0:9600-8N1/0", "modbus:///dev/ttyUSB0:9600-8N1/248", "modbus://rtu@/dev/ttyUSB0:9600-8N1/1",
     "modbus://10.0.3.7:502/ 1", "modbus://h\n:502/1"],
)  # fmt: skip
def test_an_address_that_cannot_be_polled_names_the_expected_form(text: str) -> None:
    with pytest.raises(ConfigError, match="UNIT_ID"):
        parse(text)


def test_an_endpoint_is_written_as_in_a_url() -> None:
    assert [str(Endpoint("10.0.3.7", 502)), str(Endpoint("::1", 1502))] == ["10.0.3.7:502", "[::1]:1502"]


@given(now=st.floats(0, 1e7), interval=st.sampled_from([1.0, 10.0, 60.0, 900.0]), unit=st.integers(0, 255))
def test_a_unit_stays_on_its_own_grid_however_late_a_poll_was(now: float, interval: float, unit: int) -> None:
    address = f"modbus://10.0.3.7:502/{unit}"
    slot = schedule.next_slot(schedule.share(address), interval, now)
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


def test_a_byte_and_the_silence_between_frames_take_as_long_as_the_line_makes_them() -> None:
    assert Line("/dev/ttyUSB0", 9600, "N", 1).byte_s == pytest.approx(10 / 9600)
    assert Line("/dev/ttyUSB0", 9600, "E", 1).byte_s == pytest.approx(11 / 9600)
    assert Line("/dev/ttyUSB0", 19200, "E", 1).quiet_s == pytest.approx(3.5 * 11 / 19200)
    assert Line("/dev/ttyUSB0", 115200, "E", 1).quiet_s == 0.00175


@dataclass(eq=False)
class Waits:
    name: str
    due: float
    alive: bool = True


def order(turns: Turns[Waits], now: float, shortest: float = 10) -> list[str]:
    taken = []
    while (unit := turns.take(now, shortest)) is not None:
        taken.append(unit.name)
    return taken


def test_the_living_go_first_in_the_order_in_which_they_fell_due() -> None:
    turns: Turns[Waits] = Turns()
    for unit in (Waits("c", 3), Waits("a", 1), Waits("dead", 0, alive=False), Waits("b", 2), Waits("later", 9)):
        turns.put(unit)
    assert order(turns, now=5, shortest=10)[1:] == ["a", "b", "c"]
    assert turns.next_due() == 9


def test_of_the_dead_one_goes_before_the_living_in_the_shortest_interval() -> None:
    turns: Turns[Waits] = Turns()
    for number in range(3):
        turns.put(Waits(f"dead-{number}", 0, alive=False))
    for number in range(4):
        turns.put(Waits(f"living-{number}", number))
    taken = order(turns, now=10, shortest=10)
    assert taken[0] == "dead-0"
    assert taken[1:5] == ["living-0", "living-1", "living-2", "living-3"], "no second one before any of them"
    assert taken[5:] == ["dead-1", "dead-2"], "nobody else waits"


def test_a_unit_that_moved_or_left_stands_nowhere_else() -> None:
    turns: Turns[Waits] = Turns()
    moved, gone = Waits("moved", 1), Waits("gone", 1)
    for unit in (moved, gone):
        turns.put(unit)
    moved.due, moved.alive = 7, False
    turns.put(moved)
    turns.remove(gone)
    assert turns.next_due() == 7
    assert order(turns, now=20) == ["moved"]
    assert turns.next_due() is None
