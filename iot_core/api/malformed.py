"""Requests that are no HTTP: aiohttp answers 400 and writes a traceback with what was sent; one line is enough."""

from __future__ import annotations

import logging
from typing import Final

import structlog
from aiohttp.http_exceptions import HttpProcessingError

_log = structlog.get_logger()


class _OneLine(logging.Filter):
    """Say who sent it and what was wrong with it, never what it held: that may be a token in a header cut in two."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        sender = record.args[0] if isinstance(record.args, tuple) and record.args else None
        _log.info("api.malformed", sender=sender, why=type(error).__name__)
        return False


_ONE_LINE: Final = _OneLine()


def say_malformed_in_one_line() -> None:
    """Let aiohttp's server log what it cannot parse as one line of ours; twice changes nothing."""
    logging.getLogger("aiohttp.server").addFilter(_ONE_LINE)
