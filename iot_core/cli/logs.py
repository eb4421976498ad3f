"""The core's log on stderr: for a person on a terminal, JSON lines otherwise; stdout is for the lines of `iot up`."""

from __future__ import annotations

import sys

import structlog

from iot_core.settings import environment

__all__ = ["log_to_stderr"]


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _json() -> structlog.types.Processor:
    return structlog.processors.JSONRenderer(ensure_ascii=False)
