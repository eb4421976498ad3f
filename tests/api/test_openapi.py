"""What the API says of itself is valid, complete and true."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import msgspec
from aiohttp import web

from iot_core.api.application import ROUTES
from iot_core.api.openapi import document
from iot_core.api.shapes import PREFIX, AreaNew, DeviceNew
from iot_core.registry.commands import New, create
from tests.api.city import City

METHODS = {"get", "post", "delete"}
# The parts of the OpenAPI 3.1 schema that we use, written from the specification (sections 4.8.1 to 4.8.17).
REFERENCE = {"type": "object", "properties": {"$ref": {"type": "string", "pattern": "^#/components/schemas/"}}}
META: dict[str, Any] = {
    "type": "object",
    "required": ["openapi", "info", "paths", "components"],
    "properties": {
        "openapi": {"const": "3.1.0"},
        "info": {"type": "object", "required": ["title", "version"]},
        "paths": {
            "type": "object",
            "patternProperties": {
                "^/": {
                    "type": "object",
                    "propertyNames": {"enum": sorted(METHODS)},
                    "additionalProperties": {"$ref": "#/$defs/operation"},
                }
            },
            "additionalProperties": False,
        },
    },
    "$defs": {
        "operation": {
            "type": "object",
            "required": ["operationId", "summary", "responses", "security"],
            "properties": {
                "operationId": {"type": "string", "pattern": "^[a-z_]+$"},
                "summary": {"type": "string", "minLength": 10},
                "parameters": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name", "in", "schema"],
                        "properties": {"in": {"enum": ["path", "query"]}, "required": {"type": "boolean"}},
                    },
                },
                "responses": {
                    "type": "object",
                    "propertyNames": {"pattern": "^(default|[2345][0-9][0-9])$"},
                    "additionalProperties": {"type": "object", "required": ["description"]},
                    "required": ["default"],
                },
            },
        }
    },
}


def test_the_document_is_valid_openapi_with_valid_schemas() -> None:
    said = _document()
    jsonschema.validate(said, META)
    for schema in said["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    references = set(re.findall(r'"\$ref":"([^"]+)"', msgspec.json.encode(said).decode()))
    assert references == {f"#/components/schemas/{name}" for name in said["components"]["schemas"]} & references
    names = [operation["operationId"] for path in said["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def test_every_variable_part_of_a_path_is_described() -> None:
    for path, operations in _document()["paths"].items():
        for operation in operations.values():
            described = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert described == set(re.findall(r"{(\w+)}", path)), path


async def test_every_route_of_the_api_is_in_the_document(city: City) -> None:
    served = {
        (resource.canonical, route.method.lower())
        for resource in city.app.router.resources()
        for route in resource
        if resource.canonical.startswith(PREFIX) and route.method != "HEAD"
    }
    said = (await city.ask("GET", "//openapi.json", role=None)).json
    assert served == {(path, method) for path, operations in said["paths"].items() for method in operations}


async def test_every_read_answers_with_the_shape_that_it_is_said_to_have(city: City) -> None:
    await _populate(city)
    said = _document()
    alarm = (await city.ask("GET", "/alarms")).json["items"][0]["id"]
    await _command(city, alarm)
    await _firmware(city, alarm)
    async with city.client() as client:
        await client.add_schedule("every-day", "key=smoke-1", ["sunset test"])
    tried = 0
    for path, operations in said["paths"].items():
        content = operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if "application/json" not in content:
            continue
        key = {"/areas/{key}": "hl", "/schedules/{key}": "every-day", "/devices/{key}/aqi": "air-1"}.get(
            path.removeprefix(PREFIX), "smoke-1"
        )
        url = path.removeprefix(PREFIX).replace("{key}", key).replace("{id}", str(alarm))
        asked = {
            "/telemetry/stats": "?class=fire_detector",
            "/push/prove": "?day=2026-09-01",
            "/firmware/{id}/plan": "?where=key%3Dsmoke-1",
            "/devices/{key}/commissioning": "?since=2026-09-01T00:00:00Z",
        }
        reply = await city.ask("GET", url + asked.get(path.removeprefix(PREFIX), ""))
        assert reply.status == 200, (path, reply.data)
        schema = {**content["application/json"]["schema"], "components": said["components"]}
        jsonschema.validate(reply.json, schema, cls=jsonschema.Draft202012Validator)
        tried += 1
    assert tried == sum(route.method == "GET" and route.answer is not web.StreamResponse for route in ROUTES)


async def test_every_list_of_the_populated_city_shows_something(city: City) -> None:
    await _populate(city)
    for path in ("areas", "areas/tree", "devices", "alarms", "inbox", "held", "push", "classes", "profiles", "map",
                 "tokens", "devices/smoke-1/latest", "devices/smoke-1/telemetry"):  # fmt: skip
        assert (await city.ask("GET", f"/{path}")).json["items"], path


async def _firmware(city: City, number: int) -> None:
    """Let there be an image and a campaign of this number."""
    async with city.path.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            """
            INSERT INTO iot.firmware_signer (name, public_key, added_by) VALUES ('acme', sha256(''), 'test')
            """
        )
        await connection.execute(
            """
            INSERT INTO iot.firmware_image (id, model, version, sha256, signature, signer_id, size, image, added_by)
            OVERRIDING SYSTEM VALUE
            SELECT $1, profile, '2', sha256('x'), sha512('x'), 1, 1, 'x', 'test' FROM iot.unit
            JOIN iot.device ON device.id = unit.device_id WHERE key = 'smoke-1'
            """, number,
        )  # fmt: skip
        await connection.execute(
            """
            INSERT INTO iot.firmware_campaign (id, image_id, selector, base_url, state, fail_share, by)
            OVERRIDING SYSTEM VALUE VALUES ($1, $1, 'key=smoke-1', 'http://localhost', 'done', 0.1, 'test')
            """, number,
        )  # fmt: skip
        await connection.execute(
            """
            INSERT INTO iot.firmware_update (campaign_id, device_id, ring, state, problem)
            SELECT $1, id, 0, 'failed', '{"code": "command.never_sent", "facts": {}}' FROM iot.device
            WHERE key = 'smoke-1'
            """, number,
        )  # fmt: skip


async def _command(city: City, number: int) -> None:
    """Keep an order and its command with this number."""
    async with city.path.pool.acquire() as connection:
        device = await connection.fetchval("SELECT id FROM iot.device WHERE key = 'smoke-1'")
        expires = datetime.now(UTC) + timedelta(hours=1)
        while (await create(connection, "test", {}, [New(device_id=device)], by="x", expires_at=expires))[0] < number:
            pass


async def _populate(city: City) -> None:
    async with city.client() as client:
        await client.add_area(AreaNew(key="qn", name="Quảng Ninh", name_en="Quang Ninh", kind="province", code="22"))
        await client.add_area(AreaNew(key="hl", name="Hạ Long", parent="qn"))
        await client.add_device(
            DeviceNew(key="smoke-1", class_key="fire_detector", area="hl", latitude=20.95, longitude=107.07)
        )
        await client.add_device(DeviceNew(key="air-1", class_key="air_quality"))
        await client.add_push("ioc", "http://127.0.0.1:9/hook")
    await city.path.reload()
    await city.path.say("smoke-1", '{"smoke": true, "battery": 80, "smell": 1, "seq": 1}')
    await city.path.say("stranger", b"\xff\x00")


def _document() -> dict[str, Any]:
    said: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document(ROUTES)))
    return said
