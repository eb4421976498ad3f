"""The database answers, and says no: to a row, to a transaction, to a statement that takes too long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.city import city, sending
from tests.faults.ledger import METRIC, locked
from tests.faults.result import Recorder
from tests.faults.senders import publish_all

BATCH = 5_000
POISON = 4_242

UNLUCKY = """
CREATE SEQUENCE faults;
CREATE FUNCTION unlucky() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE nextval('faults') % 4
        WHEN 1 THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01';
        WHEN 2 THEN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
        ELSE RETURN NULL;
    END CASE;
END $$;
CREATE TRIGGER unlucky BEFORE INSERT ON telemetry.air_quality FOR EACH STATEMENT EXECUTE FUNCTION unlucky()
"""


@pytest.mark.faults(
    "Every second transaction ends in a deadlock or a serialization failure",
    "The same batch is tried again at once; nothing was acknowledged",
)
async def test_deadlocks_and_serialization_failures_are_tried_again(
    state_path: Path, ports: int, database: str, record: Recorder
) -> None:
    async with city(state_path, ports, STORE_DSN=database) as town:
        senders = await town.mqtt("timed"), await town.mqtt("numbered", timed=False), await town.coap("coap")
        await town.sql(UNLUCKY)
        async with sending(*senders):
            for sender in senders:
                await sender.reaches(50)
            back = await town.stored_again()
        verdict = await town.verdict()
        record(verdict, town.up, back_s=back)
        assert verdict.sound, verdict
        assert await town.up.counter("ingest_retried") > 10


@pytest.mark.faults(
    "One poison row among 5,000",
    "The batch is halved until the row stands alone; that one is held with the database's words, the rest stored",
)
async def test_one_poison_row_is_held_alone(state_path: Path, ports: int, database: str, record: Recorder) -> None:
    async with city(state_path, ports, STORE_DSN=database) as town:
        secret = await town.add("burst")
        await town.sql(f"ALTER TABLE telemetry.air_quality ADD CONSTRAINT poison CHECK ({METRIC} <> {POISON})")
        await town.up.kill()  # so that they wait in the broker and come as one batch
        ledger = town.ledger()
        ledger.note("burst", await publish_all(ports + 1, "burst", secret, 0, BATCH))
        await town.up.start()
        ledger.acknowledged.remove(("burst", POISON))
        verdict = await town.verdict(ledger)
        held = await town.value("SELECT array_agg(convert_from(payload, 'UTF8')) FROM iot.held_uplink")
        record(verdict, town.up, noted="1 held")
        assert verdict.sound, verdict
        assert len(held) == 1
        assert f'"seq": {POISON},' in held[0]


@pytest.mark.faults(
    "Statement timeout: the table is locked for longer, then each row takes 2 ms so that no whole batch can be in time",
    "Waits and tries again, with half of what was not in time: a batch that never could be is written in parts",
)
async def test_a_statement_timeout_is_waited_out_and_a_batch_that_is_too_slow_is_made_smaller(
    state_path: Path, ports: int, database: str, record: Recorder
) -> None:
    async with city(state_path, ports, STORE_DSN=database, STORE_STATEMENT_TIMEOUT_S="1") as town:
        sender, secret = await town.mqtt("timed"), await town.add("burst")
        async with sending(sender):
            await town.stored_again()
            async with locked(database, "telemetry.air_quality"):
                await sender.reaches(len(sender.said) + 300)
            back = await town.stored_again()
        await town.sql(
            "CREATE FUNCTION crawl() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$",
            "CREATE TRIGGER crawl BEFORE INSERT ON telemetry.air_quality FOR EACH ROW EXECUTE FUNCTION crawl()",
        )
        ledger = town.ledger()
        ledger.note("burst", await publish_all(ports + 1, "burst", secret, 0, BATCH))
        verdict = await town.verdict(ledger)
        record(verdict, town.up, back_s=back)
        assert verdict.sound, verdict
