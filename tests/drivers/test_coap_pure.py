"""Block-wise assembly and the diagnostic payload: values in, values out."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.coap.answers import DIAGNOSTIC, held
from drivers.coap.blocks import LIFETIME_S, Block, Incomplete, TooLarge, Uploads
from iot_core.model import Outcome, Problem, Reason


def blocks(body: bytes, size: int) -> list[Block]:
    starts = range(0, max(len(body), 1), size)
    return [Block(start, body[start : start + size], start + size < len(body)) for start in starts]


@given(body=st.binary(max_size=5_000), size=st.sampled_from([16, 64, 1024]))
def test_blocks_become_the_body_again(body: bytes, size: int) -> None:
    uploads = Uploads(limit=10_000, total=100_000)
    *first, last = [uploads.take("sender", block) for block in blocks(body, size)]
    assert first == [None] * len(first)
    assert last == body
    assert len(uploads) == 0


def test_a_repeated_block_is_taken_once() -> None:
    uploads = Uploads(limit=100, total=1000)
    uploads.take("sender", Block(0, b"a" * 16, more=True))
    uploads.take("sender", Block(16, b"b" * 16, more=True))
    uploads.take("sender", Block(16, b"b" * 16, more=True))
    assert uploads.take("sender", Block(32, b"c", more=False)) == b"a" * 16 + b"b" * 16 + b"c"


def test_block_0_begins_anew() -> None:
    uploads = Uploads(limit=100, total=1000)
    uploads.take("sender", Block(0, b"old" * 6, more=True))
    uploads.take("sender", Block(0, b"a" * 16, more=True))
    assert uploads.take("sender", Block(16, b"b", more=False)) == b"a" * 16 + b"b"


@pytest.mark.parametrize("start", [8, 32, 48])
def test_a_gap_or_an_overlap_has_to_start_again(start: int) -> None:
    uploads = Uploads(limit=100, total=1000)
    uploads.take("sender", Block(0, b"a" * 16, more=True))
    with pytest.raises(Incomplete):
        uploads.take("sender", Block(start, b"b" * 16, more=True))


def test_senders_do_not_mix() -> None:
    uploads = Uploads(limit=100, total=1000)
    uploads.take("one", Block(0, b"1" * 16, more=True))
    uploads.take("two", Block(0, b"2" * 16, more=True))
    assert uploads.take("one", Block(16, b"1", more=False)) == b"1" * 17
    assert uploads.take("two", Block(16, b"2", more=False)) == b"2" * 17


def test_an_upload_beyond_the_limit_is_refused_and_forgotten() -> None:
    uploads = Uploads(limit=20, total=1000)
    uploads.take("sender", Block(0, b"a" * 16, more=True))
    with pytest.raises(TooLarge):
        uploads.take("sender", Block(16, b"b" * 16, more=True))
    assert len(uploads) == 0


def test_memory_is_bounded_whoever_begins_uploads() -> None:
    uploads = Uploads(limit=100, total=160)
    for sender in range(50):
        uploads.take(sender, Block(0, b"a" * 16, more=True))
    assert len(uploads) == 10
    with pytest.raises(Incomplete):
        uploads.take(0, Block(16, b"b", more=False))
    assert uploads.take(49, Block(16, b"b", more=False)) == b"a" * 16 + b"b"


def test_an_upload_that_nobody_continues_is_forgotten() -> None:
    now = [0.0]
    uploads = Uploads(limit=100, total=1000, clock=lambda: now[0])
    uploads.take("gone", Block(0, b"a" * 16, more=True))
    now[0] = LIFETIME_S + 1
    uploads.take("other", Block(0, b"a" * 16, more=True))
    assert len(uploads) == 1


def test_the_diagnostic_names_what_was_held() -> None:
    said = held(Outcome(stored=2, problems=(Problem(Reason.UNKNOWN_METRIC, "pm3"),)))
    assert msgspec.json.decode(said) == {
        "stored": 2, "held": [{"reason": "unknown_metric", "detail": "pm3"}], "more": 0,
    }  # fmt: skip


@given(st.lists(st.text(max_size=400), max_size=300))
def test_the_diagnostic_always_fits_into_one_datagram(details: list[str]) -> None:
    problems = tuple(Problem(Reason.WRONG_TYPE, detail) for detail in details)
    encoded = held(Outcome(stored=0, problems=problems))
    said = msgspec.json.decode(encoded)
    assert len(encoded) <= DIAGNOSTIC
    assert len(said["held"]) + said["more"] == len(details)
