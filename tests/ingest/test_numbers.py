"""What is held of a message is on record by its number, like what is stored: the device need not say it again."""

from __future__ import annotations

import asyncio
import json

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


async def test_two_workers_that_get_one_message_in_one_moment_store_it_once(any_shipped_dsn: str) -> None:
    async with running(any_shipped_dsn) as first, running(any_shipped_dsn) as second:
        await first.add("aq-1")
        await second.reload()
        for seq in range(30):
            async with asyncio.TaskGroup() as group:
                for path in (first, second):
                    group.create_task(path.say("aq-1", json.dumps({"seq": seq, "pm25": seq})))
        assert sorted(row["pm25"] for row in await first.rows()) == [float(seq) for seq in range(30)]
