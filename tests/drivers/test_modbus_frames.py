"""Frames and PDUs: the specification's own examples, and whatever else may stand on the wire."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus import pdu
from drivers.modbus.frames import Framing, Garbage, Rtu, Tcp, crc
from drivers.modbus.pdu import Request
from iot_core.profiles.modbus import Read

READ = pdu.read(Read("holding", 1, 2))
GOOD = bytes([3, 4, 0, 1, 0, 2])


def tcp(answer: bytes, transaction: int = 7, unit_id: int = 12, protocol: int = 0) -> bytes:
    return struct.pack(">HHHB", transaction, protocol, len(answer) + 1, unit_id) + answer


def rtu(answer: bytes, unit_id: int = 12) -> bytes:
    return bytes([unit_id]) + answer + crc(bytes([unit_id]) + answer)


def asking(framing: Framing, request: Request = READ) -> Framing:
    framing.ask(12, request)
    return framing


# Modbus Application Protocol V1.1b3, the example of each function.
EXAMPLES: list[tuple[Request, str, str]] = [
    (pdu.read(Read("coil", 0x13, 0x13)), "01 0013 0013", "01 03 CD 6B 05"),
    (pdu.read(Read("discrete", 0xC4, 0x16)), "02 00C4 0016", "02 03 AC DB 35"),
    (pdu.read(Read("holding", 0x6B, 3)), "03 006B 0003", "03 06 022B 0000 0064"),
    (pdu.read(Read("input", 8, 1)), "04 0008 0001", "04 02 000A"),
    (pdu.write_bit(0xAC, 1), "05 00AC FF00", "05 00AC FF00"),
    (pdu.write_word(1, 3), "06 0001 0003", "06 0001 0003"),
    (pdu.write_bits(0x13, [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]), "0F 0013 000A 02 CD01", "0F 0013 000A"),
    (pdu.write_words(1, [0x000A, 0x0102]), "10 0001 0002 04 000A 0102", "10 0001 0002"),
    (pdu.mask_write(4, 0x25, 0xFF0D), "16 0004 00F2 0005", "16 0004 00F2 0005"),
    (pdu.identify(), "2B 0E 01 00", "2B 0E 01 01 00 00 01 00 04 41434D45"),
]


@pytest.mark.parametrize(("request_", "asked", "answer"), EXAMPLES, ids=[each[1] for each in EXAMPLES])
@pytest.mark.parametrize("make", [lambda: Tcp(6), Rtu], ids=["tcp", "rtu"])
def test_the_examples_of_the_specification(
    make: Callable[[], Framing], request_: Request, asked: str, answer: str
) -> None:
    framing, body = make(), bytes.fromhex(answer)
    sent = framing.ask(12, request_)
    wrapped = tcp(body) if isinstance(framing, Tcp) else rtu(body)
    assert request_.pdu == bytes.fromhex(asked)
    assert sent == (tcp(request_.pdu) if isinstance(framing, Tcp) else rtu(request_.pdu))
    assert request_.size in (0, len(body))
    for cut in range(len(wrapped) - 1):
        assert framing.feed(wrapped[cut : cut + 1]) is None
    assert framing.feed(wrapped[-1:]) == body
    assert framing.clean


def test_what_was_read_is_words_and_single_bits() -> None:
    assert pdu.words(Read("holding", 0x6B, 3), bytes.fromhex("0306022B00000064")) == [555, 0, 100]
    bits = pdu.words(Read("coil", 0x13, 0x13), bytes.fromhex("0103CD6B05"))
    assert bits == [1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1]


def test_the_checksum_of_a_published_frame() -> None:
    assert crc(bytes.fromhex("01030000000A")) == bytes.fromhex("C5CD")


def test_device_identification_is_named_and_goes_on_over_several_answers() -> None:
    first = bytes.fromhex("2B0E0101FF0202") + b"\x00\x04Acme" + b"\x01\x03AQ4"
    last = bytes.fromhex("2B0E0101000001") + b"\x02\x04V1.2"
    assert pdu.identification(first) == ({"vendor": "Acme", "product": "AQ4"}, 2)
    assert pdu.identification(last) == ({"revision": "V1.2"}, 0)


@given(st.binary(max_size=60))
def test_any_device_identification_is_read_or_refused(answer: bytes) -> None:
    try:
        found, following = pdu.identification(answer)
    except ValueError:
        return
    assert all(isinstance(text, str) for text in found.values())
    assert 0 <= following <= 255


@pytest.mark.parametrize(
    ("received", "answered"),
    [
        (tcp(bytes([0x83, 2])), True),
        (tcp(GOOD, transaction=6), False),
        (tcp(GOOD, transaction=6) + tcp(GOOD), True),
        (tcp(GOOD, unit_id=13) + tcp(GOOD), True),
        (tcp(GOOD, transaction=0), False),
        (tcp(bytes([3, 2, 0, 1])), True),
    ],
    ids=["exception", "late", "late, then mine", "another unit, then mine", "transaction 0", "fewer registers"],
)
def test_over_tcp_a_whole_frame_is_mine_or_skipped(received: bytes, answered: bool) -> None:
    assert (asking(Tcp(6)).feed(received) is not None) is answered


@pytest.mark.parametrize(
    "received",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x07\x00\x01",
        tcp(GOOD, protocol=9),
        struct.pack(">HHHBB", 7, 0, 1, 12, 3),
        struct.pack(">HHHBB", 7, 0, 600, 12, 3),
        tcp(bytes([4, 4, 0, 1, 0, 2])),
        tcp(bytes([3, 9, 0, 1, 0, 2])),
        tcp(bytes([3, 4])),
        tcp(bytes([0x83, 2, 0])),
        tcp(GOOD)[:11] + tcp(GOOD, transaction=6),
        tcp(GOOD) + struct.pack(">HHH", 8, 0, 600),
    ],
    ids=[
        "http",
        "protocol, early",
        "protocol",
        "too short",
        "too long",
        "function",
        "byte count",
        "no data",
        "long no",
        "half an answer made whole by another",
        "mine, then too long",
    ],
)
def test_over_tcp_bytes_that_can_never_become_an_answer_are_garbage(received: bytes) -> None:
    with pytest.raises(Garbage):
        asking(Tcp(6)).feed(received)


NOISE = [
    b"\x00",
    b"\xff\xff",
    b"\x0c",
    b"\x0c\x03",
    b"\x0c\x03\x04",
    rtu(READ.pdu),
    rtu(GOOD, 13),
    rtu(bytes([3, 2, 9, 9])),
]


@pytest.mark.parametrize(
    "noise",
    NOISE,
    ids=["00", "FFFF", "my unit", "my head", "my head and length", "echo", "another unit", "another length"],
)
def test_on_a_serial_line_noise_before_the_answer_is_skipped(noise: bytes) -> None:
    framing = asking(Rtu())
    answer = framing.feed(noise + rtu(GOOD))
    assert answer == GOOD


def test_on_a_serial_line_a_broken_checksum_is_no_answer() -> None:
    for at in range(len(rtu(GOOD))):
        broken = bytearray(rtu(GOOD))
        broken[at] ^= 0x10
        assert asking(Rtu()).feed(bytes(broken)) is None


def test_on_a_serial_line_what_came_before_the_question_cannot_answer_it() -> None:
    framing = Rtu()
    framing.ask(12, pdu.read(Read("holding", 1, 9)))
    assert framing.feed(rtu(GOOD)[:-1]) is None
    framing.ask(12, READ)
    assert framing.feed(rtu(GOOD)[-1:]) is None


def test_a_serial_line_that_never_stops_talking_fills_no_memory() -> None:
    framing = asking(Rtu())
    for _ in range(1000):
        assert framing.feed(b"\x0c\x03\xf0\x0c\x01\xff" * 10) is None
    assert len(framing._received) < 400
    assert framing.feed(bytes(300) + rtu(GOOD)) == GOOD


@pytest.mark.parametrize("make", [lambda: Tcp(6), Rtu], ids=["tcp", "rtu"])
@given(chunks=st.lists(st.binary(max_size=80), max_size=12), mine=st.booleans())
def test_any_bytes_in_any_pieces_give_an_answer_that_fits_or_none(
    make: Callable[[], Framing], chunks: list[bytes], mine: bool
) -> None:
    framing = asking(make())
    try:
        for chunk in chunks:
            answer = framing.feed(chunk)
            if answer is not None:
                assert answer[0] in (3, 0x83)
    except Garbage:
        return
    if mine and isinstance(framing, Rtu):
        framing.ask(12, READ)
        assert framing.feed(rtu(GOOD)) == GOOD, "a new question begins clean"


@pytest.mark.parametrize(
    "block", [Read("holding", 0, 126), Read("coil", 0, 2001), Read("holding", 65535, 2), Read("input", 0, 0)]
)
def test_a_block_that_no_request_can_hold_is_an_error_of_ours(block: Read) -> None:
    with pytest.raises(ValueError, match=block.table):
        pdu.read(block)
