"""Lengths of time as they are typed: `90s`, `15m`, `2h`, `7d`."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any

import click

from iot_core.messages import text

__all__ = ["Span"]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


class Span(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A length of time between two, themselves as they are typed."""

    name = "span"

    def __init__(self, least: str, most: str) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        seconds = _seconds(value)
        if not _seconds(self._least) <= seconds <= _seconds(self._most):
            self.fail(text("command.expect_span", least=self._least, most=self._most), param, ctx)
        return timedelta(seconds=seconds)


def _seconds(typed: str) -> float:
    """Read it; what is no length is not a number, and so never between two."""
    found = _SPAN.fullmatch(typed.strip())
    return math.nan if found is None else float(found[1]) * _SECONDS[found[2]]
