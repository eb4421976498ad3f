"""The signature of a POST after the Standard Webhooks scheme. Pure.

webhook-id: msg_...            the same on every try
webhook-timestamp: 1788220800  of this try
webhook-signature: v1,BASE64   HMAC-SHA256 over "id.timestamp.body" with the target's secret
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from typing import Final

from iot_core.errors import RequestError

PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32


def new_secret() -> str:
    """Make a secret: 256 random bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def check_secret(secret: str) -> str:
    """Check the form of a secret that someone brings along. Raises RequestError, which does not repeat it."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise RequestError("push.bad_secret") from exc
    if not secret.startswith(PREFIX) or not 24 <= len(key) <= 64:
        raise RequestError("push.bad_secret")
    return secret


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Sign one try of a message."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def headers(
    secret: str | Sequence[str],
    message_id: str,
    body: bytes,
    now: float | None = None,
    *,
    content_type: str = "application/json",
) -> dict[str, str]:
    """Make the headers of one try; with several secrets there are as many signatures, and one of them has to fit."""
    timestamp = int(time.time() if now is None else now)
    secrets_ = [secret] if isinstance(secret, str) else secret
    return {
        "content-type": content_type,
        "user-agent": "iot-core",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(each, message_id, timestamp, body) for each in secrets_),
    }
