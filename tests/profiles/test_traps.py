"""The known traps of real devices, by name: each has a case folder that says so, or a test here."""

from __future__ import annotations

from drivers.modbus.frames import crc
from iot_core.model import Uplink
from iot_core.profiles import Profiles
from tests.profiles.test_cases import cases

TRAPS = {
    "word order CDAB": ("M04",),
    "1-based and 0-based registers": ("M04", "M22", "M15"),
    "one register, another meaning by variant": ("M23", "M09", "M05"),
    "wrong CRC in print": ("M11",),
    "wrong arithmetic in a manual": ("L26",),
    "one measurement in two messages": ("L26",),
    "partial frames by flags": ("L14", "L19"),
    "sentinels": ("L11", "L23", "W01", "W02"),
    "null is not false": ("Q08",),
    "strings instead of numbers": ("N03", "Q02"),
    "omitted zero fields": ("N01", "N02"),
    "time without zone": ("Q05",),
    "array or scalar": ("Q05",),
    "unit in the message": ("Q05", "L23", "C06"),
    "P1 is PM10": ("Q02",),
    "unsynchronised device clock": ("L25",),
    "field that a decoder invents": ("L06",),
    "decoded object that is not the bytes": ("L24", "L32"),
    "metric time before payload time": ("Q01",),
    "alias without a name": ("Q01",),
    "seq wraps": ("Q01",),
    "bdSeq ties birth and death": ("Q01",),
}
"""Each trap, and the kinds of device that set it (M Modbus, L LoRaWAN, N network servers, Q MQTT, C CoAP, W wM-Bus)."""
BY_TEST = {"wrong CRC in print (M11)", "seq wraps (Q01)", "bdSeq ties birth and death (Q01)"}
"""What is below the profiles has no case folder but a test: below, and in drivers/test_mqtt/test_sparkplug.py (q01)."""


def test_every_known_trap_has_a_case_or_a_test_by_its_name() -> None:
    wanted = {f"{trap} ({kind})" for trap, kinds in TRAPS.items() for kind in kinds}
    assert len(TRAPS) == 22
    assert len(wanted) == 35
    covered = {trap for case in cases().values() for trap in case.traps}
    assert covered - wanted == set()
    assert wanted - covered == BY_TEST


def test_wrong_crc_in_print_m11() -> None:
    """VMS-3001-TR: one publication prints C4 F8 below the bytes whose checksum is 57 B6."""
    answer = bytes.fromhex("01 03 08 02 92 FF 9B 03 E8 00 38")
    assert crc(answer) == bytes.fromhex("57 B6")
    assert crc(answer) != bytes.fromhex("C4 F8")


def test_two_variants_of_one_wind_register_differ_tenfold(profiles: Profiles) -> None:
    registers = {"holding:500": [340, 2, 7, 315, 658, 0xFF9B, 0, 0, 0, 1002]}
    said = [
        profiles.get(model).decode(Uplink(driver="modbus", address="m", registers=registers)).samples[0].values
        for model in ("sensaien-sn3003-fsxcs", "dfrobot-sen0658")
    ]
    assert [values["wind_speed"] for values in said] == [3.4, 34.0]


def test_a_second_message_of_one_measurement_keeps_what_the_first_said(profiles: Profiles) -> None:
    outlet = profiles.get("netvox-r809a")
    first, second = (
        outlet.decode(Uplink(driver="mqtt", address="lorawan:1", payload=_chirpstack(data))).samples[0].values
        for data in ("AQ4BAAAAAAYAAAA=", "AQ4CANsAZAAWAAA=")
    )
    assert first.keys() & second.keys() == set()


def _chirpstack(data: str) -> bytes:
    return f'{{"deviceInfo": {{"devEui": "00137a1000001234"}}, "fPort": 6, "data": "{data}"}}'.encode()
