"""Lengths of time as they are typed: `90s`, `15m`, `2h`, `7d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import click

from iot_core.messages import text

__all__ = ["SPAN"]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


class Span(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A length of time."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        found = _SPAN.fullmatch(value.strip())
        if found is None:
            self.fail(text("command.expect_span"), param, ctx)
        return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])


SPAN = Span()
