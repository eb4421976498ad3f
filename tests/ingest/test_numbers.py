"""What is held of a message is on record by its number, like what is stored: the device need not say it again."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

from iot_core.store import status
from tests.ingest.harness import running

AT = "2026-11-20T08:00:00+07:00"


async def test_an_element_that_is_held_for_its_time_is_on_record(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        elements = [
            {"seq": 1, "pm25": 1, "time": AT},
            {"seq": 2, "pm25": 2},
            {"seq": 3, "pm25": 3, "time": "noon"},
            {"seq": 4, "run": "b", "pm25": 4},
            {"seq": -5, "pm25": 5},
            {"seq": 6, "run": ["c"], "pm25": 6},
        ]
        outcome = await path.say("aq-1", json.dumps(elements))
        assert outcome.stored == 1
        rows = await path.pool.fetch("SELECT run, seqs::text AS seqs FROM iot.seq_range ORDER BY run")
        assert [(row["run"], row["seqs"]) for row in rows] == [("", "{[1,4)}"), ("b", "{[4,5)}")]


async def test_numbers_are_kept_for_a_while_and_ranges_of_a_run_are_bounded(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        clock = [{"seq": 7 * number, "run": "clock", "pm25": 1} for number in range(status.MOST_RANGES + 3)]
        await path.say("aq-1", json.dumps([*clock, {"seq": 1, "run": "old", "pm25": 1}, {"seq": 1, "pm25": 1}]))
        await path.pool.execute("UPDATE iot.seq_range SET changed_at = now() - interval '3 days' WHERE run = 'old'")
        async with path.pool.acquire() as connection:
            for _ in range(2):
                await status.trim_seqs(connection, keep=timedelta(days=2))
        rows = await path.pool.fetch(
            "SELECT run, lower(seqs) AS first, (SELECT count(*) FROM unnest(seqs)) AS ranges FROM iot.seq_range"
            " ORDER BY run"
        )
        assert [tuple(row) for row in rows] == [("", 1, 1), ("clock", 21, status.MOST_RANGES)]


async def test_two_workers_that_get_one_message_in_one_moment_store_it_once(any_shipped_dsn: str) -> None:
    async with running(any_shipped_dsn) as first, running(any_shipped_dsn) as second:
        await first.add("aq-1")
        await second.reload()
        for seq in range(30):
            async with asyncio.TaskGroup() as group:
                for path in (first, second):
                    group.create_task(path.say("aq-1", json.dumps({"seq": seq, "pm25": seq})))
        assert sorted(row["pm25"] for row in await first.rows()) == [float(seq) for seq in range(30)]
