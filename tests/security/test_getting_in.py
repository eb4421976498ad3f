"""Tries to get in: text that wants to be SQL, a template or a path; bombs; streams that outlive their token."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import cbor2
import msgspec
import pytest

from iot_core.api import shapes
from iot_core.api.application import ROUTES
from iot_core.api.rights_table import ROOT
from iot_core.client import Client
from iot_core.errors import DecodeError, ForbiddenError, RequestError
from iot_core.ingest.unpack import unpacked
from tests.api.city import City
from tests.core import stopwatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


HOSTILE: Final = (
    "'; DROP TABLE iot.device; --",
    "' OR '1'='1",
    "\\'; SELECT pg_sleep(5); --",
    "$1 || (SELECT hash FROM iot.token LIMIT 1)",
    "%' UNION SELECT password_hash FROM iot.user_account --",
    "{{7*7}}${7*7}<%= 7*7 %>#{7*7}",
    "{0.__class__.__init__.__globals__}",
    "%(secret)s %s %n",
    '<script>alert(1)</script>"><img src=x onerror=alert(1)>',
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "file:///etc/passwd",
    '=HYPERLINK("http://evil.example/","x")',
    "a\r\nSet-Cookie: iot_session=planted",
    "\x1b]0;title\x07\x1b[2J",
    "\u202eexe.gnp",
)


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_text_of_people_is_kept_as_it_is_and_run_nowhere(city: City, hostile: str) -> None:
    before = await _tables(city)
    async with city.client() as client:
        await client.add_area(shapes.AreaNew(key="a", name=hostile, name_en=hostile, code=hostile[:20]))
        await client.add_device(
            shapes.DeviceNew(
                key="lamp-1", class_key="streetlight", area="a", name=hostile, notes=hostile, labels=_label(hostile)
            )
        )
        found = await client.device("lamp-1")
        assert (found.name, found.notes, (await client.area("a")).name) == (hostile, hostile, hostile)
        await client.devices(search=hostile)
        made = await client.add_token(hostile, shapes.Role.VIEWER, days=1)
        assert made.token.name == hostile
        assert (await client.audit(shapes.AuditQuery(by=hostile))).items == ()
        for refused in (client.device_rows(f"key={hostile}"), client.device(hostile), client.area(hostile)):
            try:
                await refused
            except RequestError as exc:
                assert exc.code.startswith(("registry.", "api.")), exc  # noqa: PT017 - either is right
    assert await _tables(city) == before


async def test_every_text_field_of_every_route_takes_hostile_text_without_breaking(city: City) -> None:
    """Each string in a query, a path or a body is hostile; the answer is a refusal with a code, or it was taken."""
    before = await _tables(city)
    for number, route in enumerate(ROUTES):
        if route.events or route.lines or route.path in {"/login", "/session"}:
            continue
        for hostile in (HOSTILE[number % len(HOSTILE)], HOSTILE[(number * 7 + 3) % len(HOSTILE)]):
            reply = await city.ask(
                route.method,
                re.sub(r"{\w+}", _quoted(hostile), route.path),
                params=dict.fromkeys(_text_fields(route.query), hostile),
                json=_filled(route.body, hostile) if route.body else None,
            )
            assert reply.status < 500 or reply.status == 503, (route.method, route.path, hostile, reply.data)
            assert "planted" not in str(reply.headers), route.path
    assert await _tables(city) == before


@pytest.mark.parametrize(
    "path",
    [
        "/static/../application.py", "/static/%2e%2e/application.py", "/static/..%2f..%2fsettings.py",
        "/static/%2fetc%2fpasswd", "/static/....//app.py", "/static/.hidden", "/static/app.js%00.css", "//etc/passwd",
        "/static/..\\..\\settings.py",
    ],
)  # fmt: skip
async def test_no_path_leads_out_of_the_page_s_folder(city: City, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(city.url.rpartition(":")[2]))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    assert answer.split(b" ")[1] in {b"400", b"404"}, answer[:200]
    assert b"root:" not in answer


async def test_json_that_is_too_deep_or_too_large_is_refused(city: City) -> None:
    deep = b'{"notes": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    wide = json.dumps({"key": "a", "class": "streetlight", "name": "x" * 5_000_000}).encode()
    for body, codes in (
        (deep, {"api.not_json", "api.unknown_key", "api.invalid", "api.too_large"}),
        (wide, {"api.too_large"}),
    ):
        reply = await city.ask("POST", "/devices", data=io.BytesIO(body), headers={"Content-Type": "application/json"})
        assert (reply.status in {400, 413}, reply.json["code"] in codes) == (True, True), reply.data
    packed = await city.ask(
        "POST", "/devices", data=gzip.compress(bytes(30_000_000)),
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )  # fmt: skip
    assert packed.status in {400, 413, 415}, packed.data


@pytest.mark.parametrize("text", [True, False])
def test_a_packed_bomb_within_a_bomb_is_opened_once_at_most(text: bool) -> None:
    bomb = gzip.compress(gzip.compress(bytes(200_000_000)))
    try:
        opened = unpacked(bomb, 262_144, text=text)
    except DecodeError:
        return
    assert len(opened) <= 262_144


async def test_deep_json_and_cbor_from_a_device_are_held_not_fatal(city: City) -> None:
    await city.add("lamp-1", "streetlight")
    deep_cbor = b"\x81" * 50_000 + b"\x00"
    huge_map = cbor2.dumps({f"k{number}": number for number in range(20_000)})
    for payload, fmt in (
        (b"[" * 50_000 + b"]" * 50_000, None),
        (deep_cbor, 60),
        (huge_map, 60),
        (b"\xbb" + b"\xff" * 8, 60),
    ):
        await city.path.say("lamp-1", payload, **({} if fmt is None else {"content_format": fmt}))
    await city.path.say("lamp-1", json.dumps({"power": 12.0}))
    async with city.client() as client:
        assert (await client.held(device="lamp-1")).total >= 1


@pytest.mark.parametrize("end", ["revoke", "expire", "user"])
async def test_an_open_stream_ends_as_soon_as_its_token_does(city: City, end: str) -> None:
    async with city.client() as admin:
        right = shapes.RightNew(role=shapes.Role.VIEWER)
        await admin.add_user(shapes.UserNew(name="an", password="four unrelated words 1", rights=(right,)))
        made = await admin.login(shapes.LoginNewToken(user="an", password="four unrelated words 1", name="x"))
        ends: dict[str, Callable[[], Awaitable[Any]]] = {
            "revoke": lambda: admin.revoke_token(made.token.id),
            "expire": lambda: city.path.pool.execute(
                "UPDATE iot.token SET expires_at = now() WHERE id = $1", made.token.id
            ),
            "user": lambda: admin.remove_user("an"),
        }
        async with Client(city.url, made.secret, lang="en") as client:
            connected = asyncio.Event()

            async def follow() -> None:
                async with aclosing(client.events(reconnect=False, connected=connected.set)) as events:
                    async for _ in events:
                        pass

            task = asyncio.create_task(follow())
            async with asyncio.timeout(60):
                await connected.wait()
            async with stopwatch() as watch, asyncio.timeout(60):
                await ends[end]()
                await task
            assert watch.seconds < 5.0  # one tick, and what a busy machine adds
            with pytest.raises(ForbiddenError, match=r"api\.unauthorized"):
                await client.me()


async def test_no_secret_stands_in_an_answer_a_url_or_the_audit(city: City) -> None:
    async with city.client() as client:
        made = await client.add_token("scada", shapes.Role.VIEWER, days=1)
        device = await client.add_device(shapes.DeviceNew(key="lamp-1", class_key="streetlight"))
        code = await client.sign_in_code()
    assert device.secret
    secrets = [made.secret, device.secret, code.code]
    assert "?" not in code.url
    for path in ("/tokens", "/devices", "/devices/lamp-1", "/audit", "/me", "/users", "/map", "//metrics", "/push"):
        reply = await city.ask("GET", path)
        assert not [each for each in secrets if each.encode() in reply.data], path
    everything = await city.path.pool.fetchval(
        "SELECT string_agg(said, '') FROM (SELECT t::text FROM iot.token t UNION ALL SELECT a::text FROM iot.audit a"
        " UNION ALL SELECT u::text FROM iot.unit u UNION ALL SELECT w::text FROM iot.answer w) AS rows (said)"
    )
    assert not [each for each in secrets if each in everything]


async def test_every_answer_carries_the_headers_that_bind_a_browser(city: City) -> None:
    for path in ("//", "/me", "/nowhere", "//static/app.js", "//livez"):
        reply = await city.ask("GET", path, role=None)
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"], path
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert reply.headers["Referrer-Policy"] == "no-referrer"


def test_secrets_are_compared_in_constant_time() -> None:
    """Whoever compares a secret with == lets its time tell how much of it was right."""
    words = "(?:secret|token|password|digest|hashed)"
    pattern = re.compile(rf"\b{words}\s*(?:==|!=)\s*[a-z_.]*{words}")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("iot_core", "drivers")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if pattern.search(line)
    ]
    assert found == []


async def _tables(city: City) -> Any:
    return await city.path.pool.fetchval(
        "SELECT array_agg(relname::text ORDER BY relname) FROM pg_class WHERE relnamespace = 'iot'::regnamespace"
    )


def _label(hostile: str) -> tuple[str, ...]:
    return (hostile[:60],)


def _quoted(hostile: str) -> str:
    return quote(hostile, safe="")


def _text_fields(kind: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind) if "str" in str(field.type)]


def _filled(kind: type[msgspec.Struct], hostile: str) -> dict[str, Any]:
    """Fill every field: a hostile text where there may be one, else what its kind takes least amiss."""
    return {field.encode_name: _value(str(field.type), hostile) for field in msgspec.structs.fields(kind)}


def _value(kind: str, hostile: str) -> Any:
    if "tuple" in kind or "list" in kind:
        return [hostile] if "str" in kind else []
    if "dict" in kind:
        return {hostile: hostile}
    if "str" in kind:
        return hostile
    if "bool" in kind:
        return True
    return 1
