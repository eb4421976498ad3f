"""What a simulated device refuses: firmware that nobody it knows signed, for another model, or two at once."""

from __future__ import annotations

import asyncio
import base64
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from iot_core.model import firmware_text
from simulators.firmware import Flash, Updating
from simulators.secret import Secrets

KEY, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
IMAGE = b"image"


def asked(number: int = 1, *, key: Ed25519PrivateKey = KEY, **changes: Any) -> dict[str, Any]:
    """Make the command `firmware` as the core sends it."""
    digest = sha256(IMAGE)
    signature = key.sign(firmware_text("lamp", "2", digest.digest()))
    params = {
        "url": "http://127.0.0.1:9/firmware/1", "model": "lamp", "version": "2", "size": len(IMAGE),
        "sha256": digest.hexdigest(), "signature": base64.b64encode(signature).decode(),
    }  # fmt: skip
    return {"id": number, "name": "firmware", "params": params | changes}


@pytest.fixture
def lamp(tmp_path: Path) -> Updating:
    """Give a lamp with one signer's key built in."""
    return Updating("lamp-1", Secrets("secret"), "lamp", Flash(tmp_path), [KEY.public_key().public_bytes_raw()])


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (asked(key=STRANGER), "not signed"),
        (asked(version="3"), "not signed"),
        (asked(sha256="00" * 32), "not signed"),
        (asked(model="siren"), "for siren"),
        (asked(signature="?"), "not understood"),
        (asked(size="much"), "not understood"),
        ({"id": 1, "name": "firmware", "params": {}}, "not understood"),
    ],
)
def test_what_is_not_signed_for_it_is_refused_before_anything_is_fetched(
    lamp: Updating, command: dict[str, Any], why: str
) -> None:
    answer = lamp.told(command)
    assert (answer["state"], why in answer["detail"], lamp.flash.job) == ("failed", True, None)


def test_a_second_one_is_refused_while_one_is_under_way_and_a_repeated_one_is_answered_alike(
    lamp: Updating, tmp_path: Path
) -> None:
    assert lamp.told(asked(1)) == lamp.told(asked(1)) == {"id": 1, "state": "delivered"}
    assert lamp.told(asked(2))["detail"] == "busy with 2"
    lamp.flash.append(IMAGE[:2])
    again = Updating("lamp-1", Secrets("secret"), "lamp", Flash(tmp_path), lamp.trusted)
    assert (again.flash.job, again.flash.have()) == (lamp.flash.job, 2), "a power cut leaves job and bytes"
    assert again.told(asked(1))["state"] == "delivered"


async def test_an_image_that_is_not_what_was_signed_is_never_booted(lamp: Updating) -> None:
    lamp.told(asked(1))
    lamp.flash.append(b"other")
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    running = asyncio.create_task(lamp.run(answers.put))
    try:
        answer = await asyncio.wait_for(answers.get(), 60)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (answer["state"], lamp.flash.version) == ("failed", "")
    assert "not the one that was signed" in answer["detail"]
    assert lamp.told(asked(1)) == answer


async def test_a_booted_version_is_told_again_when_the_power_went_before_the_word(
    lamp: Updating, tmp_path: Path
) -> None:
    lamp.told(asked(1))
    lamp.flash.append(IMAGE)
    lamp.flash.boot("2")
    again = Updating("lamp-1", Secrets("secret"), "lamp", Flash(tmp_path), lamp.trusted)
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    running = asyncio.create_task(again.run(answers.put))
    try:
        assert await asyncio.wait_for(answers.get(), 60) == {"id": 1, "state": "succeeded"}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
