"""Every kind of target against a receiver that is not ours: Mosquitto, xmllint, an SMTP server, plain sockets."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiomqtt
import pytest
from aiohttp import web
from aiosmtpd.controller import Controller
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from iot_core.errors import RequestError
from iot_core.model import Severity
from iot_core.push import feed
from iot_core.push.parcel import Parcel, pack
from iot_core.push.senders.syslog import frame
from iot_core.push.targets import enqueue_test, list_targets, revive, rotate
from iot_core.push.template import fill, words_of
from tests import servers
from tests.conftest import missing
from tests.push.alarms import T0, alarm, pushing, settled, target, tell, tried
from tests.push.certificates import Pair, authority, issued
from tests.push.receiver import SECRET, receiving, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import asyncpg

CAP = Path(__file__).parents[3] / "shared" / "data" / "cap" / "cap12.xsd"
ALARM = {
    "id": 1, "rule": "fire_detector.smoke", "severity": "critical", "state": "unacknowledged", "metric": "smoke",
    "title": {"vi": "Báo cháy - có khói <&>", "en": "Fire alarm - smoke"}, "value": True, "threshold": True,
    "raised_at": "2026-09-01T03:00:00+00:00", "simulated": False,
    "runbook": {"vi": "Gọi 114, mở lối thoát", "en": "Call 114, open the exits"},
}  # fmt: skip


def valid_cap(data: bytes) -> str:
    """Let xmllint check a message against the OASIS schema; give it as text."""
    if shutil.which("xmllint") is None:
        missing("xmllint is not installed: apt-get install --no-install-recommends libxml2-utils")
    schema = ["--schema", str(CAP)] if CAP.exists() else []  # only its form is checked where the schema is absent
    done = subprocess.run(["xmllint", "--noout", *schema, "-"], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return data.decode()


async def device(pool: asyncpg.Pool, key: str = "smoke-1") -> int:
    found: int = await pool.fetchval(
        "WITH top AS (INSERT INTO iot.area (key, name, kind) VALUES ('quang-ninh', 'Quảng Ninh', 'province')"
        " ON CONFLICT (key) DO UPDATE SET kind = 'province' RETURNING id),"
        " ward AS (INSERT INTO iot.area (key, name, code, parent_id) SELECT 'hong-gai', 'Phường Hồng Gai', '06685', id"
        " FROM top ON CONFLICT (key) DO UPDATE SET code = '06685' RETURNING id)"
        " INSERT INTO iot.device (key, name, class_key, area_id, latitude, longitude)"
        " SELECT $1, 'Nhà văn hóa', 'fire_detector', id, 20.951, 107.078 FROM ward RETURNING id",
        key,
    )
    return found


@asynccontextmanager
async def mosquitto(tmp_path: Path, *lines: str) -> AsyncIterator[servers.Mosquitto]:
    try:
        manager = servers.mosquitto(tmp_path, *(lines or ("allow_anonymous true",)))
        with manager as broker:
            yield broker
    except servers.Missing as exc:
        missing(str(exc))


async def test_mqtt_target_publishes_on_another_broker_and_waits_for_its_word(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    number = await device(pool)
    async with mosquitto(tmp_path) as broker, aiomqtt.Client("127.0.0.1", broker.port) as center:
        await center.subscribe("city/#", qos=1)
        await target(
            pool, "ioc", f"mqtt://127.0.0.1:{broker.port}/city/{{area}}/{{severity}}", kind="mqtt", secret=None
        )
        async with pushing(pool), asyncio.timeout(60):
            await tell(pool, await alarm(pool), device_id=number, alarm=ALARM)
            message = await anext(aiter(center.messages))
            await settled(pool, 1)
    row = await pool.fetchrow("SELECT message_id, body_digest FROM iot.outbox")
    body = json.loads(bytes(message.payload))
    assert (str(message.topic), message.qos, body["id"]) == ("city/hong-gai/critical", 1, row["message_id"])
    assert body["data"]["device"]["area_name"] == "Phường Hồng Gai"
    assert len(row["body_digest"]) == 64


async def test_text_without_a_template_has_no_empty_places(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    got: list[str] = []

    async def take(request: web.Request) -> web.Response:
        got.append(await request.text())
        return web.Response(status=204)

    port = free_port()
    async with serving(port, take), pushing(pool):
        await target(pool, "duty", f"http://127.0.0.1:{port}/", format="text", language="vi")
        async with pool.acquire() as connection, connection.transaction():
            await enqueue_test(connection, "duty")
        await tell(pool, await alarm(pool), alarm={**ALARM, "runbook": None})
        await settled(pool, 2)
    fire, test = sorted(got, key=lambda said: said.startswith("DIỄN TẬP"))
    first, _, rest = test.partition("\n")
    assert first.startswith("DIỄN TẬP - Bản tin thử: ")
    assert re.fullmatch(r"\d{4}-[^\n]+", rest)
    assert re.fullmatch(r"[^\n:]+: Báo cháy - có khói <&>, [^\n]+\n2026-09-01T03:00:00\+00:00", fire)


async def test_mqtt_target_that_is_away_is_reached_when_it_is_back(
    pool: asyncpg.Pool, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    await target(pool, "ioc", f"mqtt://127.0.0.1:{port}/city", kind="mqtt", secret=None)
    async with pushing(pool):
        await tell(pool, await alarm(pool))
        await tried(pool, 1)
        assert await pool.fetchval("SELECT last_error FROM iot.outbox") == "unreachable"
        with servers.mosquitto(tmp_path, "allow_anonymous true", port=port):
            await pool.execute("UPDATE iot.outbox SET next_at = now()")
            await tell(pool, await alarm(pool))
            await settled(pool, 2)


async def test_cap_is_valid_and_goes_from_alert_over_update_to_cancel(
    pool: asyncpg.Pool, free_port: Callable[[], int]
) -> None:
    got: list[tuple[str, bytes]] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        # The library's `verify` also reads JSON, which this is not; its `sign` says what must stand in the header.
        stamp = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
        signed = Webhook(SECRET).sign(request.headers["webhook-id"], stamp, body.decode())
        assert request.headers["webhook-signature"] == signed
        got.append((request.content_type, body))
        return web.Response(status=200)

    number, port = await device(pool), free_port()
    options = {"sender": "ioc@quangninh.example.vn", "sender_name": "Trung tâm điều hành", "scope": "Restricted"}
    async with serving(port, take), pushing(pool):
        await target(pool, "vnca", f"http://127.0.0.1:{port}/cap", format="cap", options=options)
        one = await alarm(pool)
        for kind in ("alarm.raised", "alarm.acknowledged", "alarm.raised", "alarm.cleared", "alarm.raised"):
            await tell(pool, one, kind, device_id=number, alarm=ALARM)
        await settled(pool, 4)
    texts = [valid_cap(body) for _, body in got]
    ids = [row["message_id"] for row in await pool.fetch("SELECT message_id FROM iot.outbox ORDER BY id")]
    assert [kind for kind, _ in got] == ["application/cap+xml"] * 4
    for words, kind in zip(texts, ("Alert", "Update", "Cancel", "Alert"), strict=True):
        assert f"<msgType>{kind}</msgType>" in words
        assert "<status>Actual</status>" in words
    assert "<references>" not in texts[0] + texts[3]
    assert f"ioc@quangninh.example.vn,{ids[0]}," in texts[1]
    assert all(f",{number}," in texts[2] for number in ids[:2])
    for expected in (
        "<category>Fire</category>", "<severity>Extreme</severity>", "<urgency>Immediate</urgency>",
        "<circle>20.95100,107.07800 0.2</circle>", "<value>06685</value>", "Báo cháy - có khói &lt;&amp;&gt;",
        "<language>vi-VN</language>", "<language>en-US</language>", "<value>smoke-1</value>", "+07:00</sent>",
        "<instruction>Gọi 114, mở lối thoát</instruction>",
    ):  # fmt: skip
        assert expected in texts[0], expected
    assert "<urgency>Past</urgency>" in texts[2]


async def test_what_people_in_the_center_do_is_nothing_for_the_public_and_an_end_is_said_once(
    pool: asyncpg.Pool,
) -> None:
    await target(pool, "citizens", "", kind="feed", secret=None)
    await target(pool, "ioc", "http://127.0.0.1:9/")
    one = await alarm(pool)
    await tell(pool, one, "alarm.raised", "alarm.comment", "alarm.shelved", "alarm.escalated", "alarm.acknowledged")
    await tell(pool, one, "alarm.reopened", "alarm.cleared", "alarm.comment", "alarm.closed")  # undone; over; put away
    await tell(pool, one, "alarm.reopened", "alarm.closed")
    assert await heard(pool, "citizens") == ["raised", "cleared", "reopened", "closed"]
    assert len(await heard(pool, "ioc")) == 11


async def test_an_end_is_for_who_was_told_whatever_the_alarm_is_by_then(pool: asyncpg.Pool) -> None:
    facts: dict[str, dict[str, Any]] = {
        "all": {}, "high": {"min_severity": Severity.HIGH}, "critical": {"min_severity": Severity.CRITICAL},
        "day": {"hours": "tue 09:00-11:00"},  # T0 is 10:00 of a Tuesday in Hà Nội
    }  # fmt: skip
    await pool.execute("INSERT INTO iot.fixed_setting VALUES ('timezone', 'Asia/Ho_Chi_Minh')")
    for key, narrowed in facts.items():
        await target(pool, key, "http://127.0.0.1:9/", **narrowed)
    one, other = await alarm(pool), await alarm(pool)
    assert await tell(pool, one, severity=Severity.HIGH) == 3
    assert await tell(pool, one, "alarm.cleared", severity=Severity.LOW, at=T0 + timedelta(hours=2)) == 2
    assert await tell(pool, one, "alarm.cleared", severity=Severity.CRITICAL) == 1, "by day it is news"
    assert await tell(pool, one, "alarm.cleared", severity=Severity.CRITICAL) == 0
    assert await tell(pool, other, "alarm.cleared", severity=Severity.CRITICAL) == 0, "nobody was told of it"
    assert await heard(pool, "high") == ["raised", "cleared"]
    assert await heard(pool, "critical") == []


@pytest.mark.parametrize("rule", ["core.push", "flood_gauge.silent", "fire_detector.implausible"])
async def test_how_platform_and_devices_are_does_not_stand_in_the_public_feed(pool: asyncpg.Pool, rule: str) -> None:
    await target(pool, "citizens", "", kind="feed", secret=None)
    await target(pool, "ioc", "http://127.0.0.1:9/", format="cap")
    assert await tell(pool, await alarm(pool), alarm={"id": 1, "rule": rule}) == 1
    assert await heard(pool, "citizens") == []


async def heard(pool: asyncpg.Pool, key: str) -> list[str]:
    rows = await pool.fetch(
        "SELECT o.body->>'type' AS type FROM iot.outbox o JOIN iot.push_target t ON t.id = o.target_id"
        " WHERE t.key = $1 ORDER BY o.id", key,
    )  # fmt: skip
    return [row["type"].removeprefix("alarm.") for row in rows]


async def test_simulated_alarm_is_an_exercise_and_only_for_who_asked(pool: asyncpg.Pool) -> None:
    await target(pool, "citizens", "", kind="feed", secret=None)
    await target(pool, "drill", "", kind="feed", secret=None, accepts_simulated=True)
    one = await alarm(pool)
    assert await tell(pool, one, simulated=True, alarm=ALARM | {"simulated": True}) == 1
    assert await tell(pool, one, alarm=ALARM | {"test": True}) == 1
    async with pushing(pool):
        await settled(pool, 2)
    async with pool.acquire() as connection:
        assert (await feed.read(connection, "citizens")).entries == []
        drill = await feed.read(connection, "drill")
        for entry in drill.entries:
            parcel = await feed.message(connection, "drill", entry["message_id"], "Asia/Ho_Chi_Minh")
            assert "<status>Exercise</status>" in valid_cap(parcel.data)
            assert "smoke-1" not in parcel.data.decode()
            assert "Gọi 114" not in parcel.data.decode()  # what the center does is not the public's
    atom = feed.atom(drill, "https://iot.example.vn/feeds/drill").decode()
    assert atom.count("<entry>") == 2
    assert atom.count("DIỄN TẬP - Báo cháy") == 4


async def test_mail_arrives_by_apprise_with_a_template_and_its_url_is_never_shown(
    pool: asyncpg.Pool, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    class Sink:
        mails: list[Any] = []  # noqa: RUF012

        async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802
            self.mails.append(envelope)
            return "250 OK"

    sink = Sink()
    controller = Controller(sink, hostname="127.0.0.1", port=free_port(), ready_timeout=60)
    controller.start()
    try:
        url = f"mailto://127.0.0.1:{controller.port}?from=iot@example.vn&to=truc-ban@example.vn&mode=insecure"
        number = await device(pool)
        await target(
            pool,
            "mail",
            url,
            kind="apprise",
            secret=None,
            template="$severity_said: $title\n$device_name, $area_name\n$runbook",
        )
        async with pushing(pool):
            await tell(pool, await alarm(pool), "alarm.raised", "alarm.cleared", device_id=number, alarm=ALARM)
            await settled(pool, 2)
    finally:
        controller.stop()
    first, envelope = sink.mails
    assert "phát sinh" in str(message_from_bytes(first.content, policy=policy.default)["subject"])
    mail = message_from_bytes(envelope.content, policy=policy.default)
    assert envelope.rcpt_tos == ["truc-ban@example.vn"]
    assert str(mail["subject"]) == "nguy cấp: Báo cháy - có khói <&>, đã khôi phục bình thường"  # no second fire
    words = mail.get_body(("plain", "html")).get_content()  # type: ignore[union-attr]
    assert "Nhà văn hóa" in words
    assert "Gọi 114, mở lối thoát" in words
    assert mail.get_content_type() == "text/plain"
    assert "khói <&>\nNhà văn hóa, Phường Hồng Gai\n" in words.replace("\r", "")
    async with pool.acquire() as connection:
        listed = repr(await list_targets(connection))
    assert "truc-ban" not in listed + caplog.text
    assert "mailto://…" in listed


NASTY = 'Cháy \x01\x1b[31m <b>&amp; ]]> 🔥 |=\\ "\r\nhai\u2028 ' + "x" * 10_000


def test_no_title_breaks_a_format() -> None:
    now = datetime.now(UTC)
    facts = {**ALARM, "title": {"vi": NASTY, "en": NASTY}}
    body = {"type": "alarm.raised", "timestamp": now.isoformat(), "data": {"alarm": facts, "device": {"name": NASTY}}}

    def packed(format_: str) -> Parcel:
        return pack(
            body, message_id="msg_1", at=now, format_=format_, language="vi", template_=None, options={}, zone="UTC"
        )

    valid_cap(packed("cap").data)
    text = packed("text")
    assert len(text.subject) == 200
    assert text.subject.startswith('nguy cấp: Cháy \x01\x1b[31m <b>&amp; ]]> 🔥 |=\\ " hai x')
    cef = packed("cef").data.decode()
    assert not re.search(r"[\x00-\x1f\u2028]", cef)
    assert ' <b>&amp; ]]> 🔥 \\|=\\\\ "' in cef
    assert not re.search(rb"[\x00-\x1f]", frame(text, now, "here"))
    entry = {"message_id": "msg_1", "created_at": now, "body": body}
    citizens: Any = SimpleNamespace(entries=[entry], core="c", key="k", created_at=now, language="vi", options={})
    assert not re.search(r"[\x00-\x08\x0b\x1b]", feed.atom(citizens, "https://x/").decode())


@pytest.mark.parametrize(
    ("value", "language", "said"), [(True, "vi", "có"), (False, "en", "no"), (1.0, "en", "1"), (35.25, "vi", "35.25")]
)
def test_a_template_says_truth_in_its_language_and_numbers_plainly(value: object, language: str, said: str) -> None:
    body = {"type": "alarm.raised", "data": {"alarm": {"id": 1, "value": value}}}
    assert fill("$value", words_of(body, language)) == said


async def test_a_service_that_is_down_is_tried_again(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    await target(pool, "mail", f"json://127.0.0.1:{free_port()}/", kind="apprise", secret=None)
    async with pushing(pool):
        await tell(pool, await alarm(pool))
        await tried(pool, 1)
    assert await pool.fetchval("SELECT last_error FROM iot.outbox") == "service"


async def test_cef_arrives_over_udp_and_tcp(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    lines: list[bytes] = []
    arrived = asyncio.Event()

    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _: Any) -> None:
            lines.append(data)
            arrived.set()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int(await reader.readuntil(b" "))
        lines.append(await reader.readexactly(length))
        arrived.set()
        await reader.read()
        writer.close()

    port = free_port()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", port))
    server = await asyncio.start_server(stream, "127.0.0.1", port)
    try:
        number = await device(pool)
        for scheme in ("syslog", "syslog+tcp"):
            await target(pool, scheme[-3:], f"{scheme}://127.0.0.1:{port}", kind="syslog", secret=None)
            async with pushing(pool), asyncio.timeout(60):
                await tell(pool, await alarm(pool), device_id=number, alarm=ALARM, only=scheme[-3:])
                await arrived.wait()
                arrived.clear()
                await settled(pool, len(lines))
    finally:
        transport.close()
        server.close()
    for line in lines:
        assert line.startswith(b"<106>1 2")
        cef = line.decode().partition("\ufeff")[2]
        head = cef.split("|")
        assert head[:2] + head[4:7] == ["CEF:0", "iot-core", "alarm.raised", "Báo cháy - có khói <&>", "10"]
        assert "dvchost=smoke-1" in cef
        assert "cs1Label=rule cs1=fire_detector.smoke" in cef


async def test_during_a_rotation_both_secrets_fit_and_afterwards_only_the_new_one(
    pool: asyncpg.Pool, free_port: Callable[[], int]
) -> None:
    seen: list[tuple[bool, bool]] = []
    new = ""

    async def take(request: web.Request) -> web.Response:
        body = await request.text()
        fits = []
        for secret in (SECRET, new):
            try:
                Webhook(secret).verify(body, dict(request.headers))
                fits.append(True)
            except WebhookVerificationError:
                fits.append(False)
        seen.append((fits[0], fits[1]))
        return web.Response(status=204)

    port = free_port()
    async with serving(port, take), pushing(pool):
        await target(pool, "ioc", f"http://127.0.0.1:{port}/")
        async with pool.acquire() as connection:
            new = await rotate(connection, "ioc", timedelta(hours=24))
        await tell(pool, await alarm(pool))
        await settled(pool, 1)
        await pool.execute("UPDATE iot.push_target SET old_secret_until = now(), changed_at = now()")
        await tell(pool, await alarm(pool))
        await settled(pool, 2)
    assert seen == [(True, True), (False, True)]


async def test_mutual_tls_shows_our_certificate_and_trusts_their_authority_only(
    pool: asyncpg.Pool, free_port: Callable[[], int], tmp_path: Path
) -> None:
    ca = authority()
    theirs, ours = issued(ca, "localhost"), issued(ca, "iot-core")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*theirs.files(tmp_path))
    context.load_verify_locations(cadata=ca.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    names: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        assert request.transport is not None
        names.append(request.transport.get_extra_info("peercert")["subject"])
        return web.Response(status=204)

    app, port = web.Application(), free_port()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        url = f"https://localhost:{port}/"
        await target(pool, "bare", url, options={"ca": ca.certificate})
        await target(pool, "wary", url)
        await target(pool, "ioc", url, options=_options(ca, ours))
        async with pushing(pool):
            await tell(pool, await alarm(pool))
            await settled(pool, 1)
            await tried(pool, 2)
    finally:
        await runner.cleanup()
    assert names == [((("commonName", "iot-core"),),)]
    errors = {row["key"]: row["last_error"] for row in await pool.fetch(
        "SELECT t.key, o.last_error FROM iot.outbox o JOIN iot.push_target t ON t.id = o.target_id"
    )}  # fmt: skip
    assert errors["ioc"] is None
    assert errors["wary"] == "tls"
    assert errors["bare"] in ("tls", "disconnected")  # aiohttp closes before its alert is sent; OpenSSL says it


async def test_certificates_that_nothing_would_use_are_refused(pool: asyncpg.Pool) -> None:
    ca = authority()
    for kind, url in (("webhook", "http://127.0.0.1/"), ("mqtt", "mqtt://127.0.0.1/city"), ("feed", "")):
        with pytest.raises(RequestError) as caught:
            await target(pool, "ioc", url, kind=kind, secret=None, options={"ca": ca.certificate})
        assert caught.value.code == "push.certificate_unused"


def _options(ca: Pair, ours: Pair) -> dict[str, str]:
    return {"ca": ca.certificate, "cert": ours.certificate, "key": ours.key}


async def test_filter_takes_class_area_with_all_under_it_and_hours(pool: asyncpg.Pool) -> None:
    number = await device(pool)
    facts: dict[str, dict[str, Any]] = {
        "province": {"areas": ["quang-ninh"]}, "ward": {"areas": ["hong-gai"]}, "fire": {"classes": ["fire_detector"]},
        "day": {"hours": "tue 09:00-11:00"},  # T0 is 10:00 of a Tuesday in Hà Nội
        "water": {"classes": ["water_meter"]}, "night": {"hours": "daily 22:00-06:00"},
        "high": {"min_severity": Severity.CRITICAL},
    }  # fmt: skip
    await pool.execute("INSERT INTO iot.area (key, name) VALUES ('ha-noi', 'Hà Nội')")
    await pool.execute("INSERT INTO iot.fixed_setting VALUES ('timezone', 'Asia/Ho_Chi_Minh')")
    for key, narrowed in {**facts, "elsewhere": {"areas": ["ha-noi"]}}.items():
        await target(pool, key, "http://127.0.0.1:9/", **narrowed)
    await tell(pool, await alarm(pool), device_id=number, alarm=ALARM)
    wanted = "SELECT t.key FROM iot.outbox o JOIN iot.push_target t ON t.id = o.target_id ORDER BY t.id"
    assert [row["key"] for row in await pool.fetch(wanted)] == ["province", "ward", "fire", "day"]
    await pool.execute("DELETE FROM iot.outbox")
    await pool.execute("INSERT INTO iot.holiday VALUES ('2026-09-01')")
    await tell(pool, await alarm(pool), device_id=number, alarm=ALARM)
    assert "day" not in [row["key"] for row in await pool.fetch(wanted)]


async def test_dead_letters_come_back_with_the_id_they_had(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    async with receiving(free_port()) as receiver:
        await target(pool, "ioc", receiver.url)
        await tell(pool, await alarm(pool))
        await pool.execute("UPDATE iot.outbox SET created_at = now() - interval '3 d', dead_at = now(), attempts = 90")
        await pool.execute("UPDATE iot.push_target SET created_at = now() - interval '4 d'")
        message_id = await pool.fetchval("SELECT message_id FROM iot.outbox")
        async with pushing(pool):
            async with pool.acquire() as connection:
                assert await revive(connection, "ioc") == 1
                assert await revive(connection, "ioc") == 0
            await settled(pool, 1)
    assert receiver.ids == [message_id]


async def test_a_fire_overtakes_a_storm_that_waits(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    async with receiving(free_port()) as receiver:
        await target(pool, "ioc", receiver.url)
        for _ in range(100):
            await tell(pool, await alarm(pool), severity=Severity.LOW)
        fire = await alarm(pool)
        await tell(pool, fire, severity=Severity.CRITICAL, alarm={"id": fire})
        async with pushing(pool):
            await settled(pool, 101)
    assert fire in [body["data"]["alarm"]["id"] for body in receiver.bodies[:4]]
