"""Whatever is wrong with a request is said in its language, with a code, naming the key."""

from __future__ import annotations

import io

import msgspec
import pytest

from iot_core.api.shapes import Problem
from iot_core.errors import StoreUnavailable
from tests.api.city import City, Reply, until

JSON = {"Content-Type": "application/json"}


CASES: list[tuple[str, str, bytes | None, int, str, dict[str, object] | None]] = [
    ("POST", "/areas", b'{"key":"a","nane":"A"}', 400, "api.unknown_key", {"key": "nane"}),
    ("POST", "/areas", b'{"key":"a"}', 400, "api.missing_key", {"key": "name"}),
    ("POST", "/areas", b'{"key":"A b","name":"A"}', 400, "api.invalid", {"key": "key"}),
    ("POST", "/areas", b'{"key":"a\\n","name":"A"}', 400, "registry.bad_key", {"key": "a\n"}),
    ("POST", "/areas", b'{"key":"a","name":"A\\u0000"}', 400, "api.bad_value", None),
    ("POST", "/areas", b'{"key":"a","name":5}', 400, "api.invalid", {"key": "name"}),
    ("POST", "/areas", b'{"key":', 400, "api.not_json", None),
    ("POST", "/areas", b"\xff\xfe", 400, "api.not_json", None),
    ("POST", "/areas", b'{"key":' + b"[" * 60_000, 400, "api.invalid", None),
    ("POST", "/areas", b"[]", 400, "api.invalid", {"key": "?"}),
    ("POST", "/areas", b"", 400, "api.missing_key", {"key": "key"}),
    ("POST", "/areas", b'"' + b"x" * 70_000 + b'"', 413, "api.too_large", {}),
    ("POST", "/devices/batch", b"x" * 9_000_000, 413, "api.too_large", {}),
    ("POST", "/devices/batch", b'{"devices":[]}', 400, "api.invalid", {"key": "devices"}),
    (
        "POST", "/devices/batch", b'{"devices":[{"key":"a"},{"key":"b","laditude":1}]}', 400, "api.unknown_key",
        {"key": "devices[1].laditude"},
    ),
    ("POST", "/devices", b'{"key":"a","class":"bridge"}', 404, "registry.no_class", None),
    ("POST", "/devices", b'{"key":"a","latitude":91}', 400, "api.invalid", {"key": "latitude"}),
    ("GET", "/devices?limit=many", None, 400, "api.invalid", {"key": "limit"}),
    ("GET", "/devices?limit=0", None, 400, "api.invalid", {"key": "limit"}),
    ("GET", "/devices?colour=red", None, 400, "api.unknown_key", {"key": "colour"}),
    ("GET", "/devices?limit=1&limit=2", None, 400, "api.key_twice", {"key": "limit"}),
    ("GET", "/devices?state=sad", None, 400, "api.invalid", {"key": "state"}),
    ("GET", "/devices/a/telemetry?from=yesterday", None, 400, "api.invalid", {"key": "from"}),
    ("GET", "/devices/a/telemetry?from=2026-01-01T00:00:00", None, 400, "api.invalid", {"key": "from"}),
    ("GET", "/telemetry/watch", None, 400, "api.missing_key", {"key": "device"}),
    ("GET", "/telemetry/watch?device=,", None, 400, "api.watch_bounds", {"most": 50}),
    ("GET", "/alarms/x", None, 404, "alarm.not_found", {"id": "x"}),
    ("GET", "/alarms/99999999999999999999", None, 404, "alarm.not_found", None),
    ("GET", "/alarms/999999999999999999", None, 404, "alarm.not_found", None),
    ("DELETE", "/tokens/999999999999999999", None, 404, "registry.no_token", None),
    ("GET", "/nowhere", None, 404, "api.no_path", {}),
    ("PATCH", "/areas", None, 405, "api.no_method", {}),
]  # fmt: skip


async def test_a_bad_request_is_answered_by_a_problem(city: City) -> None:
    for method, path, data, status, code, facts in CASES:
        body = data and io.BytesIO(data)
        reply = await city.ask(method, path, data=body, headers=JSON | {"Accept-Language": "en"})
        problem = msgspec.json.decode(reply.data, type=Problem)
        assert (reply.status, problem.status, problem.code) == (status, status, code), (method, path, data)
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert problem.detail != code
        said = {key: problem.facts[key] for key in facts or {}}
        assert said == (facts or {}), (method, path)
        assert all(str(value) in problem.detail for value in said.values())


async def test_a_body_that_is_not_said_to_be_json_is_refused(city: City) -> None:
    reply = await city.ask("POST", "/areas", data=b'{"key":"a","name":"A"}', headers={"Content-Type": "text/plain"})
    assert (reply.status, reply.json["code"]) == (415, "api.not_json_type")


ASKED = {
    "vi": "vi", "vi-VN,vi;q=0.9,en;q=0.8": "vi", "en-US,vi;q=0.5": "en", "fr,vi;q=0.1": "vi",
    "fr": "en", "": "en", "vi;q=0,en": "en", "vi;q=x": "en", ";;;,,": "en",
}  # fmt: skip


async def test_a_problem_is_said_in_the_askers_language(city: City) -> None:
    for asked, language in ASKED.items():
        reply = await city.ask("GET", "/devices/nobody", headers={"Accept-Language": asked})
        assert reply.headers["Content-Language"] == language, asked
        assert ("Không có thiết bị" if language == "vi" else "There is no device") in reply.json["detail"]
        assert reply.json["code"] == "registry.no_device"


async def test_connections_that_were_cut_are_replaced(city: City) -> None:
    pool = city.path.pool
    async with pool.acquire() as connection:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        await connection.execute(cut + " AND pid <> pg_backend_pid()")
    assert (await until(lambda: _ready(city))).json["parts"] == {"store": True, "ingest": True}


async def test_a_store_that_is_away_is_said_so_with_a_time_to_come_back(city: City) -> None:
    city.path.pool.terminate()
    reply = await city.ask("GET", "/devices")
    assert (reply.status, reply.json["code"]) == (503, "store.unavailable")
    assert int(reply.headers["Retry-After"]) > 0
    ready = await city.ask("GET", "//readyz", role=None)
    assert (ready.status, ready.json["parts"]["store"]) == (503, False)
    assert (await city.ask("GET", "//livez", role=None)).status == 200
    async with city.client() as client:
        with pytest.raises(StoreUnavailable):
            await client.devices()


async def _ready(city: City) -> Reply | None:
    reply = await city.ask("GET", "//readyz", role=None)
    return reply if reply.status == 200 else None


async def test_answers_carry_headers_that_keep_a_browser_at_home(city: City) -> None:
    for path in ("//livez", "//openapi.json", "/me", "/nowhere", "//static/nothing.js"):
        headers = (await city.ask("GET", path)).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


NOT_OF_THE_PAGE = (
    "../pages.py", "..%2fpages.py", "%2e%2e%2fpages.py", ".hidden.js", "pages.py", "x/../../pages.py", "%00.js",
    "a" * 300
)  # fmt: skip


async def test_only_files_of_the_page_are_served(city: City) -> None:
    for name in NOT_OF_THE_PAGE:
        reply = await city.ask("GET", f"//static/{name}", role=None)
        assert reply.status == 404, name
