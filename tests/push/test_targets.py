from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from standardwebhooks.webhooks import Webhook

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.messages import said
from iot_core.model import Severity
from iot_core.push.outbox import Endpoint
from iot_core.push.targets import add, enqueue_test, get_target, list_targets, remove, said_failure
from iot_core.push.webhook import headers, new_secret
from tests.push.alarms import alarm, tell

if TYPE_CHECKING:
    import asyncpg

PUBLIC = "https://93.184.215.14/alarms"


async def test_target_is_listed_without_its_secret(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        made, secret = await add(connection, "ioc", PUBLIC + "?token=abc", min_severity=Severity.HIGH)
        assert secret.startswith("whsec_")
        assert (made.backlog, made.dead, made.last_error, made.last_delivered_at) == (0, 0, None, None)
        assert made.url == PUBLIC + "?…"
        assert secret not in repr(await list_targets(connection))
    await tell(pool, await alarm(pool))
    async with pool.acquire() as connection:
        assert [(each.key, each.backlog) for each in await list_targets(connection)] == [("ioc", 1)]


async def test_made_secret_is_one_of_the_standard() -> None:
    secret = new_secret()
    body = '{"text": "cháy"}'
    Webhook(secret).verify(body, headers(secret, "msg_1", body.encode()))


async def test_name_can_be_given_again_after_removal(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        _, first = await add(connection, "ioc", PUBLIC)
        with pytest.raises(ConflictError):
            await add(connection, "ioc", PUBLIC)
    await tell(pool, await alarm(pool))
    async with pool.acquire() as connection:
        await remove(connection, "ioc")
        assert await list_targets(connection) == []
        for ask in (remove, get_target, enqueue_test):
            with pytest.raises(NotFoundError):
                await ask(connection, "ioc")
        made, second = await add(connection, "ioc", PUBLIC)
        assert (made.backlog, made.dead, first == second) == (0, 0, False)
    assert await pool.fetchval("SELECT last_error FROM iot.outbox WHERE dead_at IS NOT NULL") == "removed"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1/", "push.private"),
        ("http://localhost:8080/", "push.private"),
        ("http://[::1]/", "push.private"),
        ("http://10.1.2.3/", "push.private"),
        ("https://192.168.1.1/", "push.private"),
        ("http://169.254.169.254/latest/meta-data", "push.private"),
        ("http://[::ffff:10.0.0.1]/", "push.private"),
        ("http://[64:ff9b::7f00:1]/", "push.private"),
        ("http://[2002:7f00:1::]/", "push.private"),
        ("http://[64:ff9b:1::7f00:1]/", "push.private"),
        ("http://[::127.0.0.1]/", "push.private"),
        ("http://[::ffff:0:127.0.0.1]/", "push.private"),
        ("http://127.1/", "push.private"),
        ("http://0.0.0.0/", "push.private"),
        ("http://100.64.0.1/", "push.private"),
        ("http://224.0.0.1/", "push.private"),
        ("http://2130706433/", "push.private"),
        ("http://0x7f.1/", "push.private"),
        ("http://no-such-name.invalid/", "push.unresolved"),
        ("ftp://example.com/", "push.bad_url"),
        ("file:///etc/passwd", "push.bad_url"),
        ("not a url", "push.bad_url"),
        ("http://", "push.bad_url"),
        ("https://user:hunter2@93.184.215.14/", "push.userinfo"),
    ],
)
async def test_url_that_leads_nowhere_or_inside_is_refused(pool: asyncpg.Pool, url: str, code: str) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(RequestError) as caught:
            await add(connection, "ioc", url)
        assert caught.value.code == code
        assert "hunter2" not in str(caught.value) + said(caught.value)
        assert await list_targets(connection) == []


@pytest.mark.parametrize("secret", ["", "abc", "whsec_", "whsec_abc", "whsec_" + "A" * 20, "A" * 44, "whsec_không"])
async def test_weak_or_broken_secret_is_refused_and_not_repeated(pool: asyncpg.Pool, secret: str) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(RequestError) as caught:
            await add(connection, "ioc", PUBLIC, secret)
    assert caught.value.facts == {}


async def test_name_must_be_a_key(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(RequestError):
            await add(connection, "Trung tâm", PUBLIC)


def test_secret_stays_out_of_texts() -> None:
    assert "whsec" not in repr(Endpoint(id=1, key="ioc", url="https://x.vn/?t=1", secret="whsec_x"))


@pytest.mark.parametrize(
    "code",
    [
        "timeout",
        "unresolved",
        "private_address",
        "unreachable",
        "tls",
        "disconnected",
        "redirect",
        "removed",
        "http_503",
    ],
)
def test_every_failure_has_words(code: str) -> None:
    for lang in ("vi", "en"):
        words = said_failure(code, lang)
        assert not words.startswith("push.")
    assert said_failure("http_503", "en") == "answered HTTP 503"
