"""Sends what is due: claimed in the table, handed to a driver, noted in the ledger.

A core that dies between the two leaves its claim, which runs out; the command is then sent again with the same id, or,
where that could do it twice and nobody would know (`once`), fails with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from iot_core.cancelled import notice_cancellation
from iot_core.commanding.shown import shown
from iot_core.errors import CommandRejected, DeviceUnreachable, IotError, NotFoundError
from iot_core.model import Command, CommandState
from iot_core.registry import commands, pending
from iot_core.registry.commands import CHANNEL, Claimed, Step
from iot_core.store.connection import AWAY, RETRY, wake_on

if TYPE_CHECKING:
    import asyncpg

    from iot_core.commanding.handover import Handover
    from iot_core.commanding.ledger import Ledger
    from iot_core.commanding.reach import Reach
    from iot_core.model import MountedUnit

__all__ = ["Sender"]

log = structlog.get_logger()

_IN_FLIGHT: Final = 1_000
_SEND_S: Final = 25.0
"""A driver has this long; less than a claim holds (registry/commands.py)."""
_LOOK_S: Final = 1.0
"""While something is open: who came online, which readings came."""
_IDLE_S: Final = 30.0
_STORE_AWAY_S: Final = 1.0
_AGAIN_S: Final = 10.0
"""A native device that says nothing is sent the same command again after this, then after twice as long, ..."""
_TRIES: Final = 5
_LONGEST_PAUSE_S: Final = 60.0


class Sender:
    """Owns the sends in flight, and how fast each order may go on."""

    def __init__(self, pool: asyncpg.Pool, reach: Reach, ledger: Ledger, handover: Handover) -> None:
        self._pool = pool
        self._reach = reach
        self._ledger = ledger
        self._handover = handover
        self._wake = asyncio.Event()
        self._in_flight = 0
        self._paces: dict[int, _Pace] = {}

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(wake_on(self._pool, CHANNEL, self._wake), name="commands listen")
            away = False
            while True:
                self._wake.clear()
                try:
                    wait = await self._step(group)
                    away = False
                except (*AWAY, *RETRY) as exc:
                    notice_cancellation()
                    wait = _STORE_AWAY_S
                    if not away:
                        log.warning("command.store_away", reason=type(exc).__name__)
                    away = True
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()

    async def _step(self, group: asyncio.TaskGroup) -> float:
        """Close what is over, send what is due; say for how many seconds nothing will be."""
        async with self._pool.acquire() as connection:
            if await commands.close(connection):
                self._ledger.touch()
            for step in await shown(connection):
                await self._ledger.add(step)
            due = await commands.ready(connection)
            self._paces = {order_id: self._paces.get(order_id, _Pace(rate)) for order_id, rate, _ in due}
            units = self._reach.by_key() if due else {}
            for order_id, _, waiting in due:
                most = self._paces[order_id].take(min(waiting, _IN_FLIGHT - self._in_flight))
                if most <= 0:
                    continue
                for claimed in await commands.claim(connection, order_id, most):
                    self._in_flight += 1
                    unit = units.get(claimed.device_key)
                    group.create_task(self._send(claimed, unit), name=f"command {claimed.id}")
            next_in = await commands.until_next(connection)
        if next_in is None:
            return _IDLE_S
        return min(_LOOK_S, max(0.05, next_in.total_seconds()))

    async def _send(self, claimed: Claimed, unit: MountedUnit | None) -> None:
        """Send one command once and note what became of it; if we die before, the claim runs out."""
        began = datetime.now(UTC)
        command = Command(id=claimed.id, name=claimed.name, params=claimed.params, expires=claimed.expires_at)
        try:
            async with asyncio.timeout(_SEND_S):
                if claimed.source == pending.SOURCE:
                    command = await self._handover.to_send(command, claimed.device_key)
                state = await self._reach.send(unit, claimed.device_key, command)
        except (CommandRejected, NotFoundError) as exc:
            step = Step(id=claimed.id, state="failed", at=datetime.now(UTC), problem=_problem(exc, "rejected"))
        except DeviceUnreachable as exc:
            step = _unreachable(claimed, _problem(exc, "unreachable"))
        except TimeoutError:
            step = _unreachable(claimed, {"code": "command.too_slow", "facts": {}, "kind": "unreachable"})
        except Exception:
            # A driver's bug must cost one command, not the sender.
            log.exception("command.send_failed", device=claimed.device_key, id=claimed.id)
            problem = {"code": "command.internal", "facts": {"id": claimed.id}, "kind": "rejected"}
            step = Step(id=claimed.id, state="failed", at=datetime.now(UTC), problem=problem)
        else:
            step = Step(id=claimed.id, state=state.value, at=began, next_at=_again(claimed, state))
        finally:
            self._in_flight -= 1
        await self._ledger.add(step)
        if self._in_flight >= _IN_FLIGHT - 1:
            self._wake.set()


def _unreachable(claimed: Claimed, problem: dict[str, Any]) -> Step:
    """Queue it again where it may be, for a little later each time."""
    now = datetime.now(UTC)
    if not claimed.again and not claimed.presence:
        problem = problem | {"code": "command.outcome_unknown", "facts": {}}
        return Step(id=claimed.id, state="failed", at=now, problem=problem)
    if claimed.most_tries is not None and claimed.tries >= claimed.most_tries:
        return Step(id=claimed.id, state="failed", at=now, problem=problem)
    pause = min(_LONGEST_PAUSE_S, 0.5 * 2.0 ** min(claimed.tries, 8))
    return Step(id=claimed.id, state="queued", at=now, problem=problem, next_at=now + timedelta(seconds=pause))


def _again(claimed: Claimed, state: CommandState) -> datetime:
    """Say when a native device that answers nothing is sent it again."""
    most = _TRIES if claimed.most_tries is None else claimed.most_tries
    if state is not CommandState.SENT or claimed.tries >= most:
        return claimed.expires_at
    return datetime.now(UTC) + timedelta(seconds=_AGAIN_S * 2.0 ** (claimed.tries - 1))


def _problem(error: IotError, kind: str) -> dict[str, Any]:
    facts = {name: fact if isinstance(fact, (int, float)) else str(fact) for name, fact in error.facts.items()}
    return {"code": error.code, "facts": facts, "kind": kind}


class _Pace:
    """Lets an order go on at its rate, from one on; a second's worth at once at most."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._tokens = 1.0
        self._at = time.monotonic()

    def take(self, most: int) -> int:
        if self._rate is None:
            return most
        now = time.monotonic()
        self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._at) * self._rate)
        self._at = now
        taken = max(0, min(most, int(self._tokens)))
        self._tokens -= taken
        return taken
