"""What operators do with alarms on the page, in a real browser: every deed, by mouse, keyboard and on a phone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from iot_core.api import shapes
from iot_core.app import Core
from tests.core import core_running, until
from tests.page.test_page import browser_page, burn, detector, signed_in

pytestmark = pytest.mark.browser

Free = Callable[[int], int]
PICTURES = os.environ.get("IOT_TEST_PICTURES", "")


async def picture(page: Page, name: str) -> None:
    """Keep a picture where a person asked for them."""
    if PICTURES:
        await page.screenshot(path=f"{PICTURES}/{name}.png")


async def deed(page: Page, name: str, **words: str) -> None:
    """Press a deed's button, fill in what it asks, and send it."""
    panel = page.locator("#alarm")
    await panel.locator(f"[data-do={name}]").click()
    for field, word in words.items():
        input_ = panel.locator(f"form [name={field}]")
        await (input_.select_option(word) if field == "hours" else input_.fill(word))
    await panel.locator("form button:not(.quiet)").click()
    await expect(panel.locator(".said")).to_have_text("Đã xong.")


async def test_every_deed_of_an_alarms_life_is_done_on_the_page(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        await burn(core, await detector(client))
        await signed_in(page, core, client)
        await page.click(".alarm .details")
        panel = page.locator("#alarm")
        await expect(panel).to_contain_text("chưa xác nhận")
        await deed(page, "assign", to="lan")
        await expect(panel.locator(".head")).to_contain_text("giao cho lan")
        await deed(page, "comment", note="Xe đã đi\n<b>ngay</b>")
        await expect(panel.locator(".rest")).to_contain_text("<b>ngay</b>")
        await picture(page, "panel-wide")
        await panel.locator("[data-do=acknowledge]").click()
        await expect(panel.locator(".head")).to_contain_text("đã xác nhận")
        await panel.locator("[data-do=undo]").click()  # a wrong click
        await expect(panel.locator("[data-do=acknowledge]")).to_be_visible()
        await _quiet_and_back(page, panel)
        await _closed_and_reopened(page, panel, core)
        kinds = [event.kind for event in (await client.alarm(1)).events]
    assert kinds == [
        "raised", "assigned", "commented", "acknowledged", "undone", "shelved", "unshelved", "raised", "cleared",
        "closed", "reopened",
    ]  # fmt: skip


async def _quiet_and_back(page: Page, panel: Any) -> None:
    await deed(page, "shelve", hours="4", note="đang sửa")
    await expect(page.locator("#alarms > li")).to_have_count(0)
    await expect(panel.locator(".head")).to_contain_text("đang sửa")
    await page.select_option("#view", "quiet")
    await expect(page.locator("#alarms > li")).to_contain_text("tạm hoãn đến")
    await panel.locator("[data-do=unshelve]").click()
    await expect(panel.locator("[data-do=shelve]")).to_be_visible()
    await page.select_option("#view", "open")
    await expect(page.locator("#alarms > li")).to_have_count(1)


async def _closed_and_reopened(page: Page, panel: Any, core: Core) -> None:
    await panel.locator("[data-do=close]").click()
    await panel.locator("form [name=note]").fill("khói bếp")
    await panel.locator("form button:not(.quiet)").click()
    await expect(panel.locator(".said.error")).to_contain_text("vẫn còn")  # it burns still: said, and nothing is lost
    await expect(panel.locator("form [name=note]")).to_have_value("khói bếp")
    await core.pool.execute("UPDATE iot.alarm SET cleared_at = now(), latched = false")
    await core.pool.execute("INSERT INTO iot.alarm_event (alarm_id, kind, at) VALUES (1, 'cleared', now())")
    await panel.locator("form button:not(.quiet)").click()
    await expect(panel.locator(".head")).to_contain_text("nguyên nhân: khói bếp")
    await expect(page.locator("#alarms > li")).to_have_count(0)
    await page.select_option("#view", "closed")
    await page.click("#alarms .details")
    await deed(page, "reopen", note="khói trở lại")
    await page.select_option("#view", "open")
    await expect(page.locator("#alarms > li")).to_have_count(1)


async def test_deeds_work_by_keyboard_alone_and_what_one_writes_survives_what_others_do(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        await burn(core, await detector(client))
        await signed_in(page, core, client)
        await page.locator(".alarm .details").focus()
        await page.keyboard.press("Enter")
        panel = page.locator("#alarm")
        await expect(panel.locator(".close")).to_be_focused()
        await panel.locator("[data-do=comment]").focus()
        await page.keyboard.press("Enter")
        await page.keyboard.type("Đã gọi")
        await client.alarm_do(1, shapes.AlarmDeed(do="assign", to="minh"))  # another operator, meanwhile
        await expect(panel.locator(".head")).to_contain_text("giao cho minh")
        await expect(panel.locator("form [name=note]")).to_be_focused()
        await page.keyboard.type(" 114")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(panel.locator(".said.error")).to_contain_text("đã thay đổi")  # seen, and sent again on purpose
        await page.keyboard.press("Enter")
        await expect(panel.locator(".rest")).to_contain_text("Đã gọi 114")
        await panel.locator("[data-do=comment]").focus()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Escape")
        await expect(panel.locator("[data-do=comment]")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(panel).to_be_hidden()
        await expect(page.locator(".alarm .details")).to_be_focused()


INCIDENT = """
WITH place AS (INSERT INTO iot.area (key, name, name_en, kind)
    VALUES ('hong-gai', 'Phường Hồng Gai', 'Hong Gai Ward', 'ward') RETURNING id),
raised AS (
    INSERT INTO iot.alarm (source_kind, source_id, rule, severity, title_vi, title_en, raised_at, received_at)
    SELECT 'area', id, 'incident.streetlight.lamp_failure', 'high', 'Mất điện', 'Power cut', now(), now() FROM place
    RETURNING id)
INSERT INTO iot.alarm (source_kind, source_id, device_id, rule, severity, title_vi, title_en, raised_at, received_at,
    incident_id, suppressed_by)
SELECT 'device', d.id, d.id, 'streetlight.lamp_failure', 'low', 'Đèn hỏng', 'Lamp failure', now(), now(), raised.id,
    'incident:' || raised.id FROM raised, iot.device d
"""
TOLD = "INSERT INTO iot.alarm_event (alarm_id, kind, at) SELECT id, 'raised', now() FROM iot.alarm"
UNSAID = r"document.body.innerText.match(/\b(?:page\.|(?:do|event|is|span)_)[a-z_]+/)"


async def test_an_incident_holds_its_alarms_and_a_shift_is_handed_over_on_a_phone_in_english(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        for number in range(3):
            await client.add_device(shapes.DeviceNew(key=f"lamp-{number}", profile="native-streetlight"))
        await signed_in(page, core, client)
        await core.pool.execute(INCIDENT)
        # Each is told, and the list still holds the incident only.
        await core.pool.execute(TOLD)
        await page.set_viewport_size({"width": 360, "height": 740})
        await expect(page.locator("#alarms > li")).to_contain_text("Phường Hồng Gai")
        await page.click("header .language")
        await expect(page.locator("#alarms > li")).to_contain_text("3 alarms inside")
        await expect(page.locator("#alarms > li")).to_contain_text("Hong Gai Ward")
        await page.click(".alarm .details")
        panel = page.locator("#alarm")
        await expect(panel).to_be_in_viewport(ratio=1)
        await picture(page, "incident-phone")
        await panel.get_by_role("button", name="lamp-1").click()
        await expect(panel.locator("h3")).to_have_text("Lamp failure")
        await panel.get_by_role("button", name="Part of incident 1").click()
        await expect(panel.locator("h3")).to_have_text("Power cut")
        await page.keyboard.press("Escape")
        await page.click("#hand-over")
        await panel.locator("[name=to]").fill("minh")
        await panel.locator("[name=note]").fill("Pump 3 is out")
        await panel.locator("form button:not(.quiet)").click()
        await expect(panel).to_contain_text("handed over to minh")
        await expect(panel).to_contain_text("seen by")
        await picture(page, "handover-phone")
        await until(lambda: core.pool.fetchval("SELECT taken_by = 'minh' FROM iot.handover"))
        assert await page.evaluate(UNSAID) is None
        await expect(page.locator("#alarms > li")).to_have_count(1)


LONG = """
INSERT INTO iot.alarm (source_kind, source_id, rule, severity, title_vi, title_en, raised_at, received_at)
VALUES ('outside', 0, 'core.store', 'high', repeat('Cháy', 2500), 'x', now(), now())
"""


async def test_a_title_without_end_is_cut_in_the_list_and_whole_in_its_panel(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        await signed_in(page, core, client)
        await core.pool.execute(LONG)
        await core.pool.execute(TOLD)
        name = page.locator("#alarms > li strong")
        await expect(name).to_have_text("Cháy" * 29 + "Chá…")
        assert await page.evaluate("document.getElementById('alarm-part').scrollWidth <= innerWidth")
        assert await name.evaluate("(each) => each.scrollWidth <= each.parentElement.clientWidth")
        await page.click(".alarm .details")
        await expect(page.locator("#alarm h3")).to_have_text("Cháy" * 2500)


async def test_who_only_looks_is_offered_no_deeds(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), browser_page() as (page, _):
        await burn(core, await detector(client))
        viewer = (await client.add_token("wall", shapes.Role.VIEWER)).secret
        await page.goto(core.url)
        await page.fill("#secret", viewer)
        await page.click("#sign-in button:not(.quiet)")
        await page.click(".alarm .details")
        await expect(page.locator("#alarm .rest")).to_contain_text("phát sinh")
        await expect(page.locator("#alarm [data-do]")).to_have_count(0)
        await expect(page.locator("#hand-over")).to_be_hidden()
