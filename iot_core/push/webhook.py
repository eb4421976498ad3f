"""One signed POST after the Standard Webhooks scheme, and what became of it as a short code.

webhook-id: msg_...            the same on every try
webhook-timestamp: 1788220800  of this try
webhook-signature: v1,BASE64   HMAC-SHA256 over "id.timestamp.body" with the target's secret
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import ssl
import time
from collections.abc import Sequence
from typing import Final

import aiohttp
from yarl import URL

from iot_core.errors import RequestError
from iot_core.push.addresses import PinnedResolver, PrivateAddressError, is_public, literal
from iot_core.push.answer import Answer

PREFIX: Final = "whsec_"
MOST_ANSWER: Final = 64 * 1024
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


def open_session(*, allow_private: bool, timeout_s: float, tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """Open a session for one target: nothing is shared with other targets but the loop."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=PinnedResolver(allow_private=allow_private), limit=0, ssl=tls if tls is not None else True
        ),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # the answer is looked at by its length only
        trust_env=False,  # a proxy would resolve the name again
    )


async def post(
    session: aiohttp.ClientSession,
    url: str,
    secret: str | Sequence[str],
    message_id: str,
    data: bytes,
    *,
    content_type: str,
    allow_private: bool,
) -> Answer:
    """Send one message once. Never raises for what the other side does; never follows a redirect."""
    target = URL(url)
    address = literal(target.host or "")
    if address is not None and not allow_private and not is_public(address):
        return Answer(None, "private_address")
    try:
        signed = headers(secret, message_id, data, content_type=content_type)
        async with session.post(target, data=data, headers=signed, allow_redirects=False) as response:
            await _drain(response)
            return _judge(response.status)
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        return Answer(None, _word(exc))


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read at most MOST_ANSWER bytes, so that the connection can be used again; with more to come it is closed."""
    left = MOST_ANSWER
    while left > 0 and (chunk := await response.content.read(left)):
        left -= len(chunk)


def _judge(status: int) -> Answer:
    if 200 <= status < 300:
        return Answer(status, None)
    return Answer(status, "redirect" if 300 <= status < 400 else f"http_{status}")


def _word(exc: Exception) -> str:
    """Say what went wrong in a code: the library's own texts repeat hosts and URLs."""
    if isinstance(exc, TimeoutError | asyncio.TimeoutError):
        return "timeout"
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return "private_address" if isinstance(exc.os_error, PrivateAddressError) else "unresolved"
    if isinstance(exc, aiohttp.ClientSSLError | ssl.SSLError):
        return "tls"
    if isinstance(exc, aiohttp.ClientConnectorError):
        return "unreachable"
    return "disconnected"
