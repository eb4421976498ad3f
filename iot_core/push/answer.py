"""What became of one try at sending, as a short code (`timeout`, `http_503`...); words for it are in the catalogue."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """`error` is None only when the receiver has it. `status` is HTTP's or the protocol's own, where there is one."""

    status: int | None
    error: str | None

    @property
    def refused(self) -> bool:
        """Say whether the receiver is there and does not want this message."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in {408, 429}
