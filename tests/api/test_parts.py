"""Areas, push targets, broker questions, health and the page, each over HTTP."""

from __future__ import annotations

import pytest

from iot_core.api.shapes import AreaNew
from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.model import Severity
from tests.api.city import City


async def test_areas_grow_into_a_tree_that_counts_its_devices(city: City) -> None:
    async with city.client("technician") as client:
        await client.add_area(AreaNew(key="qn", name="Quảng Ninh", kind="province", code="22"))
        for key in ("hl", "cp"):
            await client.add_area(AreaNew(key=key, name=key.upper(), parent="qn"))
        with pytest.raises(ConflictError, match=r"registry\.area_exists"):
            await client.add_area(AreaNew(key="hl", name="again"))
        with pytest.raises(NotFoundError, match=r"registry\.no_area"):
            await client.add_area(AreaNew(key="x", name="x", parent="nowhere"))
        await city.add("a-1", area="hl")
        await city.add("a-2", area="qn")
        await city.add("a-3", area="hl")
        await client.remove_device("a-3")
        roots = (await client.area_tree()).items
        assert [each.key for each in (await client.areas()).items] == ["cp", "hl", "qn"]
    assert [(root.key, root.devices, root.devices_below) for root in roots] == [("qn", 1, 2)]
    assert [(node.key, node.devices) for node in roots[0].children] == [("cp", 0), ("hl", 1)]


async def test_every_write_leaves_a_line_with_who_did_it(city: City) -> None:
    async with city.client("technician") as client:
        await client.add_area(AreaNew(key="qn", name="Quảng Ninh"))
    await city.add("a-1", area="qn")
    async with city.client("operator") as client:
        await client.remove_device("a-1")
        await client.restore_device("a-1")
    rows = await city.path.pool.fetch("SELECT by, action, subject FROM iot.audit WHERE by <> 'test' ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("the technician", "area.add", "area/qn"),
        ("the admin", "device.add", "device/a-1"),
        ("the operator", "device.remove", "device/a-1"),
        ("the operator", "device.restore", "device/a-1"),
    ]


async def test_the_audit_hides_from_each_role_what_it_may_not_see_elsewhere(city: City) -> None:
    async with city.client() as client:
        await client.add_push("ioc", "http://127.0.0.1:9/very-secret-path")
        await client.add_area(AreaNew(key="qn", name="Quảng Ninh"))
    for role in ("technician", "operator"):
        said = await city.ask("GET", "/audit", role=role)
        assert {each["subject"] for each in said.json["items"]} == {"area/qn"}
        assert b"very-secret-path" not in said.data
    assert b"very-secret-path" in (await city.ask("GET", "/audit")).data


async def test_a_push_target_is_added_tested_listed_and_removed(city: City) -> None:
    async with city.client() as client:
        added = await client.add_push("ioc", "http://127.0.0.1:9/hook", min_severity=Severity.HIGH)
        assert added.secret.startswith("whsec_")
        with pytest.raises(ConflictError):
            await client.add_push("ioc", "http://127.0.0.1:9/hook")
        with pytest.raises(RequestError):
            await client.add_push("other", "ftp://127.0.0.1/hook")
        tested = await client.test_push("ioc")
        listed = (await client.push_targets()).items
        assert [(each.key, each.backlog, each.min_severity) for each in listed] == [("ioc", 1, "high")]
        assert added.secret not in repr(listed)
        await client.remove_push("ioc")
        with pytest.raises(NotFoundError):
            await client.test_push("ioc")
    assert (
        await city.path.pool.fetchval("SELECT count(*) FROM iot.outbox WHERE message_id = $1", tested.message_id) == 1
    )
    audit = await city.path.pool.fetchval("SELECT string_agg(a::text, '') FROM iot.audit a")
    assert added.secret not in audit


async def test_a_broker_elsewhere_is_told_who_may_connect_and_speak(city: City) -> None:
    secret = await city.add("smoke-1")

    async def emqx(path: str, **said: str) -> str:
        reply = await city.ask("POST", f"//broker/{path}", role=None, json={"username": "smoke-1", **said})
        assert reply.status == 200
        word: str = reply.json["result"]
        return word

    async def rabbitmq(path: str, **said: str) -> str:
        reply = await city.ask("POST", f"//broker/{path}", role=None, data={"username": "smoke-1", **said})
        return reply.data.decode()

    assert await emqx("auth", password=secret) == "allow"
    assert await emqx("auth", password=secret + "x") == "deny"
    assert await rabbitmq("auth", password=secret) == "allow"
    assert await rabbitmq("auth", password="") == "deny"
    assert await emqx("acl", action="publish", topic="iot/v1/smoke-1/telemetry") == "allow"
    assert await emqx("acl", action="publish", topic="iot/v1/smoke-2/telemetry") == "deny"
    assert await emqx("acl", action="subscribe", topic="iot/v1/#") == "deny"
    assert (await city.ask("POST", "//broker/auth", role=None, data=b"nonsense")).status == 400
    assert (await city.ask("POST", "//broker/auth", role="viewer", json={"username": "a"})).status == 403


async def test_metrics_name_no_device_and_no_sender(city: City) -> None:
    await city.add("smoke-1")
    await city.path.say("smoke-1", '{"smoke": false}')
    await city.path.say("stranger", '{"smoke": false}')
    reply = await city.ask("GET", "//metrics", role=None)
    said = reply.data.decode()
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "iot_events_total" in said
    assert "iot_sse_clients 0.0" in said
    assert "smoke-1" not in said
    assert "stranger" not in said


async def test_the_page_and_its_files_are_served_to_everyone(city: City) -> None:
    index = await city.ask("GET", "//", role=None)
    assert (index.status, index.headers["Content-Type"]) == (200, "text/html")
    script = await city.ask("GET", "//static/app.js", role=None)
    assert (script.status, script.headers["X-Content-Type-Options"]) == (200, "nosniff")
    assert "javascript" in script.headers["Content-Type"]
    assert (await city.ask("GET", "//static/", role=None)).status == 404
