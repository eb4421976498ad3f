"""NGSI-LD: entities that the Smart Data Models' own schemas accept, and subscriptions that are told what is new."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from iot_core.api.notifying import tell
from iot_core.api.shapes import AreaNew, LoginNewToken, RightNew, Role, UserNew
from iot_core.client import Client
from iot_core.profiles import load
from tests.api.city import City, until
from tests.push.alarms import pushing
from tests.push.receiver import serving

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMAS = Path(__file__).parents[3] / "shared" / "data" / "smart-data-models"
SAID = {
    "air": ("air_quality", '{"pm25": 37.4, "pm10": 61, "humidity": 78}', "AirQualityObserved"),
    "lamp": ("streetlight", '{"on": true, "dim": 60, "power": 55, "lamp_failure": false}', "Streetlight"),
    "cabinet": ("lighting_cabinet", '{"mode": "manual", "power": 2100, "power_factor": 0.93}',
                "StreetlightControlCabinet"),
    "river": ("flood_gauge", '{"level": 3.2, "alert": true, "danger": false}', "FloodMonitoring"),
    "meter": ("water_meter", '{"volume": 1234.567, "tamper": true}', "WaterConsumptionObserved"),
    "smoke": ("fire_detector", '{"smoke": true, "battery": 80}', "Device"),
}  # fmt: skip


async def populated(city: City) -> None:
    for key, (class_key, said, _) in SAID.items():
        await city.add(key, class_key, latitude=20.951, longitude=107.078)
        await city.path.say(key, said)


def valid(entity: dict[str, Any]) -> None:
    """Hold an entity against the schema of its type; what that takes from elsewhere (names, addresses) is open."""
    path = SCHEMAS / f"{entity['type']}.schema.json"
    if not path.exists():
        return  # the schemas are not beside this checkout

    schema = _without_remote(json.loads(path.read_text(encoding="utf-8")))
    jsonschema.Draft202012Validator(schema).validate(entity)


def _without_remote(schema: Any) -> Any:
    """Leave out what is referred to on other servers: no network in tests."""
    if isinstance(schema, dict):
        if str(schema.get("$ref", "")).startswith("https://"):
            return {}
        return {name: _without_remote(value) for name, value in schema.items() if name not in ("$id", "$schema")}
    return [_without_remote(each) for each in schema] if isinstance(schema, list) else schema


async def read(city: City, path: str, role: str | None = "admin", **headers: str) -> Any:
    return await city.ask("GET", f"//ngsi-ld/v1/{path}", role=role, headers=headers)


async def test_every_type_is_what_its_schema_says(city: City) -> None:
    await populated(city)
    for key, (_, _, kind) in SAID.items():
        reply = await read(city, f"entities?type={kind}&options=keyValues")
        assert reply.status == 200, reply.data
        (entity,) = reply.json
        assert (entity["id"], entity["type"]) == (f"urn:ngsi-ld:{kind}:{key}", kind)
        valid(entity)
    air = (await read(city, "entities/urn:ngsi-ld:AirQualityObserved:air?options=keyValues")).json
    assert (air["pm25"], air["relativeHumidity"]) == (37.4, 0.78)
    assert air["location"]["coordinates"] == [107.078, 20.951]
    lamp = (await read(city, "entities/urn:ngsi-ld:Streetlight:lamp?options=keyValues")).json
    assert (lamp["status"], lamp["powerState"], lamp["illuminanceLevel"]) == ("ok", "low", 0.6)
    river = (await read(city, "entities/urn:ngsi-ld:FloodMonitoring:river?options=keyValues")).json
    assert (river["floodLevelStatus"], river["currentLevel"]) == ("Alert", 3.2)


async def test_what_is_no_observation_is_left_out(city: City) -> None:
    await city.add("air", "air_quality", latitude=20.951, longitude=107.078)
    first, second = ((datetime.now(UTC) - timedelta(minutes=ago)).isoformat() for ago in (2, 1))
    await city.path.say("air", json.dumps({"pm25": 37.4, "pm10": 61, "time": first}))
    await city.path.say("air", json.dumps({"pm25": 900, "quality": "calibration", "time": second}))
    await city.add("sky", "weather", latitude=20.951, longitude=107.078)
    await city.path.say("sky", '{"temperature": 21, "uv_index": 0}')
    air = (await read(city, "entities/urn:ngsi-ld:AirQualityObserved:air?options=keyValues")).json
    assert (air.get("pm25"), air["pm10"]) == (None, 61)
    sky = (await read(city, "entities/urn:ngsi-ld:WeatherObserved:sky?options=keyValues")).json
    assert (sky["temperature"], "uVIndexMax" in sky) == (21, False)


async def test_an_alarm_is_an_alert(city: City) -> None:
    await populated(city)
    alerts = (await read(city, "entities?type=Alert&options=keyValues")).json
    for alert in alerts:
        valid(alert)
    assert {"buildingFire", "flood"} <= {alert.get("subCategory") for alert in alerts}
    assert {alert["severity"] for alert in alerts} >= {"critical"}


async def test_an_alert_names_a_source_that_there_is_also_without_a_device(city: City) -> None:
    async with city.client() as client:
        await client.add_area(AreaNew(key="bai-chay", name="Bãi Cháy"))
        secret = (await client.add_center("fire-dept", "Cảnh sát PCCC")).secret
    await populated(city)
    said = {
        "type": "alarm.raised", "timestamp": datetime.now(UTC).isoformat(),
        "data": {"alarm": {"id": "F-17", "severity": "critical", "title": "Cháy kho xăng"},
                 "device": {"class": "fire_detector", "area": "bai-chay", "latitude": 20.95, "longitude": 107.04}},
    }  # fmt: skip
    body, now = json.dumps(said), datetime.now(UTC)
    headers = {
        "content-type": "application/json", "webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, body),
    }  # fmt: skip
    taken = await city.ask("POST", "/alarms?center=fire-dept", role=None, headers=headers, data=body.encode())
    assert taken.status == 200, taken.data
    await city.path.pool.execute(
        "INSERT INTO iot.alarm (source_kind, source_id, rule, severity, title_vi, title_en, raised_at, received_at)"
        " SELECT 'area', id, 'incident.fire_detector.smoke', 'critical', 'x', 'x', now(), now() FROM iot.area"
        " UNION ALL SELECT 'outside', 0, 'core.store', 'critical', 'x', 'x', now(), now()"
    )
    for role in ("admin", "viewer"):
        alerts = (await read(city, "entities?type=Alert&options=keyValues", role=role)).json
        sources = {alert["alertSource"]: alert for alert in alerts}
        assert set(sources) >= {"fire-dept", "bai-chay", "iot-core"}, role
        assert sources["fire-dept"]["location"]["coordinates"] == [107.04, 20.95]
        assert {sources[name]["subCategory"] for name in ("fire-dept", "bai-chay")} == {"buildingFire"}
        for name in sources.keys() - {"fire-dept", "bai-chay", "iot-core"}:
            assert (await read(city, f"entities/{name}", role="admin")).status == 200, name
    right = RightNew(role=Role.VIEWER, area="bai-chay")
    async with city.client() as client:
        await client.add_user(UserNew(name="an", password="four unrelated words 1", rights=(right,)))
    async with Client(city.url, lang="en") as stranger:
        token = await stranger.login(LoginNewToken(user="an", password="four unrelated words 1", name="laptop"))
    city.tokens["there"] = token.secret
    alerts = (await read(city, "entities?type=Alert&options=keyValues", role="there")).json
    assert {alert["alertSource"] for alert in alerts} == {"fire-dept", "bai-chay"}


async def test_a_silent_detector_is_no_fire_and_a_test_no_alert(city: City) -> None:
    await populated(city)
    alerts = (await read(city, "entities?type=Alert&options=keyValues")).json
    fire = next(alert for alert in alerts if alert.get("subCategory") == "buildingFire")
    number = int(fire["id"].rpartition(":")[2])
    path = f"entities/{fire['id']}?options=keyValues"
    for rule in ("silent", "battery_low", "gas", "co_300"):
        await city.path.pool.execute("UPDATE iot.alarm SET rule = $1 WHERE id = $2", f"fire_detector.{rule}", number)
        assert "subCategory" not in (await read(city, path)).json
    await city.path.pool.execute("UPDATE iot.alarm SET test = true WHERE id = $1", number)
    assert (await read(city, path)).status == 404


async def test_normalized_form_has_units_times_and_a_context(city: City) -> None:
    await populated(city)
    reply = await read(city, "entities?type=AirQualityObserved&count=true", Accept="application/ld+json")
    assert reply.headers["Content-Type"].startswith("application/ld+json")
    assert reply.headers["NGSILD-Results-Count"] == "1"
    (entity,) = reply.json
    assert {name: entity["pm25"][name] for name in ("type", "value", "unitCode")} == {
        "type": "Property", "value": 37.4, "unitCode": "GQ"
    }  # fmt: skip
    assert entity["pm25"]["observedAt"].endswith("Z")
    assert "refDevice" not in entity  # the device has no entity besides this one
    assert entity["dateObserved"]["value"]["@type"] == "DateTime"
    assert entity["@context"][-1].endswith("ngsi-ld-core-context.jsonld")
    plain = await read(city, "entities?type=AirQualityObserved&attrs=pm10")
    assert set(plain.json[0]) == {"id", "type", "pm10"}
    assert "json-ld#context" in plain.headers["Link"]


async def test_a_households_meter_is_for_the_right_only(city: City) -> None:
    await populated(city)
    for role, number in (("viewer", 0), ("technician", 0), ("operator", 1), ("admin", 1)):
        assert len((await read(city, "entities?type=WaterConsumptionObserved", role=role)).json) == number, role
        single = await read(city, "entities/urn:ngsi-ld:WaterConsumptionObserved:meter", role=role)
        assert single.status == (200 if number else 404)
    await city.path.pool.execute("UPDATE iot.device SET labels = '{public}' WHERE key = 'meter'")
    assert len((await read(city, "entities?type=WaterConsumptionObserved", role="viewer")).json) == 1
    assert (await read(city, "entities?type=Alert", role=None)).status == 401


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [("entities", 400, "BadRequestData"), ("entities?type=Device&q=a>", 400, "BadRequestData"),
     ("entities/urn:ngsi-ld:Streetlight:nobody", 404, "ResourceNotFound"),
     ("subscriptions/x", 404, "ResourceNotFound")],
)  # fmt: skip
async def test_what_cannot_be_answered_is_said_in_the_standards_words(
    city: City, path: str, status: int, kind: str
) -> None:
    reply = await read(city, path)
    assert (reply.status, reply.json["type"].rpartition("/")[2]) == (status, kind)


async def test_a_subscription_is_told_what_is_new_of_what_it_watches(city: City, free_port: Callable[[], int]) -> None:
    told: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        told.append(secret.verify(await request.read(), dict(request.headers)))
        return web.Response(status=204)

    port = free_port()
    said = {
        "type": "Subscription", "entities": [{"type": "AirQualityObserved"}], "watchedAttributes": ["pm25"],
        "notification": {"endpoint": {"uri": f"http://127.0.0.1:{port}/hook?token=abc"}, "attributes": ["pm25"],
                         "format": "keyValues"},
    }  # fmt: skip
    made = await city.ask("POST", "//ngsi-ld/v1/subscriptions", json=said)
    assert made.status == 201, made.data
    where = made.headers["Location"].removeprefix("/ngsi-ld/v1/")
    secret = Webhook(made.headers["Webhook-Secret"])
    await populated(city)

    async def look() -> None:
        async with city.path.pool.acquire() as connection, connection.transaction():
            await tell(connection, load())

    async with serving(port, take), pushing(city.path.pool, city.vault):
        await look()
        await look()
        async with city.client() as client:

            async def delivered() -> bool:
                return bool((await read(city, where)).json["notification"]["timesSent"])

            await until(delivered)
            assert (await client.push_targets()).items == ()
        await city.path.say("lamp", '{"power": 50}')
        await look()
    assert len(told) == 1, "the lamp is not watched, and nothing is told twice"
    assert (told[0]["type"], told[0]["data"][0]["pm25"]) == ("Notification", 37.4)
    assert set(told[0]["data"][0]) == {"id", "type", "pm25"}
    shown = (await read(city, where)).json
    assert shown["entities"] == [{"type": "AirQualityObserved"}]
    assert "secret" not in json.dumps(shown).lower()
    assert shown["notification"]["endpoint"]["uri"].endswith("/hook?…")
    assert (shown["notification"]["status"], shown["notification"]["timesSent"]) == ("ok", 1)
    assert (await city.ask("DELETE", f"//ngsi-ld/v1/{where}")).status == 204
    assert (await read(city, where)).status == 404
    bad = await city.ask("POST", "//ngsi-ld/v1/subscriptions", json={**said, "entities": [{"type": "Ship"}]})
    assert bad.status == 400
    assert (await city.ask("POST", "//ngsi-ld/v1/subscriptions", role="operator", json=said)).status == 403
