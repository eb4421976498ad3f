"""A device's secret and the one before or after it: it shows one, and the other when refused (docs/protocol.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Secrets"]


@dataclass(slots=True)
class Secrets:
    """Two secrets in flash. `keep` writes them there."""

    shown: str = ""
    other: str = ""
    newest: str = ""
    keep: Callable[[Secrets], None] | None = None

    def take(self, new: str) -> str:
        """Take a new secret beside the old one, to be shown next; give what shows that it is here."""
        if new != self.newest:
            old = self.shown
            self.shown, self.other, self.newest = new, old, new
            self._keep()
        return hashlib.sha256(new.encode()).hexdigest()

    def refused(self) -> None:
        """Show the other one next."""
        if self.other:
            self.shown, self.other = self.other, self.shown

    def opened(self) -> None:
        """Forget the old one once the new one has opened."""
        if self.other and self.shown == self.newest:
            self.other = ""
            self._keep()

    def _keep(self) -> None:
        if self.keep is not None:
            self.keep(self)
