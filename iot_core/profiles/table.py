"""The base of every table of a profile or class file."""

from __future__ import annotations

import msgspec

__all__ = ["Table"]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a file; a key that is not listed is an error."""
