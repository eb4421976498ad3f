"""Alarms on their way out: an outbox written with the alarm, a worker that delivers it, targets.

alarm's transaction -> iot.outbox -> NOTIFY -> run_push -> POST, signed -> 2xx: delivered
                                        ^         '-> anything else: again, with jitter, for 24 h, then dead
                                        '- timer
"""

from iot_core.push.outbox import Notice, enqueue
from iot_core.push.worker import run_push

__all__ = ["Notice", "enqueue", "run_push"]
