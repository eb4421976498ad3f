"""Keep a service running: restart it with back-off when its other end is away, log the transition once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from iot_core.errors import DriverUnavailable, StartError, StoreUnavailable
from iot_core.store.connection import AWAY

log = structlog.get_logger()

_LONGEST_S: Final = 30.0
_HEALTHY_AFTER_S: Final = 60.0


async def supervise(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a service until cancelled. The one place that catches everything: one part's fault must not end the rest."""
    attempt = 0
    while True:
        started = time.monotonic()
        try:
            await run()
        except StartError:
            raise  # the world is not fit for this part: nothing that waiting would mend
        except (DriverUnavailable, StoreUnavailable, *AWAY) as exc:
            if attempt == 0:
                log.warning("service.away", service=name, error=str(exc))
        except Exception:
            log.exception("service.failed", service=name)
        if time.monotonic() - started > _HEALTHY_AFTER_S:
            attempt = 0
        attempt = min(attempt + 1, 10)
        await asyncio.sleep(random.uniform(0.1, min(_LONGEST_S, 1.5**attempt)))  # noqa: S311 - jitter, not a secret
