"""Alarms as they are answered: counted, typed, placed, and what became of their messages in the reader's language."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
import pytest

from iot_core.api.shapes import AlarmDeed, AlarmHappened, AreaNew, HandoverNew
from tests.api.city import City

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iot_core.api.shapes import Alarm


OF_CABINET = """
INSERT INTO iot.alarm (source_kind, source_id, device_id, rule, severity, title_vi, title_en, value, raised_at,
    received_at)
SELECT 'device', id, id, $1, 'high', '-', '-', $2, now() + interval '1 minute', now()
FROM iot.device WHERE key = 'cab-1' RETURNING id
"""


async def test_a_list_that_is_cut_says_how_many_there_are(city: City) -> None:
    async with city.client() as client:
        assert (await client.alarms()).total == 0
        for key in ("smoke-1", "smoke-2", "smoke-3"):
            await city.add(key)
            await city.path.say(key, '{"smoke": true}')
        cut = await client.alarms(limit=2)
        assert (len(cut.items), cut.total) == (2, 3)
        assert (await client.alarms(limit=3)).total == 3
        assert (await client.alarms(device="smoke-1", limit=1)).total == 1
        await _calm(city, cut.items)
        assert [(await client.alarms(limit=1, open_only=only)).total for only in (True, False)] == [1, 3]


async def _calm(city: City, alarms: Sequence[Alarm]) -> None:
    async with city.client() as client:
        for alarm in alarms:
            assert alarm.device is not None
            await city.path.say(alarm.device, '{"smoke": false}')
            await client.acknowledge(alarm.id)


async def test_a_silent_gateway_names_who_is_silent_behind_it_and_no_other_alarm_does(city: City) -> None:
    await city.add("cab-1", "lighting_cabinet")
    for key in ("lamp-1", "lamp-2"):
        await city.add(key, "streetlight", gateway="cab-1")
        await city.path.say(key, '{"power": 80}')
    numbers = [
        await city.path.pool.fetchval(OF_CABINET, rule, value)
        for rule, value in (("lighting_cabinet.silent", None), ("streetlight.street_dark", 5.0))
    ]
    async with city.client() as client:
        shown = [(await client.alarm(number)).children for number in numbers]
    assert shown == [("lamp-1", "lamp-2"), ()], "the street's lamps speak: none of them is silent"


async def test_what_is_held_is_counted_when_it_is_cut(city: City) -> None:
    await city.add("smoke-1")
    for number in range(3):
        await city.path.say("smoke-1", f'{{"smell": {number}}}')
    await city.path.say("stranger", "{}")
    async with city.client() as client:
        assert (len((await client.held(limit=2)).items), (await client.held(limit=2)).total) == (2, 4)
        assert (await client.held(device="smoke-1", limit=1)).total == 3
        assert (await client.held(device="smoke-1")).total == 3


@pytest.mark.parametrize(
    ("said", "value", "threshold"), [('{"smoke": true}', True, True), ('{"battery": 4}', 4.0, 10.0)]
)
async def test_a_value_has_the_type_of_its_metric_wherever_the_alarm_is_shown(
    city: City, said: str, value: float | bool, threshold: float | bool
) -> None:
    await city.add("smoke-1")
    async with city.client() as client, aclosing(client.events(after="0")) as events:
        await city.path.say("smoke-1", said)
        (listed,) = (await client.alarms()).items
        shown = await client.alarm(listed.id)
        (beside,) = (await client.device("smoke-1")).alarms
        happened = await anext(each async for each in events if isinstance(each, AlarmHappened))
    alarms = (listed, shown, beside, happened.alarm)
    assert [repr((alarm.value, alarm.threshold)) for alarm in alarms] == [repr((value, threshold))] * 4
    assert repr(happened.event.value) == repr(shown.events[0].value) == repr(value)


async def test_an_alarm_names_its_area(city: City) -> None:
    async with city.client() as client:
        await client.add_area(AreaNew(key="hl", name="Hạ Long", name_en="Ha Long"))
        await city.add("smoke-1", area="hl")
        await city.path.say("smoke-1", '{"smoke": true}')
        alarm = (await client.alarms()).items[0]
        assert (alarm.area, alarm.area_name, alarm.area_name_en) == ("hl", "Hạ Long", "Ha Long")
        async with aclosing(client.events(after="0")) as events:
            happened = await anext(each async for each in events if isinstance(each, AlarmHappened))
        assert (happened.alarm.area_name, happened.alarm.area_name_en) == ("Hạ Long", "Ha Long")


async def test_why_a_message_was_not_delivered_is_said_in_the_readers_language(city: City) -> None:
    await city.add("smoke-1")
    async with city.client() as client:
        await client.add_push("ioc", "http://127.0.0.1:9/hook")
        await city.path.say("smoke-1", '{"smoke": true}')
        alarm = (await client.alarms()).items[0].id
        assert (await client.alarm(alarm)).pushes[0].last_error_said is None
        await city.path.pool.execute("UPDATE iot.outbox SET attempts = 1, last_error = 'http_500'")
        assert (await client.alarm(alarm)).pushes[0].last_error_said == "answered HTTP 500"
    reply = await city.ask("GET", f"/alarms/{alarm}", headers={"Accept-Language": "vi"})
    assert [(each["last_error"], each["last_error_said"]) for each in reply.json["pushes"]] == [
        ("http_500", "trả lời HTTP 500")
    ]


async def test_who_asks_learns_the_zone_that_times_are_shown_in(city: City) -> None:
    async with city.client("viewer") as client:
        assert (await client.me()).timezone == "Asia/Ho_Chi_Minh"


async def test_acknowledging_what_somebody_took_says_whose_it_is_and_changes_nothing(city: City) -> None:
    await city.add("smoke-1")
    await city.path.say("smoke-1", '{"smoke": true}')
    async with city.client("operator") as first, city.client("admin") as second:
        number = (await first.alarms()).items[0].id
        taken = await first.acknowledge(number)
        again = await second.acknowledge(number)
    assert (taken.already, again.already, again.acknowledged_by) == (False, True, "the operator")
    assert again == msgspec.structs.replace(taken, already=True)
    by = await city.path.pool.fetch("SELECT by FROM iot.audit WHERE action = 'alarm.acknowledge'")
    assert [row["by"] for row in by] == ["the operator"]


async def test_who_took_an_alarm_or_did_something_with_it_has_seen_it(city: City) -> None:
    await city.add("smoke-1")
    await city.path.say("smoke-1", '{"smoke": true}')
    async with city.client("operator") as first, city.client("admin") as second:
        number = (await first.alarms()).items[0].id
        assert (await second.hand_over(HandoverNew(to="minh"))).unseen == (number,)
        await first.acknowledge(number)
        await second.alarm_do(number, AlarmDeed(do="comment", note="engine on its way"))
        report = await second.hand_over(HandoverNew(to="minh"))
    assert (report.unseen, report.open[0].seen_by) == ((), ("the operator", "the admin"))
