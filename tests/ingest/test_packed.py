"""Packed payloads are opened, whatever way they came, and never larger than we take."""

from __future__ import annotations

import gzip
import json
import zlib

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_core.errors import DecodeError
from iot_core.ingest.unpack import unpacked
from iot_core.model import Reason
from tests.ingest.harness import running

AT = "2026-11-20T08:00:00+07:00"
READING = {"time": AT, "pm25": 37.4, "seq": 3}
MANY = [{"time": 1_795_000_000 + number, "pm25": number % 50} for number in range(500)]


@given(st.binary(max_size=2_000), st.booleans())
def test_what_was_packed_is_unpacked(payload: bytes, text: bool) -> None:
    packed = gzip.compress(payload)
    assert unpacked(packed, 2_000, text=text) == payload


@given(st.binary(max_size=200))
def test_a_vendors_own_bytes_stay_as_they_are(payload: bytes) -> None:
    """Also those that begin like gzip: only a whole archive whose checksum holds is one."""
    for data in (payload, b"\x1f\x8b\x08" + payload):
        try:
            whole = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            assert unpacked(data, 10_000, text=False) == data
        else:
            assert unpacked(data, 10_000, text=False) in {whole, data}


@pytest.mark.parametrize("text", [True, False])
def test_a_bomb_is_refused_before_it_is_open(text: bool) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 60_000
    with pytest.raises(DecodeError) as refused:
        unpacked(bomb, 262_144, text=text)
    assert refused.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (gzip.compress(b"{}")[:-3], Reason.TRUNCATED),
        (gzip.compress(b"{}")[:-8] + bytes(8), Reason.CHECKSUM),
        (gzip.compress(b"{}") + b"{}", Reason.TRUNCATED),
    ],
    ids=["half of it", "a wrong checksum", "something behind it"],
)
def test_a_damaged_archive_says_so_where_text_is_spoken(packed: bytes, reason: Reason) -> None:
    with pytest.raises(DecodeError) as refused:
        unpacked(packed, 10_000, text=True)
    assert refused.value.reason is reason


@pytest.mark.parametrize(
    "payload",
    [
        gzip.compress(json.dumps(READING).encode()),
        cbor2.dumps(READING),
        b"\xd9\xd9\xf7" + cbor2.dumps(READING),
        gzip.compress(cbor2.dumps(READING)),
    ],
    ids=["gzip", "CBOR", "CBOR that says so", "gzip of CBOR"],
)
async def test_a_packed_reading_is_stored(dsn: str, payload: bytes) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        outcome = await path.say("aq-1", payload)
        assert (outcome.stored, list(outcome.problems)) == (1, [])
        (row,) = await path.rows()
        assert row["pm25"] == pytest.approx(37.4)


async def test_a_packed_batch_is_stored_whole(dsn: str) -> None:
    body = json.dumps(MANY).encode()
    packed = gzip.compress(body)
    assert len(packed) < len(body) / 5
    async with running(dsn) as path:
        await path.add("aq-1")
        assert (await path.say("aq-1", packed)).stored == 500


async def test_a_bomb_is_held_as_it_came(dsn: str) -> None:
    bomb = gzip.compress(bytes(5_000_000))
    async with running(dsn) as path:
        await path.add("aq-1")
        outcome = await path.say("aq-1", bomb)
        assert [problem.reason for problem in outcome.problems] == [Reason.TOO_LARGE]
        assert await path.pool.fetchval("SELECT payload FROM iot.held_uplink") == bomb
