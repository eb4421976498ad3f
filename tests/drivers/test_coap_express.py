"""The short way reads what aiocoap reads, and remembers no more than it should."""

from __future__ import annotations

from aiocoap import Message
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import Type
from hypothesis import given
from hypothesis import strategies as st

from drivers.coap.datagram import Post, answer, read_post
from drivers.coap.recent import EXCHANGE_LIFETIME_S, Recent

KEY = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=63)


def message(kind: Type, mid: int, token: bytes, payload: bytes, **options: object) -> Message:
    made = Message(code=Code.POST, payload=payload, **options)
    made.mtype, made.mid, made.token = kind, mid, token
    return made


@given(
    kind=st.sampled_from([Type.CON, Type.NON]),
    mid=st.integers(0, 65_535),
    token=st.binary(max_size=8),
    key=KEY,
    secret=st.text(max_size=80),
    content_format=st.sampled_from([None, 0, 50, 60, 112, 11_542]),
    payload=st.binary(min_size=1, max_size=300),
)
def test_a_plain_post_is_read_as_aiocoap_wrote_it(  # noqa: PLR0917 - hypothesis gives each by name
    kind: Type, mid: int, token: bytes, key: str, secret: str, content_format: int | None, payload: bytes
) -> None:
    options = {
        "uri_path": ("v1", key, "telemetry"),
        "uri_query": (f"token={secret}",),
        "content_format": content_format,
    }
    written = message(kind, mid, token, payload, **options).encode()
    expected = Post(kind is Type.CON, mid, token, key, secret, content_format, payload)
    assert read_post(written) == (expected if len(f"token={secret}".encode()) < 269 else None)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_left_to_aiocoap(data: bytes) -> None:
    post = read_post(data)
    assert post is None or data.endswith(post.payload)


@given(st.integers(0, 120), st.binary(max_size=4))
def test_a_damaged_post_is_never_taken_for_another_sender(place: int, junk: bytes) -> None:
    whole = message(
        Type.CON, 7, b"t", b"{}", uri_path=("v1", "aq-1", "telemetry"), uri_query=("token=secret",)
    ).encode()
    damaged = whole[:place] + junk + whole[place + len(junk) :]
    post = read_post(damaged)
    if post is not None and (post.key, post.secret) != ("aq-1", "secret"):
        theirs = Message.decode(damaged)
        assert theirs.opt.uri_path == ("v1", post.key, "telemetry")
        assert theirs.opt.uri_query == (f"token={post.secret}",)


def test_what_needs_more_than_a_post_is_left_to_aiocoap() -> None:
    plain = {"uri_path": ("v1", "aq-1", "telemetry"), "uri_query": ("token=x",)}
    assert read_post(message(Type.CON, 1, b"", b"{}", **plain).encode()) is not None
    others: list[dict[str, object]] = [
        {**plain, "block1": (0, True, 2)}, {**plain, "observe": 0}, {**plain, "oscore": b"\x09\x01"},
        {**plain, "uri_query": ("token=x", "a=b")}, {**plain, "uri_query": ("a=b",)}, {**plain, "no_response": 2},
        {**plain, "uri_path": ("v1", "aq-1", "status")}, {**plain, "uri_path": ("v1", "telemetry")},
        {**plain, "size1": 5_000}, {**plain, "accept": 50}, {**plain, "if_none_match": True},
    ]  # fmt: skip
    for options in others:
        assert read_post(message(Type.CON, 1, b"", b"{}", **options).encode()) is None
    assert read_post(message(Type.CON, 1, b"", b"", **plain).encode()) is None, "an empty one gets its 4.00 elsewhere"
    assert read_post(message(Type.ACK, 1, b"", b"{}", **plain).encode()) is None


@given(st.sampled_from([0, 1, 2]), st.sampled_from([0, 0x44]), st.integers(0, 65_535), st.binary(max_size=8))
def test_an_answer_is_what_aiocoap_reads(kind: int, code: int, mid: int, token: bytes) -> None:
    read = Message.decode(answer(kind, code, mid, token))
    assert (read.mtype, read.code, read.mid, read.token, read.payload) == (kind, code, mid, token, b"")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 200)), max_size=60))
def test_a_message_is_known_for_as_long_as_its_sender_may_repeat_it(steps: list[tuple[int, int]]) -> None:
    now = 0.0
    recent = Recent(most=1_000, clock=lambda: now)
    came: dict[int, float] = {}
    for key, wait in steps:
        now += wait
        expected = key in came and now - came[key] < EXCHANGE_LIFETIME_S
        assert recent.repeated(key) is expected
        if not expected:
            came[key] = now
            recent.answered(key, bytes([key]))
        assert recent.answer(key) == bytes([key])


@given(st.lists(st.integers(0, 40), max_size=200))
def test_no_more_is_remembered_than_the_bound_allows(keys: list[int]) -> None:
    recent = Recent(most=10)
    for key in keys:
        recent.repeated(key)
        assert key in recent
        assert len(recent) <= 10


def test_an_answer_to_what_was_forgotten_is_not_kept() -> None:
    recent = Recent(most=1)
    recent.repeated("a")
    recent.repeated("b")
    recent.answered("a", b"late")
    assert recent.answer("a") is None
    assert len(recent) == 1
