"""The end of the demo: count at the simulators, in the tables and at the center, and say what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from iot_core.cli.times import local
from iot_core.messages import text
from simulators.story import TARGET, CommitEar, Fires, Way
from simulators.verdict import AlarmNumbers, Faults, Latency, Percentiles, Verdict, numbers, percentile

if TYPE_CHECKING:
    from iot_core.app import Core
    from iot_core.client import Client
    from simulators.audit import Raised, Tables
    from simulators.bookkeeper import Bookkeeper
    from simulators.faults import Struck
    from simulators.ledger import Ledger
    from simulators.receiver import Center
    from simulators.registration import Registered
    from simulators.screen import Screen
    from simulators.signals import Ending
    from simulators.verdict import Account

__all__ = ["Cast", "Stage", "judge"]

_SETTLES_S: Final = 20.0
_RECEIPT_S: Final = 10.0
_LOOK_S: Final = 0.25
_NAMED: Final = 5
"""How many of the wrong ones are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who plays: the core and a client of it, the operations center, the screen, and a person who may want the end.

    `command` is how a person in a second terminal begins a line.
    """

    core: Core
    client: Client
    center: Center
    screen: Screen
    ended: Ending
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What is kept while the city runs, from `since` on."""

    cast: Cast
    registered: Registered
    struck: Struck
    ledger: Ledger
    tables: Tables
    books: Bookkeeper
    fires: Fires
    ear: CommitEar
    since: datetime


async def judge(stage: Stage, way: Way | None) -> Verdict:
    """Count at the simulators, in the tables and at the center, each for itself."""
    stage.cast.screen.line(text("demo.settling"))
    account = await stage.books.close(_SETTLES_S)
    raised = await _all_received(stage)
    pushed = await stage.tables.pushed(TARGET, [alarm.id for alarm in raised])
    verdict = Verdict(
        published=numbers(account.published),
        stored=numbers(account.stored),
        lost=len(account.lost),
        duplicate=len(account.unsent),
        held=await stage.tables.held(stage.since),
        alarms=AlarmNumbers(
            len(raised), sum(push.delivered_at is not None for push in pushed), _received(stage, raised)
        ),
        latency_ms=Latency(
            _percentiles(stage.ledger.committed_ms), None if way is None else round(way.ms(way.receipt), 1)
        ),
    )
    if stage.struck:
        faults = Faults({fault: len(keys) for fault, keys in stage.struck.items()}, stage.ledger.broken)
        verdict = msgspec.structs.replace(verdict, faults=faults)
    _say_verdict(stage, verdict, account, raised)
    return verdict


async def _all_received(stage: Stage) -> list[Raised]:
    """Wait, bounded, until the center has every alarm that was raised; give the alarms."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _RECEIPT_S
    while True:
        raised = await stage.tables.raised(stage.since)
        if _received(stage, raised) >= len(raised) or loop.time() >= deadline:
            return raised
        await asyncio.sleep(_LOOK_S)


def _received(stage: Stage, raised: Sequence[Raised]) -> int:
    ids = {alarm.id for alarm in raised}
    said = (receipt.said.data.alarm for receipt in stage.cast.center.raised())
    return len({alarm.id for alarm in said if alarm is not None and alarm.id in ids})


def _percentiles(values: Sequence[float]) -> Percentiles:
    p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
    return Percentiles(None if p50 is None else round(p50, 1), None if p99 is None else round(p99, 1))


def _say_verdict(stage: Stage, verdict: Verdict, account: Account, raised: Sequence[Raised]) -> None:
    line, published = stage.cast.screen.line, sum(account.published.values())
    line("")
    if verdict.lost or verdict.duplicate:
        line(text("demo.verdict_wrong", published=published, lost=verdict.lost, duplicate=verdict.duplicate))
        for sent in account.lost[:_NAMED]:
            line(text("demo.verdict_lost", device=sent.device, time=local(sent.time or sent.sent_at, millis=True)))
        for row in account.unsent[:_NAMED]:
            line(text("demo.verdict_unsent", device=row.device, time=local(row.time, millis=True)))
    else:
        line(text("demo.verdict_right", published=published))
    line(text("demo.verdict_held", held=verdict.held))
    if verdict.faults:
        line(text("demo.verdict_broken", broken=verdict.faults.broken))
    alarms = msgspec.structs.asdict(verdict.alarms)
    line(text("demo.verdict_alarms", **alarms, rejected=stage.cast.center.rejected))
    faulty = {key for keys in stage.struck.values() for key in keys}
    unscripted = [alarm for alarm in raised if alarm.device not in faulty and not stage.fires.explain(alarm)]
    if unscripted:
        names = ", ".join(f"{alarm.device} ({alarm.rule})" for alarm in unscripted[:_NAMED])
        line(text("demo.verdict_unscripted", alarms=len(unscripted), names=names))
    fire = verdict.latency_ms.fire_to_receipt
    line(text("demo.verdict_no_fire") if fire is None else text("demo.verdict_fire", seconds=f"{fire / 1000:.2f}"))
    commit = verdict.latency_ms.commit
    line(text("demo.verdict_commit", p50=commit.p50, p99=commit.p99))
    for problem, times in stage.ledger.problems.most_common(_NAMED):
        line(text("demo.verdict_problem", problem=problem, times=times))
    line(text("demo.passed" if verdict.good else "demo.failed"))
