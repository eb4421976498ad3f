"""The operator's page in a real browser: a fire appears without reload and is acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Route, async_playwright, expect

from iot_core.api import shapes
from iot_core.app import Core
from tests.core import command, core_running, mosquitto_pub

pytestmark = pytest.mark.browser

_QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip
Free = Callable[[int], int]


@asynccontextmanager
async def browser_page(lang: str = "vi-VN", **options: Any) -> AsyncIterator[tuple[Page, list[str]]]:
    """Give a page in Chromium and the addresses it asks for."""
    asked: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_QUIET)
        page = await browser.new_page(locale=lang, viewport={"width": 1280, "height": 800}, **options)
        page.on("request", lambda request: asked.append(request.url))
        page.set_default_timeout(20_000)
        yield page, asked
        await browser.close()


async def signed_in(page: Page, core: Core, client: Any) -> None:
    code = (await client.sign_in_code()).code
    await page.goto(core.url)
    await page.fill("#secret", code)
    await page.click("#sign-in button:not(.quiet)")
    await expect(page.locator("#console")).to_be_visible()
    await expect(page.locator("#link")).to_have_text("● Trực tuyến")


async def detector(client: Any) -> str:
    added = await client.add_device(
        shapes.DeviceNew(
            key="fire-1", name="Đầu báo tầng 1", profile="native-fire-detector", latitude=20.95, longitude=107.07
        )
    )
    assert added.secret
    return str(added.secret)


async def burn(core: Core, secret: str, *, metric: str = "smoke") -> None:
    body = json.dumps({"time": datetime.now(UTC).isoformat(), metric: True})
    code, _, err = await command(*mosquitto_pub(core, "fire-1", secret, "iot/v1/fire-1/telemetry", body))
    assert code == 0, err


async def test_a_fire_appears_without_reload_and_is_acknowledged(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, asked):
        secret = await detector(client)
        await signed_in(page, core, client)
        await expect(page.locator("#no-alarms")).to_be_visible()
        loads = len([url for url in asked if url.rstrip("/") == core.url])
        await burn(core, secret)
        alarm = page.locator(".alarm.critical.unacknowledged")
        await expect(alarm).to_contain_text("Báo cháy")
        await expect(alarm).to_contain_text("Đầu báo tầng 1")
        await expect(alarm).to_contain_text("GMT+7")  # the core's zone, whatever the browser's is
        await expect(page.locator("#counts [data-state=alarm] b")).to_have_text("1")
        await expect(page).to_have_title("(1) Trung tâm điều hành")
        await alarm.get_by_role("button", name="Xác nhận").click()
        await expect(page.locator(".alarm.acknowledged")).to_contain_text("đã xác nhận")
        assert (await client.alarms()).items[0].state == shapes.AlarmState.ACKNOWLEDGED
        assert len([url for url in asked if url.rstrip("/") == core.url]) == loads
        assert [url for url in asked if not url.startswith(core.url)] == []


async def test_a_device_opens_with_its_values_and_the_page_speaks_both_languages(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        secret = await detector(client)
        await burn(core, secret)
        await signed_in(page, core, client)
        await page.click(".alarm .where")
        await expect(page.locator("#device")).to_contain_text("Phát hiện khói")
        order = await client.order_command(shapes.OrderNew(name="silence", params={}, devices=("fire-1",), ttl_s=600))
        await expect(page.locator("#device .commands li")).to_contain_text("silence · đang chờ")
        await client.cancel_order(order.number or 0)
        await expect(page.locator("#device .commands li")).to_contain_text("silence · thất bại")
        await page.click("header .language")
        await expect(page.locator("#device")).to_contain_text("Smoke detected")
        await expect(page.locator("#device .commands li")).to_contain_text("silence · failed")
        await expect(page.locator("#alarm-title")).to_have_text("Alarms")
        assert await page.evaluate("document.body.innerText.match(/(?:page|held|api)\\.[a-z_]+/)") is None


async def test_a_wrong_code_is_refused_and_a_code_works_once(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        code = (await client.sign_in_code()).code
        await page.goto(f"{core.url}/#code={code}")
        await expect(page.locator("#console")).to_be_visible()
        assert "code" not in page.url
        await page.click("#sign-out")
        await page.fill("#secret", code)
        await page.click("#sign-in button:not(.quiet)")
        await expect(page.locator("#sign-in-error")).not_to_be_empty()
        await expect(page.locator("#console")).to_be_hidden()


async def test_a_name_with_markup_is_shown_as_text(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        name = "<img src=x onerror=document.title='owned'>"
        new = shapes.DeviceNew(key="fire-1", name=name, profile="native-fire-detector", latitude=20.9, longitude=107.1)
        await burn(core, str((await client.add_device(new)).secret))
        await signed_in(page, core, client)
        await expect(page.locator(".alarm .where")).to_contain_text(name)
        assert "owned" not in await page.title()


async def test_an_alarm_raised_while_the_whole_is_being_read_is_shown(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        secret = await detector(client)
        asked, answer = asyncio.Event(), asyncio.Event()

        async def late(route: Route) -> None:
            response = await route.fetch()  # read before the fire, answered after it
            asked.set()
            await answer.wait()
            await route.fulfill(response=response)

        await page.route("**/api/v1/alarms?*", late)
        await page.goto(f"{core.url}/#code={(await client.sign_in_code()).code}")
        async with asyncio.timeout(20):
            await asked.wait()
        await burn(core, secret)
        await expect(page.locator(".alarm.critical")).to_have_count(1)
        answer.set()
        await expect(page.locator("#map-note")).not_to_be_empty()
        await expect(page.locator(".alarm.critical")).to_have_count(1)


async def test_a_connection_or_a_database_that_died_without_a_word_is_noticed(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        await page.clock.install()
        await signed_in(page, core, client)
        await page.route("**/api/v1/events", lambda route: route.abort())
        await page.clock.fast_forward(50_000)
        await expect(page.locator("#link")).to_have_class("lost")
        await page.unroute("**/api/v1/events")
        await page.clock.fast_forward(5_000)
        await expect(page.locator("#link")).to_have_text("● Trực tuyến")

        # The stream lives, and its core can store nothing.
        away = '{"ready": false, "parts": {"store": false, "ingest": true}}'
        await page.route("**/readyz", lambda route: route.fulfill(status=503, body=away))
        await page.clock.fast_forward(5_000)
        await expect(page.locator("#link")).to_have_class("lost")
        await expect(page.locator("#link")).to_contain_text("Cơ sở dữ liệu")
        await page.unroute("**/readyz")
        await page.clock.fast_forward(5_000)
        await expect(page.locator("#link")).to_have_text("● Trực tuyến")


async def test_a_new_alarm_leaves_the_keyboard_where_it_is(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        secret = await detector(client)
        await signed_in(page, core, client)
        await burn(core, secret)
        button = page.get_by_role("button", name="Xác nhận")
        await button.focus()
        await burn(core, secret, metric="tamper")
        await expect(page.locator(".alarm")).to_have_count(2)
        await expect(button.first).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator(".alarm.acknowledged")).to_contain_text("Báo cháy")
        await expect(page.locator(".alarm.high .where")).to_be_focused()  # goes on with the next, on what does no harm


async def test_a_session_that_ended_says_so(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        await burn(core, await detector(client))
        await signed_in(page, core, client)
        await page.click(".alarm .where")
        await expect(page.locator("#device")).to_contain_text("Đầu báo tầng 1")
        await page.context.clear_cookies()
        await page.get_by_role("button", name="Xác nhận").first.click()
        await expect(page.locator("#sign-in-error")).to_contain_text("Phiên làm việc đã kết thúc")
        await expect(page.locator("#device, #alarm, #alarms")).to_have_text(["", "", ""])  # nothing for the next person


async def test_on_a_phone_a_device_opens_where_one_is_and_escape_closes_it(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        await page.set_viewport_size({"width": 360, "height": 400})
        await burn(core, await detector(client))
        await signed_in(page, core, client)
        await page.click(".alarm .where")
        await expect(page.locator("#device")).to_be_in_viewport(ratio=1)
        await page.keyboard.press("Escape")
        await expect(page.locator("#device")).to_be_hidden()
