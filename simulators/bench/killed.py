"""A core that SIGKILLs itself on its way: `python -m simulators.bench.killed POINT COUNT up ...`.

POINT is a step between an uplink and its receipt; it dies the COUNT-th time it comes there.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from iot_core.alarms import evaluate, ledger
from iot_core.cli import main
from iot_core.ingest import worker as ingest
from iot_core.ingest.flush import Flush
from iot_core.push import outbox
from iot_core.push.senders.webhook import WebhookSender
from iot_core.push.worker import Worker

__all__ = ["POINTS"]

_STEPS: Final[tuple[tuple[str, Any, str], ...]] = (
    ("flush", Flush, "__call__"),
    ("judge", evaluate.Evaluator, "evaluate"),
    ("lock", evaluate, "lock"),
    ("save", evaluate, "save"),
    ("enqueue", ledger, "enqueue"),
    ("status", Flush, "_write_status"),
    ("acknowledge", ingest.Ingest, "_acknowledge"),
    ("claim", outbox, "claim"),
    ("send", WebhookSender, "send"),
    ("mark", outbox, "mark_delivered"),
    ("deliver", Worker, "_deliver"),
)
POINTS: Final = tuple(f"{when}-{name}" for name, _, _ in _STEPS for when in ("before", "after"))
"""Before and after each step, in the order in which an alarm goes through them."""


def _arm(point: str, count: int) -> None:
    when, _, wanted = point.partition("-")
    owner, attribute = next((owner, attribute) for name, owner, attribute in _STEPS if name == wanted)
    step: Callable[..., Any] = getattr(owner, attribute)
    left = count

    def pass_by() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(step)
    async def deadly(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            pass_by()
        result = await step(*args, **kwargs)
        if when == "after":
            pass_by()
        return result

    setattr(owner, attribute, deadly)


if __name__ == "__main__":
    _arm(sys.argv[1], int(sys.argv[2]))
    sys.argv = ["iot", *sys.argv[3:]]
    main()
