"""Signing in at the page with a name and a password, in a real browser, in clear on this machine and over TLS."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from iot_core.api import application, shapes
from iot_core.api.limits import Attempts
from iot_core.app import Core
from iot_core.registry import users
from tests.core import command, core_running, mosquitto_pub
from tests.page.test_page import browser_page

pytestmark = pytest.mark.browser

Free = Callable[[int], int]
PASSWORD = "bốn từ không liên quan 1"


async def add_user(core: Core, role: str = "operator") -> None:
    async with core.pool.acquire() as connection:
        await users.add(connection, "an", "An", PASSWORD, [users.UserRight(role, None)], by="test")


async def enter(page: Page, user: str, password: str) -> None:
    await page.fill("#user", user)
    await page.fill("#password", password)
    await page.press("#password", "Enter")


async def test_a_person_signs_in_with_name_and_password_and_out_again(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, _), browser_page() as (page, asked):
        await add_user(core)
        await page.goto(core.url)
        await expect(page.locator("#user")).to_be_focused()
        await enter(page, "an", "wrong")
        await expect(page.locator("#sign-in-error")).to_contain_text("Sai tên đăng nhập hoặc mật khẩu")
        await expect(page.locator("#password")).to_have_value("")
        await expect(page.locator("#console")).to_be_hidden()
        await page.click("#sign-in .language")
        await enter(page, "an", "wrong again")
        await expect(page.locator("#sign-in-error")).to_contain_text("Name or password is wrong")
        await enter(page, "an", PASSWORD)
        await expect(page.locator("#console")).to_be_visible()
        await expect(page.locator("#link")).to_have_text("● Live")
        (cookie,) = await page.context.cookies()
        assert (cookie.get("httpOnly"), cookie.get("sameSite"), cookie.get("secure")) == (True, "Strict", False)
        assert await page.evaluate("document.cookie") == ""
        await page.click("#sign-out")
        await expect(page.locator("#sign-in")).to_be_visible()
        assert await page.context.cookies() == []
        headers = {"Cookie": f"{cookie.get('name')}={cookie.get('value')}"}
        old = await page.context.request.get(f"{core.url}/api/v1/me", headers=headers)
        assert old.status == 401, "the session is over at the core too"
        assert [url for url in asked if not url.startswith(core.url)] == []
        assert PASSWORD not in str(asked)


async def test_the_card_leaves_room_at_both_sides_of_a_phone(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, _), browser_page() as (page, _):
        await page.set_viewport_size({"width": 360, "height": 740})
        await page.goto(core.url)
        await expect(page.locator("#user")).to_be_visible()
        box = await page.locator("#sign-in").bounding_box()
        assert box is not None
        assert box["x"] >= 8
        assert box["x"] + box["width"] <= 352


async def test_guessing_at_the_page_is_slowed_down_and_says_when_to_go_on(
    dsn: str, state_path: Path, free_ports: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "Attempts", lambda: Attempts(clock=lambda: 0.0))  # no guess is forgotten meanwhile
    async with core_running(dsn, state_path, free_ports) as (core, _), browser_page("en-GB") as (page, _):
        await add_user(core)
        await page.goto(core.url)
        for number in range(10):
            async with page.expect_response("**/api/v1/session"):
                await enter(page, "an", f"guess {number}")
        await enter(page, "an", PASSWORD)
        await expect(page.locator("#sign-in-error")).to_contain_text("Try again in")
        await expect(page.locator("#console")).to_be_hidden()


async def test_an_address_with_a_code_works_where_the_page_is_open_already(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page("en-GB") as (page, _):
        await page.goto(core.url)
        await expect(page.locator("#sign-in")).to_be_visible()
        address = f"{core.url}/#code={(await client.sign_in_code()).code}"
        await page.goto(address)  # only the part behind the # differs: the browser loads nothing
        await expect(page.locator("#link")).to_have_text("● Live")
        await page.goto("about:blank")
        await page.goto(address)  # used, by this very browser
        await expect(page.locator("#link")).to_have_text("● Live")
        await expect(page.locator("#sign-in")).to_be_hidden()
        await page.click("#sign-out")
        await expect(page.locator("#sign-in")).to_be_visible()
        await page.goto(address)
        await expect(page.locator("#sign-in-error")).to_contain_text("code")
        assert page.url == f"{core.url}/"


async def test_a_user_whose_last_right_is_taken_is_told_so(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, _), browser_page("en-GB") as (page, _):
        await add_user(core, "viewer")
        await page.goto(core.url)
        await enter(page, "an", PASSWORD)
        await expect(page.locator("#link")).to_have_text("● Live")
        async with core.pool.acquire() as connection:
            await users.take(connection, "an", [users.UserRight("viewer", None)], by="test")
        await expect(page.locator("#sign-in-error")).to_contain_text("read")
        await page.reload()
        await expect(page.locator("#sign-in-error")).to_contain_text("read")


async def test_a_viewer_is_told_that_a_households_values_are_withheld(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        added = await client.add_device(shapes.DeviceNew(key="wm-1", profile="native-water-meter"))
        body = json.dumps({"time": datetime.now(UTC).isoformat(), "volume": 4711.5, "tamper": True})
        topic = "iot/v1/wm-1/telemetry"
        code, _, err = await command(*mosquitto_pub(core, "wm-1", added.secret or "", topic, body))
        assert code == 0, err
        await add_user(core, "viewer")
        await page.goto(core.url)
        await enter(page, "an", PASSWORD)
        await page.click(".alarm .where")
        await expect(page.locator("#device")).to_contain_text("chỉ hiện với người có quyền")
        assert "4711" not in await page.locator("#device").inner_text()


async def test_over_tls_the_session_is_for_tls_only(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with (
        core_running(dsn, state_path, free_ports, api={"tls": "on"}) as (core, _),
        browser_page("en-GB", ignore_https_errors=True) as (page, _),
    ):
        await add_user(core)
        assert core.url.startswith("https://")
        await page.goto(core.url)
        await enter(page, "an", PASSWORD)
        await expect(page.locator("#link")).to_have_text("● Live")
        (cookie,) = await page.context.cookies()
        assert (cookie.get("httpOnly"), cookie.get("sameSite"), cookie.get("secure")) == (True, "Strict", True)
        await page.click("#sign-out")
        await expect(page.locator("#user")).to_be_visible()
