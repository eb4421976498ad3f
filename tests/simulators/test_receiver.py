"""The stand-in operations center believes a right signature only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import aiohttp
import pytest

from simulators.receiver import Center, operations_center

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
BODY = {
    "type": "alarm.raised",
    "timestamp": "2026-03-01T13:00:00Z",
    "data": {
        "alarm": {"id": 7, "rule": "fire_detector.smoke", "severity": "critical", "title": {"vi": "x", "en": "y"}},
        "device": {"key": "d-1", "name": "Đầu báo"},
    },
}


def signed(body: bytes, *, secret: str = SECRET, at: float | None = None, identity: str = "msg_1") -> dict[str, str]:
    """Sign by the scheme's text (standardwebhooks.com), not by the library that checks."""
    stamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{identity}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": identity,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }


async def post(center: Center, body: bytes, headers: dict[str, str]) -> int:
    async with aiohttp.ClientSession() as session, session.post(center.url, data=body, headers=headers) as response:
        return response.status


async def test_a_right_signature_is_taken_and_remembered() -> None:
    body = json.dumps(BODY).encode()
    async with operations_center() as center:
        center.secret = SECRET
        assert await post(center, body, signed(body)) == 204
        (receipt,) = center.raised()
        assert receipt.said.data.alarm is not None
        assert (receipt.id, receipt.said.data.alarm.id, receipt.again) == ("msg_1", 7, False)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(lambda body: signed(body + b" "), id="another body"),
        pytest.param(lambda body: signed(body, secret="whsec_" + base64.b64encode(b"x" * 24).decode()), id="secret"),
        pytest.param(lambda body: signed(body, at=time.time() - 3600), id="an hour old"),
        pytest.param(lambda body: signed(body) | {"webhook-id": "msg_2"}, id="another id"),
        pytest.param(lambda body: signed(body) | {"webhook-signature": "v1"}, id="no signature in it"),
        pytest.param(lambda body: signed(body) | {"webhook-signature": "v1,%%%"}, id="no base64"),
        pytest.param(lambda _body: {}, id="no headers"),
    ],
)
async def test_a_wrong_signature_is_rejected_and_counted(headers) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    body = json.dumps(BODY).encode()
    async with operations_center() as center:
        center.secret = SECRET
        assert await post(center, body, headers(body)) == 401
        assert (center.receipts, center.rejected) == ([], 1)


async def test_nothing_is_believed_before_the_secret_is_known() -> None:
    body = json.dumps(BODY).encode()
    async with operations_center() as center:
        assert await post(center, body, signed(body)) == 401


async def test_a_repeated_message_counts_once() -> None:
    body = json.dumps(BODY).encode()
    async with operations_center() as center:
        center.secret = SECRET
        for _ in range(3):
            assert await post(center, body, signed(body)) == 204
        assert (len(center.receipts), len(center.raised())) == (3, 1)


async def test_a_signed_message_of_another_shape_is_refused() -> None:
    body = b'{"type": "alarm.raised", "data": {"alarm": []}}'
    async with operations_center() as center:
        center.secret = SECRET
        assert await post(center, body, signed(body)) == 400
        assert center.raised() == []


async def test_an_alarm_of_no_device_is_taken_as_well() -> None:
    """An incident is of an area: its device has a class and no key."""
    data = {"alarm": BODY["data"]["alarm"], "device": {"key": None, "name": None, "class": "air_quality"}}  # type: ignore[index]
    body = json.dumps(BODY | {"data": data}).encode()
    async with operations_center() as center:
        center.secret = SECRET
        assert await post(center, body, signed(body)) == 204
        assert len(center.raised()) == 1
