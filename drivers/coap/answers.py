"""The answers a device gets, each with a diagnostic payload that a technician can read (RFC 7252 section 5.5.2)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

import msgspec
from aiocoap import Message
from aiocoap.numbers.codes import Code

from iot_core.messages import text
from iot_core.model import Outcome, Problem

JSON = 50
DIAGNOSTIC = 1_000
"""Bytes that fit into one datagram with the options, so that no diagnosis is ever cut into blocks."""

_LARGEST_BLOCK = 6
"""2**(6 + 4) = 1,024 bytes: the largest that RFC 7959 has over UDP."""

RETRY_S = (15, 45)
"""Max-Age of 5.03 is drawn from here, so that a city does not come back in one second."""


def outcome(what: Outcome) -> Message:
    """2.04 when anything was kept, with the list of what was held; 4.00 when nothing could be."""
    if not what.stored and not what.problems:
        return _said(Code.BAD_REQUEST, "driver.coap_nothing_kept")
    if not what.problems:
        return Message(code=Code.CHANGED)
    return Message(code=Code.CHANGED, payload=held(what), content_format=JSON)


def held(what: Outcome) -> bytes:
    """List what was held as JSON: codes, no sentences. As many entries as one datagram takes, and how many more."""
    entries = [_entry(problem) for problem in what.problems]
    for shown in range(len(entries), -1, -1):
        body = {"stored": what.stored, "held": entries[:shown], "more": len(entries) - shown}
        if len(encoded := msgspec.json.encode(body)) <= DIAGNOSTIC:
            return encoded
    return b""


def part(document: bytes, asked: Any) -> Message:
    """2.05: a JSON document, or the block of it that was `asked` for (Block2, RFC 7959), the first by itself.

    Nothing is kept between blocks; the ETag tells a device that the document changed meanwhile.
    """
    answer = Message(code=Code.CONTENT, payload=document, content_format=JSON)
    exponent = _LARGEST_BLOCK if asked is None else min(asked.size_exponent, _LARGEST_BLOCK)
    number, size = 0 if asked is None else asked.block_number, 1 << exponent + 4
    if number == 0 and len(document) <= size:
        return answer
    if number * size >= len(document):
        return Message(code=Code.BAD_REQUEST)
    answer.payload = document[number * size : (number + 1) * size]
    answer.opt.block2 = (number, (number + 1) * size < len(document), exponent)
    answer.opt.etag = hashlib.sha256(document).digest()[:8]
    return answer


def unauthorized() -> Message:
    """4.01: key and token do not belong together; which of them is wrong is not said."""
    return _said(Code.UNAUTHORIZED, "driver.coap_unauthorized")


def no_claim() -> Message:
    """4.00: what was posted to /v1/claim is none."""
    return _said(Code.BAD_REQUEST, "batch.bad_claim", detail="")


def wrong_format(given: int, accepted: Sequence[int]) -> Message:
    """4.15: names the formats that are read of a device that speaks the native contract."""
    return _said(
        Code.UNSUPPORTED_CONTENT_FORMAT,
        "driver.coap_wrong_format",
        given=given,
        accepted=", ".join(str(number) for number in accepted),
    )


def too_large(limit: int) -> Message:
    """4.13: Size1 says what would have been accepted (RFC 7959 section 4)."""
    answer = _said(Code.REQUEST_ENTITY_TOO_LARGE, "driver.coap_too_large", limit=limit)
    answer.opt.size1 = limit
    return answer


def incomplete() -> Message:
    """4.08: blocks are missing."""
    return _said(Code.REQUEST_ENTITY_INCOMPLETE, "driver.coap_incomplete")


def store_unavailable() -> Message:
    """5.03: nothing was acknowledged; Max-Age says when to come back."""
    return _later("driver.coap_store_unavailable")


def busy() -> Message:
    """5.03: too many requests wait already."""
    return _later("driver.coap_busy")


def _later(code: str) -> Message:
    seconds = random.randint(*RETRY_S)  # noqa: S311 - spreads a load, hides nothing
    answer = _said(Code.SERVICE_UNAVAILABLE, code, seconds=seconds)
    answer.opt.max_age = seconds
    return answer


def _said(code: Code, sentence: str, **facts: object) -> Message:
    return Message(code=code, payload=text(sentence, **facts).encode())


def _entry(problem: Problem) -> dict[str, str]:
    return {"reason": problem.reason.value, "detail": problem.detail[:120]}
