"""Rules are looked at and changed over the API, and hold at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.api.city import City

BATTERY = "fire_detector.battery_level"


async def test_change_of_a_rule_is_shown_checked_applied_and_ended(city: City) -> None:
    await city.add("smoke-1")
    change = {"body": {"when": {"below": 30}}, "where": "device=smoke-1"}
    seen = await city.ask("POST", f"/rules/{BATTERY}", json={**change, "preview": True})
    assert (seen.status, seen.json["applied"], seen.json["devices"]) == (200, False, 1)
    assert seen.json["said"].startswith("battery below 30")
    assert (await city.ask("GET", "/rules")).json["items"] == []

    assert (await city.ask("POST", f"/rules/{BATTERY}", json=change)).json["applied"] is True
    at = (await city.ask("GET", "/devices/smoke-1/rules")).json["items"]
    (mine,) = [each for each in at if each["rule"] == BATTERY]
    assert mine["said"].startswith("battery below 30")
    assert [each["where"] for each in mine["changes"]] == ["device=smoke-1"]

    refused = await city.ask("POST", f"/rules/{BATTERY}", json={**change, "version": 0})
    assert (refused.status, refused.json["code"]) == (409, "rule.changed")
    wrong = await city.ask("POST", f"/rules/{BATTERY}", json={"body": {"when": {"metric": "nothing", "below": 3}}})
    assert (wrong.status, wrong.json["code"]) == (400, "rule.invalid")
    assert "when.metric" in wrong.json["detail"]
    behind = {"when": {"devices": ["smoke"], "at_least": 2, "behind": "lighting_cabinets"}}
    for path in ("confirmed", "confirmed/try"):
        asked = {"body": behind, "since": "2026-01-01T00:00:00Z"} if path.endswith("try") else {"body": behind}
        odd = await city.ask("POST", f"/rules/fire_detector.{path}", json=asked)
        assert (odd.status, odd.json["code"]) == (400, "rule.invalid"), path
        assert "when.behind" in odd.json["detail"]
        assert "did you mean lighting_cabinet?" in odd.json["detail"]
    for name in ("fire_detector", "fire_detector.", "fire_detector.SELECT", "fire_detector.a b", "nothing.low"):
        unknown = await city.ask("POST", f"/rules/{name}", json={"body": {"enabled": False}})
        assert (unknown.status, unknown.json["code"]) == (404, "rule.no_class"), name

    assert (await city.ask("POST", f"/rules/{BATTERY}", json={"where": "device=smoke-1"})).status == 200
    assert (await city.ask("GET", "/rules")).json["items"] == []
    audit = (await city.ask("GET", "/audit")).json["items"]
    assert [(each["before"], each["after"]) for each in audit if each["action"] == "rule.change"] == [
        ({"device=smoke-1": {"when": {"below": 30}}}, {"device=smoke-1": None}),
        ({"device=smoke-1": None}, {"device=smoke-1": {"when": {"below": 30}}}),
    ]


async def test_rule_is_tried_over_what_is_stored_before_it_is_changed(city: City) -> None:
    await city.add("smoke-1")
    device_id = await city.path.pool.fetchval("SELECT id FROM iot.device WHERE key = 'smoke-1'")
    now = datetime.now(UTC)
    for hours, level in ((3, 90), (2, 28), (1, 90)):
        time = now - timedelta(hours=hours)
        await city.path.pool.execute(
            "INSERT INTO telemetry.fire_detector (time, device_id, received_at, battery)"
            " VALUES ($1, $2, $1, $3)",
            time, device_id, level,
        )  # fmt: skip
    asked = {"since": (now - timedelta(days=1)).isoformat()}
    as_it_is = await city.ask("POST", f"/rules/{BATTERY}/try", json=asked)
    assert (as_it_is.status, as_it_is.json["raised"], as_it_is.json["devices"]) == (200, [], 1)
    change = {"body": {"when": {"below": 30}, "for": "0s"}, "where": "device=smoke-1"}
    tried = (await city.ask("POST", f"/rules/{BATTERY}/try", json={**asked, **change})).json
    assert [(each["source"], each["value"]) for each in tried["raised"]] == [("smoke-1", 28.0)]
    assert (tried["now"], tried["next"]) == (0, None)
    assert (await city.ask("GET", "/rules")).json["items"] == []
    ahead = await city.ask("POST", f"/rules/{BATTERY}/try", json={"since": (now + timedelta(days=1)).isoformat()})
    assert (ahead.status, ahead.json["code"]) == (400, "rule.bad_span")
    none = await city.ask("POST", "/rules/fire_detector.none/try", json=asked)
    assert (none.status, none.json["code"]) == (404, "rule.no_such")


async def test_shift_figures_and_deeds_over_the_api(city: City) -> None:
    assert (await city.ask("GET", "/alarms/kpi")).json["alarms"] == 0
    report = await city.ask("POST", "/alarms/handover", json={"to": "minh"})
    assert (report.status, report.json["to"], report.json["open"]) == (200, "minh", [])
    assert (await city.ask("POST", "/alarms/99/do", json={"do": "undo"})).status == 404
