"""Requests and answers about health and broker."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from iot_core.api.shapes.base import Answer


class Ready(Answer, frozen=True, kw_only=True):
    """Parts of the core, and whether each is up."""

    ready: bool
    parts: dict[str, bool]
