"""Assembling block-wise uploads (RFC 7959, Block1) within a bound of memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

LIFETIME_S = 247.0
"""EXCHANGE_LIFETIME of RFC 7252: nobody continues an upload after that."""


class TooLarge(Exception):
    """Raised when an upload exceeds what is accepted; names the limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"more than {limit} bytes")


class Incomplete(Exception):
    """Raised when the blocks before this one are not there: the sender has to start again."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of an upload: where it starts, what it carries, whether another follows."""

    start: int
    payload: bytes
    more: bool


@dataclass(slots=True)
class _Upload:
    data: bytearray = field(default_factory=bytearray)
    touched: float = 0.0


class Uploads:
    """Unfinished uploads by sender, at most `limit` bytes each and `total` bytes together.

    uploads.take(sender, Block(0, b"...", more=True))        # None: give me the next
    uploads.take(sender, Block(1024, b"...", more=False))    # the whole body
    """

    def __init__(self, limit: int, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._total = total
        self._clock = clock
        self._uploads: OrderedDict[Hashable, _Upload] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._uploads)

    def take(self, sender: Hashable, block: Block) -> bytes | None:
        """Add a block. Give the whole body after the last one. Raises TooLarge or Incomplete."""
        upload = self._continued(sender, block)
        if block.start + len(block.payload) > self._limit:
            raise TooLarge(self._limit)
        if bytes(upload.data[block.start :]) != block.payload:  # else: the sender repeats its last block
            upload.data += block.payload
        if not block.more:
            return bytes(upload.data)
        self._keep(sender, upload)
        return None

    def _continued(self, sender: Hashable, block: Block) -> _Upload:
        """Take the sender's upload out of the store; block 0 begins a new one."""
        upload = self._drop(sender)
        if block.start == 0:
            return _Upload()
        if upload is None or block.start not in (len(upload.data), len(upload.data) - len(block.payload)):
            raise Incomplete
        return upload

    def _keep(self, sender: Hashable, upload: _Upload) -> None:
        now = upload.touched = self._clock()
        self._uploads[sender] = upload
        self._bytes += len(upload.data)
        while self._uploads:
            oldest, first = next(iter(self._uploads.items()))
            if self._bytes <= self._total and now - first.touched < LIFETIME_S:
                return
            self._drop(oldest)

    def _drop(self, sender: Hashable) -> _Upload | None:
        upload = self._uploads.pop(sender, None)
        if upload is not None:
            self._bytes -= len(upload.data)
        return upload
