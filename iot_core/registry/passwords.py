"""Device secrets as Mosquitto's password file keeps them, so that every broker mode checks the same hash.

$7$ITERATIONS$SALT$HASH     PBKDF2-HMAC-SHA512, both parts base64 (what we write)
$6$SALT$HASH                SHA512(secret + salt) (what older files hold; read only)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

__all__ = ["check_secret", "hash_secret"]

# Mosquitto's own number. A secret of 128 random bits cannot be guessed, so more work would only slow the broker.
_ITERATIONS: Final = 101
_MOST_ITERATIONS: Final = 1_000_000
_SALT_BYTES: Final = 12


def hash_secret(secret: str) -> str:
    """Hash a secret with a new salt, in the form of `mosquitto_passwd`."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${_base64(salt)}${_base64(digest)}"


def check_secret(secret: str, hashed: str) -> bool:
    """Say whether `secret` has this hash, in constant time. A hash that nobody can read matches nothing."""
    try:
        match hashed.split("$"):
            case ["", "7", iterations, salt, digest] if 1 <= int(iterations) <= _MOST_ITERATIONS:
                made = hashlib.pbkdf2_hmac("sha512", secret.encode(), _bytes(salt), int(iterations))
            case ["", "6", salt, digest]:
                made = hashlib.sha512(secret.encode() + _bytes(salt)).digest()
            case _:
                return False
        return hmac.compare_digest(made, _bytes(digest))
    except (ValueError, binascii.Error, UnicodeError):
        return False


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
