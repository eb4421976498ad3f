"""Secrets that must be shown or computed with again, encrypted where they are kept: AES-256-GCM under a master key.

STATE/master.keys   {"current": "k2", "keys": {"k1": BASE64, "k2": BASE64}}     mode 0600, apart from the database
database            sealed:1:k2:BASE64(nonce, ciphertext, tag)                  bound to the row it stands in (`about`)

What is only ever checked (tokens, device secrets, passwords) is a hash, and not here.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from iot_core.errors import StartError
from iot_core.state import write_private

__all__ = ["NAME", "Keys", "Vault", "is_sealed"]

NAME: Final = "master.keys"
_BEGIN: Final = "sealed:1:"
_NONCE: Final = 12
_KEY_BYTES: Final = 32


class Keys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of master keys. More than one: a rotation is under way."""

    current: str
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Seen:
    """The file as it was read."""

    keys: Keys
    stamp: tuple[int, int]


class Vault:
    """Seals and opens. The file is read again when it changes, so that a rotation reaches a running core."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: _Seen | None = None

    @property
    def current(self) -> str:
        """Name the key that seals now."""
        return self._read().current

    @property
    def keys(self) -> Keys:
        """Give all keys. Raises StartError when the file cannot be read."""
        return self._read()

    def make(self) -> bool:
        """Make the first key if there is none; say whether. Raises StartError for a file that is none."""
        if self.path.exists():
            self._read()
            return False
        self.write(Keys(current="k1", keys={"k1": _new_key()}))
        return True

    def write(self, keys: Keys) -> None:
        """Replace the file at once, closed to everybody else."""
        write_private(self.path, msgspec.json.format(msgspec.json.encode(keys)) + b"\n")

    def add_key(self) -> None:
        """Make another key, which seals from now on."""
        keys = self._read()
        name = f"k{1 + max(int(each[1:]) for each in keys.keys)}"
        self.write(Keys(current=name, keys={**keys.keys, name: _new_key()}))

    def drop_others(self) -> None:
        """Forget every key but the current one."""
        keys = self._read()
        self.write(Keys(current=keys.current, keys={keys.current: keys.keys[keys.current]}))

    def seal(self, secret: bytes, about: str) -> bytes:
        """Encrypt what stands in the row that `about` names (`credential/12/oscore`)."""
        keys = self._read()
        nonce = secrets.token_bytes(_NONCE)
        body = nonce + _cipher(keys, keys.current).encrypt(nonce, secret, about.encode())
        return f"{_BEGIN}{keys.current}:{base64.b64encode(body).decode()}".encode()

    def open(self, sealed: bytes, about: str) -> bytes:
        """Decrypt; what was never sealed (kept by an older version) is given as it is.

        Raises StartError when the key is not in the file, or when it was sealed for another row.
        """
        if not is_sealed(sealed):
            return sealed
        name, _, said = sealed.decode("ascii").removeprefix(_BEGIN).partition(":")
        body = base64.b64decode(said)
        try:
            return _cipher(self._read(), name).decrypt(body[:_NONCE], body[_NONCE:], about.encode())
        except (KeyError, InvalidTag) as exc:
            raise StartError("key.cannot_open", about=about, key=name, file=self.path) from exc

    def seal_text(self, secret: str, about: str) -> str:
        """Encrypt for a column of text."""
        return self.seal(secret.encode(), about).decode("ascii")

    def open_text(self, sealed: str, about: str) -> str:
        """Decrypt from a column of text."""
        return self.open(sealed.encode(), about).decode()

    def _read(self) -> Keys:
        try:
            found = self.path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if self._seen is None or self._seen.stamp != stamp:
                keys = msgspec.json.decode(self.path.read_bytes(), type=Keys)
                self._seen = _Seen(keys, stamp)
        except (OSError, msgspec.DecodeError) as exc:
            raise StartError("key.unreadable", file=self.path, detail=_why(exc)) from exc
        return self._seen.keys


def is_sealed(kept: bytes) -> bool:
    """Say whether this was sealed."""
    return kept.startswith(_BEGIN.encode())


def _new_key() -> str:
    return base64.b64encode(os.urandom(_KEY_BYTES)).decode()


def _cipher(keys: Keys, name: str) -> AESGCM:
    return AESGCM(base64.b64decode(keys.keys[name]))


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
