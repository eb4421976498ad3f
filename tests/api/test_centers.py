"""Alarms of other centers: signed with the Standard Webhooks library, taken once, in order, and never in a circle."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from standardwebhooks.webhooks import Webhook

from iot_core.alarms.feeding import watch_centers
from iot_core.api.shapes import AlarmDeed, AreaNew, EscalationNew, EscalationStep, HandoverNew, PushProof
from iot_core.errors import ConflictError
from iot_core.model import Severity
from tests.api.city import City, Reply, served, until
from tests.conftest import migrate
from tests.core import command
from tests.push.alarms import pushing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests import servers

PATH = "/alarms?center=fire-dept"


async def joined(city: City, key: str = "fire-dept", area: str | None = None) -> str:
    async with city.client() as client:
        added = await client.add_center(key, "Cảnh sát PCCC", area=area)
    assert added.secret.startswith("whsec_")
    return added.secret


async def say(
    city: City, secret: str, kind: str = "raised", *, id_: str = "msg_1", at: datetime | None = None,
    signed_at: datetime | None = None, path: str = PATH, device: dict[str, Any] | None = None, **alarm: Any,
) -> Reply:  # fmt: skip
    moment = at or datetime.now(UTC)
    body = json.dumps({
        "type": f"alarm.{kind}", "timestamp": moment.isoformat(), "sent_by": "their own system",
        "data": {"alarm": {"id": "F-17", "title": "Cháy kho xăng", "severity": "critical", **alarm}, "device": device},
    })  # fmt: skip
    stamp = signed_at or datetime.now(UTC)
    headers = {
        "Content-Type": "application/json", "webhook-id": id_, "webhook-timestamp": str(int(stamp.timestamp())),
        "webhook-signature": Webhook(secret).sign(id_, stamp, body),
    }  # fmt: skip
    return await city.ask("POST", path, role=None, headers=headers, data=body.encode())


async def proven(city: City, raised_at: datetime) -> Sequence[PushProof]:
    async with city.client() as client:
        return (await client.prove_push(raised_at.astimezone(ZoneInfo("Asia/Ho_Chi_Minh")).date())).items


async def test_an_alarm_of_another_center_lives_the_same_life(city: City) -> None:
    async with city.client() as client:
        await client.add_area(AreaNew(key="bai-chay", name="Bãi Cháy"))
        await client.add_push("ioc", "http://127.0.0.1:9/hook", areas=("bai-chay",), classes=("fire_detector",))
    secret = await joined(city)
    place = {"area": "bai-chay", "class": "fire_detector", "name": "Kho B12", "latitude": 20.95, "longitude": 107.0}
    first = await say(city, secret, device=place)
    assert (first.status, first.json["ignored"]) == (200, None)
    number = first.json["alarm"]
    again = await say(city, secret, device=place)
    assert again.json == {"alarm": number, "ignored": "repeat"}
    async with city.client("operator") as client:
        received = (await client.alarm_trace(number)).steps[0]
    assert (received.what, received.subject, received.detail["message_id"]) == ("received", "fire-dept", "msg_1")
    assert json.loads(received.detail["payload"])["data"]["alarm"]["id"] == "F-17"
    changed = await say(city, secret, "updated", id_="msg_2", severity="high", title={"vi": "Khói", "en": "Smoke"})
    assert changed.json == {"alarm": number, "ignored": None}
    async with city.client("operator") as client:
        (alarm,) = (await client.alarms()).items
        assert (alarm.id, alarm.severity, alarm.title.en, alarm.state) == (number, "high", "Smoke", "unacknowledged")
        assert (alarm.device, alarm.device_name, alarm.class_key, alarm.area) == (
            None, "Kho B12", "fire_detector", "bai-chay"
        )  # fmt: skip
        assert (alarm.latitude, alarm.longitude) == (20.95, 107.0)
        (left,) = (await client.hand_over(HandoverNew(to="minh"))).open
        assert (left.id, left.device, left.place) == (number, None, "Kho B12")
        await client.acknowledge(number)
        assert [(row.device, row.device_name, row.area_name) for row in await proven(city, alarm.raised_at)] == [
            (None, "Kho B12", "Bãi Cháy")
        ]
    assert (await say(city, secret, "cleared", id_="msg_3")).json["alarm"] == number
    async with city.client() as client:
        assert (await client.alarms()).items == ()
        shown = await client.alarm(number)
        assert [event.kind for event in shown.events][-2:] == ["cleared", "closed"]
        assert next(each.type for each in shown.pushes) == "alarm.raised"
        assert (await client.centers()).items[0].heard_at is not None
    raised_anew = await say(city, secret, id_="msg_4")
    assert raised_anew.json["alarm"] != number


EXCHANGE = Path(__file__).parents[2] / "docs" / "exchange.md"


async def test_worked_example_of_the_documents_raises_an_alarm_once(city: City, tmp_path: Path) -> None:
    async with city.client() as client:
        await client.add_area(AreaNew(key="bai-chay", name="Bãi Cháy"))
    example = EXCHANGE.read_text(encoding="utf-8").partition("run by tests/api/test_centers.py -->\n```python\n")[2]
    words = example.partition("```")[0].replace("https://iot.example.vn", city.url)
    script = tmp_path / "example.py"
    script.write_text(words.replace("whsec_...", await joined(city)), encoding="utf-8")
    code, first, err = await command(sys.executable, script)
    assert code == 0, err
    _, again, _ = await command(sys.executable, script)
    async with city.client() as client:
        (alarm,) = (await client.alarms()).items
    assert first == f'200 {{"alarm":{alarm.id},"ignored":null}}\n'
    assert again == f'200 {{"alarm":{alarm.id},"ignored":"repeat"}}\n'
    assert (alarm.title.vi, alarm.severity, alarm.raised_at.isoformat()) == (
        "Cháy kho xăng", "critical", "2026-09-01T03:05:00+00:00"
    )  # fmt: skip


async def test_an_older_event_changes_nothing(city: City) -> None:
    secret, now = await joined(city), datetime.now(UTC)
    await say(city, secret, at=now - timedelta(seconds=60))
    await say(city, secret, "cleared", id_="msg_2", at=now - timedelta(seconds=10))
    late = await say(city, secret, "raised", id_="msg_3", at=now - timedelta(seconds=30))
    assert late.json["ignored"] == "older"
    async with city.client() as client:
        assert [alarm.state for alarm in (await client.alarms()).items] == ["returned"]


async def test_what_rings_anew_more_urgently_reaches_those_who_are_only_told_the_urgent(city: City) -> None:
    async with city.client() as client:
        await client.add_push("head", "http://127.0.0.1:9/hook", min_severity=Severity.CRITICAL)
    secret = await joined(city)
    number = (await say(city, secret, severity="low")).json["alarm"]
    await say(city, secret, "cleared", id_="msg_2", severity="low")
    assert (await say(city, secret, id_="msg_3", severity="critical")).json == {"alarm": number, "ignored": None}
    async with city.client() as client:
        assert [(each.alarm, each.targets) for each in await proven(city, datetime.now(UTC))] == [(number, 1)]


async def test_what_a_core_tells_of_its_alarms_is_understood_in_the_order_of_their_versions(city: City) -> None:
    """Its messages bear times of several clocks: the reading's, the core's. Refused, one would hold up the next."""
    async with city.client() as client:
        await client.add_push("far", "http://127.0.0.1:9/hook")
        await client.add_escalation(
            EscalationNew(
                key="urgent", steps=(EscalationStep(after_s=60, target="far"),), min_severity=Severity.CRITICAL
            )
        )
    secret, now = await joined(city), datetime.now(UTC)
    number = (await say(city, secret, at=now, severity="high", version=1)).json["alarm"]
    chains = "SELECT count(*) FROM iot.escalation"
    assert await city.path.pool.fetchval(chains) == 0
    said: list[tuple[str, dict[str, Any]]] = [
        ("comment", {"version": 2, "by": "Lan", "note": "two engines\n😀"}), ("severity", {"version": 3}),
        ("escalated", {"version": 3}), ("open", {"version": 3}), ("shelved", {"version": 4, "by": "Lan"}),
    ]  # fmt: skip
    for index, (kind, facts) in enumerate(said):
        reply = await say(city, secret, kind, id_=f"msg_a{index}", at=now + timedelta(seconds=-index), **facts)
        assert reply.json == {"alarm": number, "ignored": None}, kind
    assert await city.path.pool.fetchval(chains) == 1, "it is critical now"
    cleared = await say(city, secret, "cleared", id_="msg_b", at=now - timedelta(seconds=30), version=6)
    assert cleared.json["ignored"] is None
    late = await say(city, secret, "updated", id_="msg_c", at=now, version=5)
    assert late.json["ignored"] == "older"
    undone = await say(city, secret, "reopened", id_="msg_d", at=now, version=7, state="returned")
    assert undone.json["ignored"] is None
    async with city.client() as client:
        shown = await client.alarm(number)
        assert shown.state == "returned"
        assert [event.note for event in shown.events if event.kind == "commented"][:2] == [
            "comment: Lan: two engines\n😀", "escalated"
        ]  # fmt: skip
        assert [each.type for each in shown.pushes][:2] == ["alarm.raised", "alarm.severity"]
        assert shown.pushes[-1].type == "alarm.cleared"
    for kind in ("audit.recorded", "push.test"):
        assert (await watch_says(city, secret, kind)).json == {"alarm": None, "ignored": None}, kind


async def watch_says(
    city: City, secret: str, kind: str, at: datetime | None = None, id_: str | None = None, **data: Any
) -> Reply:
    now = datetime.now(UTC)
    name = id_ or f"msg_{kind}_{at or now}"
    body = json.dumps({"type": kind, "timestamp": (at or now).isoformat(), "data": data})
    headers = {
        "Content-Type": "application/json", "webhook-id": name, "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(name, now, body),
    }  # fmt: skip
    return await city.ask("POST", PATH, role=None, headers=headers, data=body.encode())


async def states(city: City) -> dict[str, str]:
    rows = await city.path.pool.fetch(
        "SELECT a.title_en, CASE WHEN a.cleared_at IS NULL THEN 'stands' ELSE 'over' END AS state FROM iot.alarm a"
    )
    return {row["title_en"].partition(": ")[2]: row["state"] for row in rows}


async def test_what_stands_still_in_a_core_that_feeds_us_is_one_alarm_with_an_end(city: City) -> None:
    secret, t = await joined(city), datetime.now(UTC) - timedelta(minutes=9)
    async with city.client() as client:
        await client.add_push("ioc", "http://127.0.0.1:9/hook")
    first = await watch_says(city, secret, "core.stalled", t, "m1", parts=["store", "ingest"])
    assert first.json["ignored"] is None
    again = await watch_says(city, secret, "core.stalled", t, "m1", parts=["store", "ingest"])
    assert again.json["ignored"] == "repeat"
    database, telemetry = "its database does not answer", "it takes no telemetry"
    assert await states(city) == {database: "stands", telemetry: "stands"}
    over = t + timedelta(minutes=2)
    await watch_says(city, secret, "core.recovered", over, parts=["store"])
    assert await states(city) == {database: "over", telemetry: "stands"}
    # Its database answers, so the core writes the same down: one alarm there, and no second one here.
    alarm: dict[str, Any] = {
        "id": 31,
        "title": "The platform's database did not answer",
        "rule": "core.store",
        "version": 1,
    }
    earlier = t - timedelta(seconds=1)
    assert (await say(city, secret, at=earlier, id_="m4", **alarm)).json["ignored"] == "older"
    assert (await say(city, secret, "cleared", at=earlier, id_="m5", **alarm)).json["ignored"] == "older"
    # A core without a watch towards us writes it down all the same, and again months later under a number of its own.
    later = over + timedelta(minutes=1)
    for step, kind in enumerate(("raised", "cleared")):
        at = later + timedelta(seconds=step)
        said = await say(city, secret, kind, at=at, id_=f"m6{step}", **{**alarm, "id": 32, "version": 1 + step})
        assert said.json["ignored"] is None
    assert (await say(city, secret, at=later + timedelta(minutes=1), id_="m7", **alarm)).json["ignored"] is None
    assert (await states(city))[database] == "stands"
    async with city.client() as client:
        found = (await client.alarms()).items
        assert [each.severity for each in found] == ["critical", "critical"]
        ringing = next(each for each in found if telemetry in each.title.en)
        shown = await client.alarm(ringing.id)
        assert shown.title.vi.startswith("Cảnh sát PCCC: ")
        assert shown.runbook is not None
        assert "Call the center" in shown.runbook.en
        closed = await client.alarm_do(ringing.id, AlarmDeed(do="close", note="their machine was replaced"))
        assert closed.state == "closed", "its watch may have died with it: a person may say that it is over"


async def test_vital_signs_of_a_core_that_come_back_to_it_change_nothing(city: City) -> None:
    secret = await joined(city)
    core = await city.path.pool.fetchval("SELECT value FROM iot.fixed_setting WHERE key = 'core_id'")
    reply = await watch_says(city, secret, "core.stalled", parts=["store"], origin={"via": [core]})
    assert reply.json == {"alarm": None, "ignored": "loop"}
    assert (await watch_says(city, secret, "core.stalled", parts=["no such thing!"])).status == 400


async def test_heartbeats_that_stay_away_are_an_alarm_until_the_next_one(city: City) -> None:
    secret, pool = await joined(city), city.path.pool
    now = datetime.now(UTC)
    await watch_centers(pool, now + timedelta(days=1), now)
    assert await states(city) == {}, "it sends no heartbeats"
    await watch_says(city, secret, "iot.heartbeat", next_within_s=60, healthy=True)
    now = datetime.now(UTC)
    await watch_centers(pool, now + timedelta(seconds=110), now - timedelta(days=1))
    await watch_centers(pool, now + timedelta(seconds=600), now + timedelta(seconds=500))
    assert await states(city) == {}, "one may be lost on the way, and our own absence is not theirs"
    await pool.execute("UPDATE iot.center SET beat_at = now() - interval '1 hour'")
    now = datetime.now(UTC)
    for _ in range(2):
        await asyncio.gather(*(watch_centers(pool, now, now - timedelta(days=1)) for _ in range(3)))
    assert await states(city) == {"no heartbeat any more": "stands"}
    assert await pool.fetchval("SELECT count(*) FROM iot.alarm_event") == 1
    await watch_says(city, secret, "iot.heartbeat", next_within_s=60)
    assert await states(city) == {"no heartbeat any more": "over"}
    async with city.client("operator") as client:
        await client.acknowledge((await client.alarms()).items[0].id)
    await watch_centers(pool, now + timedelta(days=1), now)
    assert await pool.fetchval("SELECT count(*) FROM iot.alarm WHERE cleared_at IS NULL") == 1
    async with city.client() as client:
        await client.remove_center("fire-dept")
    assert await pool.fetchval("SELECT count(*) FROM iot.alarm WHERE cleared_at IS NULL") == 0


async def test_alarm_of_a_center_that_is_no_more_can_be_closed_by_a_person(city: City) -> None:
    secret = await joined(city)
    number = (await say(city, secret)).json["alarm"]
    by_telephone = AlarmDeed(do="close", note="by telephone")
    async with city.client() as client:
        with pytest.raises(ConflictError):
            await client.alarm_do(number, by_telephone)
        await client.remove_center("fire-dept")
        closed = await client.alarm_do(number, by_telephone)
    assert (closed.state, closed.cause) == ("closed", "by telephone")


async def test_who_took_it_there_has_not_taken_it_here(city: City) -> None:
    secret = await joined(city)
    number = (await say(city, secret)).json["alarm"]
    await say(city, secret, "acknowledged", id_="msg_2", acknowledged_by="Đội 3")
    async with city.client() as client:
        shown = await client.alarm(number)
    assert (shown.state, shown.events[-1].kind, shown.events[-1].by) == ("unacknowledged", "commented", "fire-dept")
    assert "Đội 3" in (shown.events[-1].note or "")


async def test_a_message_that_its_center_did_not_sign_now_is_refused(city: City) -> None:
    secret = await joined(city)
    wrong = "whsec_" + "A" * 43 + "="
    old = datetime.now(UTC) - timedelta(minutes=6)
    for reply in (
        await say(city, wrong),
        await say(city, secret, signed_at=old),
        await say(city, secret, path="/alarms?center=nobody"),
        await city.ask("POST", PATH, role=None, json={"type": "alarm.raised", "timestamp": "2026-09-01T00:00:00Z"}),
        await city.ask("POST", PATH, json={"type": "alarm.raised", "timestamp": "2026-09-01T00:00:00Z"}),
        await say(city, wrong, severity="terrible"),
        await city.ask("POST", PATH, role=None),
        await city.ask("POST", PATH, role=None, json={"what": 1}),
        await city.ask("POST", PATH, role=None, data=b"{\xff"),
    ):
        assert (reply.status, reply.json["code"]) == (401, "center.unsigned")
    async with city.client() as client:
        assert (await client.alarms()).items == ()
        await client.remove_center("fire-dept")
    assert (await say(city, secret)).status == 401


async def test_what_is_signed_and_no_json_is_told_so(city: City) -> None:
    now, body = datetime.now(UTC), "{no"
    headers = {
        "Content-Type": "application/json", "webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(await joined(city)).sign("msg_1", now, body),
    }  # fmt: skip
    reply = await city.ask("POST", PATH, role=None, headers=headers, data=body.encode())
    assert (reply.status, reply.json["code"]) == (400, "api.not_json")


@pytest.mark.parametrize(
    ("alarm", "kind", "code"),
    [({"severity": "terrible"}, "raised", "api.bad_key"), ({}, "exploded", "center.bad_type"),
     ({"title": ""}, "raised", "api.bad_key"), ({"id": None}, "raised", "api.bad_key")],
)  # fmt: skip
async def test_what_is_no_alarm_is_refused_with_the_reason(
    city: City, alarm: dict[str, Any], kind: str, code: str
) -> None:
    reply = await say(city, await joined(city), kind, **alarm)
    assert (reply.status, reply.json["code"][:3]) == (400, code[:3]), reply.data


async def test_one_core_feeds_another_and_nothing_goes_in_a_circle(
    city: City, postgres_server: servers.Postgres, free_port: Callable[[], int]
) -> None:
    """The worked example of docs/exchange.md: the sender's target is the receiver's /api/v1/alarms."""
    with postgres_server.database(await asyncio.to_thread(postgres_server.template, migrate)) as dsn:
        async with served(dsn, free_port()) as department:
            # Both are copies of one database, so they would be one core.
            await department.path.pool.execute("UPDATE iot.fixed_setting SET value = 'dept' WHERE key = 'core_id'")
            there, here = await joined(city, "dept"), await joined(department, "city")
            async with department.client() as client:
                await client.add_push("city", f"{city.url}/api/v1/alarms?center=dept", secret=there)
                await department.add("smoke-1")
            async with city.client() as client:
                await client.add_push("dept", f"{department.url}/api/v1/alarms?center=city", secret=here)
            async with pushing(department.path.pool, department.vault), pushing(city.path.pool, city.vault):
                await department.path.say("smoke-1", '{"smoke": true}')

                async def told_back() -> bool:
                    found = await city.path.pool.fetchval(
                        "SELECT count(*) FROM iot.outbox WHERE delivered_at IS NOT NULL"
                    )
                    return bool(found)

                await until(told_back)
                async with city.client() as client:
                    (alarm,) = (await client.alarms()).items
                    assert alarm.title.en == "Fire alarm - smoke"
                await department.path.say("smoke-1", '{"smoke": false}')
            async with department.client() as client:
                assert len((await client.alarms()).items) == 1, "its own alarm, come back, is no new one"
