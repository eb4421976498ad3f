"""The core's log on stderr: for a person on a terminal, JSON lines otherwise; stdout is for the lines of `iot up`."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

from iot_core.settings import environment

__all__ = ["log_to_stderr", "unfailing"]


def log_to_stderr() -> None:
    """Set where the log of this process goes. A terminal sees what changed for the worse; a file sees all."""
    person = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer(colors=not environment("NO_COLOR")) if person else _json()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("warning" if person else "info"),
        logger_factory=structlog.WriteLoggerFactory(unfailing(sys.stderr)),
        cache_logger_on_first_use=False,
    )


class _Unfailing(io.TextIOBase):
    """Writes as long as it can: who logs must not fail for a full disk, or for a terminal that is gone."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write it, or let it go."""
        with suppress(OSError):
            return self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what is there, or let it go."""
        with suppress(OSError):
            self._file.flush()


def unfailing(file: TextIO) -> TextIO:
    """Give the file as one that raises no `OSError`."""
    return cast("TextIO", _Unfailing(file))


def _json() -> structlog.types.Processor:
    return structlog.processors.JSONRenderer(ensure_ascii=False)
