"""Cancellations that libraries lose, taken up again: else a task would go on for ever, and the core never end."""

from __future__ import annotations

import asyncio

__all__ = ["notice_cancellation"]


def notice_cancellation() -> None:
    """Raise CancelledError in a task that was cancelled and does not know.

    Call it after awaiting what waits by asyncio.wait_for, which up to Python 3.11 gives a result or error that came in
    the same moment and forgets the cancellation (python/cpython#81839); and after catching an error of the database,
    for a rollback that is not answered ends in one, and covers the cancellation up that it was made for.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
