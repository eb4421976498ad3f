"""Writes that wait for their answer, one small file each: a command that is typed again asks with the same key.

asked, key on the disk --> answer: forgotten        no answer (network gone, Ctrl-C, killed): kept for ten minutes
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from iot_core.cli import contexts

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Unanswered"]

_KEPT_S: Final = 600
"""As long as a core keeps its answers."""


class Unanswered:
    """Idempotency keys of what was asked of one core with one token; a disk that takes nothing keeps none.

    The token goes into the files' names: without it nobody can try out which password was asked with.
    """

    def __init__(self, url: str, token: str) -> None:
        self._asker = f"{url}\n{token}\n".encode()
        self._folder = contexts.file().with_name("unanswered")

    def key_of(self, asked: bytes) -> str:
        """Give the key to ask with: the one before, where this was asked and never answered."""
        path = self._path(asked)
        with suppress(OSError, UnicodeDecodeError):
            if time.time() - path.stat().st_mtime < _KEPT_S and (key := path.read_text("ascii")).isalnum():
                return key
        key = uuid.uuid4().hex
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._forget_old()
            path.write_text(key, "ascii")
        return key

    def answered(self, asked: bytes) -> None:
        """Forget a key: asking the same once more is meant as another deed."""
        with suppress(OSError):
            self._path(asked).unlink(missing_ok=True)

    def _forget_old(self) -> None:
        for each in self._folder.iterdir():
            if time.time() - each.stat().st_mtime >= _KEPT_S:
                each.unlink(missing_ok=True)

    def _path(self, asked: bytes) -> Path:
        return self._folder / sha256(self._asker + asked).hexdigest()
