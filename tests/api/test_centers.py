"""Alarms of other centers: signed with the Standard Webhooks library, taken once, in order, and never in a circle."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from standardwebhooks.webhooks import Webhook

from iot_core.api.shapes import AreaNew, EscalationNew, EscalationStep
from iot_core.model import Severity
from tests.api.city import City, Reply, served, until
from tests.conftest import migrate
from tests.core import command
from tests.push.alarms import pushing

if TYPE_CHECKING:
    from collections.abc import Callable

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
    changed = await say(city, secret, "updated", id_="msg_2", severity="high", title={"vi": "Khói", "en": "Smoke"})
    assert changed.json == {"alarm": number, "ignored": None}
    async with city.client("operator") as client:
        (alarm,) = (await client.alarms()).items
        assert (alarm.id, alarm.severity, alarm.title.en, alarm.state) == (number, "high", "Smoke", "unacknowledged")
        await client.acknowledge(number)
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
    for index, kind in enumerate(("core.stalled", "core.recovered", "iot.heartbeat", "audit.recorded", "push.test")):
        body = json.dumps({"type": kind, "timestamp": now.isoformat(), "data": {"parts": ["store"]}})
        headers = {
            "Content-Type": "application/json", "webhook-id": f"msg_e{index}",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(f"msg_e{index}", now, body),
        }  # fmt: skip
        reply = await city.ask("POST", PATH, role=None, headers=headers, data=body.encode())
        assert (reply.status, reply.json) == (200, {"alarm": None, "ignored": None}), kind


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
    ):
        assert (reply.status, reply.json["code"]) == (401, "center.unsigned")
    async with city.client() as client:
        assert (await client.alarms()).items == ()
        await client.remove_center("fire-dept")
    assert (await say(city, secret)).status == 401


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
