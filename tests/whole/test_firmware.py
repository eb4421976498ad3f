"""Signed firmware comes to lamps in rings, over a link that loses parts, through a power cut, and back again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from iot_core.api import shapes
from iot_core.client import Client
from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.model import firmware_text
from iot_core.registry.campaigns import rings
from tests.core import command, core_running, until
from tests.whole.test_command_life import Lamp, lamps

pytestmark = pytest.mark.timeout(120)
Free = Callable[[int], int]
IOT = (sys.executable, "-m", "iot_core.cli")
MODEL = "native-streetlight"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw()


def signed(version: str, image: bytes, model: str = MODEL, key: Ed25519PrivateKey = KEY) -> bytes:
    return key.sign(firmware_text(model, version, sha256(image).digest()))


async def added(client: Client, version: str) -> int:
    image = b"lamp " + version.encode()
    return (await client.add_firmware(MODEL, version, image, signed(version, image))).id


@asynccontextmanager
async def processing(*words: str, env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `iot` while the block lasts."""
    process = await asyncio.create_subprocess_exec(*IOT, *words, env=env, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_lamp_takes_an_image_with_a_third_of_it_lost_and_a_power_cut(
    dsn: str, state_path: Path, free_ports: Free, tmp_path: Path
) -> None:
    image = random.Random(1).randbytes(300_000)
    (tmp_path / "lamp.bin").write_bytes(image)
    pem = tmp_path / "release.pem"
    async with core_running(dsn, state_path, free_ports) as (core, client):
        env = {name: value for name, value in os.environ.items() if not name.startswith("IOT_")}
        env |= {"IOT_URL": core.url, "IOT_TOKEN": core.token, "IOT_STATE": str(tmp_path / "iot"), "LC_ALL": "C.UTF-8"}

        async def iot(*words: str) -> Any:
            code, out, err = await command("env", *(f"{k}={v}" for k, v in env.items()), *IOT, *words, within_s=60)
            assert code == 0, err
            return json.loads(out)

        public = (await iot("firmware", "key", str(pem), "--output", "json"))["public_key"]
        assert pem.stat().st_mode & 0o077 == 0
        await iot("firmware", "trust", "acme", public, "--output", "json")
        words = ("add", str(tmp_path / "lamp.bin"), "--model", MODEL, "--version", "1.4", "--key", str(pem))
        number = (await iot("firmware", *words, "--output", "json"))["id"]
        lamp_words = (
            "sim", "run", "--model", MODEL, "--devices", "1", "--firmware-key", public, "--loss", "0.3",
            "--mqtt", f"{core.broker.host}:{core.broker.port}", "--coap", "{}:{}".format(*core.coap),
        )  # fmt: skip
        async with processing(*lamp_words, "--seconds", "60", env=env):
            online = "SELECT key FROM iot.device d JOIN iot.device_status s ON s.device_id = d.id WHERE s.online"
            key = await until(lambda: core.pool.fetchval(online), within_s=30)
            words = ("campaign", str(number), "--where", f"key={key}", "--base-url", core.url, "--output", "json")
            campaign = (await iot("firmware", *words))["id"]
            (flash,) = await until(lambda: list(tmp_path.glob(f"iot-sim/*/flash/{key}/image.part")), within_s=30)
            await until(lambda: flash.stat().st_size > 60_000, within_s=30)
        had = flash.stat().st_size
        assert 60_000 < had < len(image), "the power went in the middle"
        async with processing(*lamp_words, "--seconds", "60", env=env) as lamp:
            least = had

            async def over() -> bool:
                nonlocal least
                with suppress(FileNotFoundError):  # it has booted
                    least = min(least, flash.stat().st_size)
                return (await client.campaign(campaign)).state == "done"

            await until(over, within_s=60)
            lamp.terminate()
            out, _ = await asyncio.wait_for(lamp.communicate(), 30)
        said = json.loads(out.decode().splitlines()[-1])
        assert least == had, "it went on where it was"
        assert 0.15 < said["firmware_lost"] / said["firmware_parts"] < 0.45, said
        kept = json.loads((flash.parent / "flash.json").read_bytes())
        assert (kept["version"], kept["job"], kept["last"]["state"]) == ("1.4", None, "succeeded")
        (update,) = (await client.campaign(campaign)).devices
        assert (update.device, update.state, update.before) == (key, "succeeded", None)
        assert (await client.device(key)).units[0].firmware == "1.4"
        orders = await client.commands(shapes.CommandsQuery(device=key))
        assert len(orders.items) == 1, "one command, whatever happened"


async def in_state(client: Client, number: int, state: str) -> shapes.CampaignDetail:
    async def reached() -> shapes.CampaignDetail | None:
        found = await client.campaign(number)
        return found if found.state == state else None

    found: shapes.CampaignDetail = await until(reached, what=f"campaign {number} is {state}", within_s=30)
    return found


async def test_canaries_first_and_a_campaign_that_fails_pauses_resumes_and_goes_back(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    keys = [f"lamp-{number}" for number in range(8)]
    async with core_running(dsn, state_path, free_ports) as (core, client), AsyncExitStack() as stack:
        mounted = [await stack.enter_async_context(lamp) for lamp in await lamps(core, client, *keys)]
        await until(lambda: core.pool.fetchval("SELECT count(*) = 8 FROM iot.device_status WHERE online"))
        await client.trust_signer("acme", PUBLIC)
        old, new = await added(client, "1.3"), await added(client, "1.4")
        await client.edit_devices(shapes.DeviceEdit(keys=tuple(keys[:7]), firmware="1.3"))
        where = "class=streetlight"
        plan = await client.plan_campaign(new, where, canary=0.1)
        assert (plan.total, plan.rings) == (8, (1, 4, 3))
        campaign = await client.begin_campaign(shapes.CampaignNew(image=new, where=where, canary=0.1, fail_share=0.25))
        with pytest.raises(ConflictError, match="elsewhere"):
            await client.begin_campaign(shapes.CampaignNew(image=old, where=where))

        async def told(count: int) -> list[Lamp]:
            def heard() -> list[Lamp]:
                return [lamp for lamp in mounted if lamp.heard]

            await until(lambda: len(heard()) == count, what=f"{count} lamps are told")
            await asyncio.sleep(1.2)  # the campaign looks each second: nobody else's turn has come
            assert len(heard()) == count
            return heard()

        async def answer(asked: list[Lamp], *failing: Lamp) -> None:
            for lamp in asked:
                assert lamp.heard[-1]["name"] == "firmware"
                await (lamp.answers("failed", "flash worn") if lamp in failing else lamp.answers("succeeded"))
                lamp.heard.clear()

        (canary,) = await told(1)
        await answer([canary], canary)
        paused = await in_state(client, campaign.id, "paused")
        assert (paused.reason, paused.states) == ("failures", {"waiting": 7, "failed": 1})
        assert [each.detail for each in paused.devices if each.state == "failed"] == ["flash worn"]
        with pytest.raises(ConflictError, match="is_not"):
            await client.turn_campaign(campaign.id, "pause")
        await client.turn_campaign(campaign.id, "resume")
        assert await told(1) == [canary], "what failed is tried again, before anybody else"
        await answer([canary])
        second = await told(4)
        await answer(second, *second[:2])
        await in_state(client, campaign.id, "paused")
        await until(lambda: _counts(client, campaign.id, {"waiting": 3, "failed": 2, "succeeded": 3}), within_s=30)
        paused = await client.campaign(campaign.id)
        assert (await client.device(canary.key)).units[0].firmware == "1.4"

        took = {each.device for each in paused.devices if each.state == "succeeded"}
        done = await client.roll_back(campaign.id)
        assert (await client.campaign(campaign.id)).state == "stopped"
        cannot = {"lamp-7"} & took
        assert set(done.cannot) == cannot, "nobody knows what it had before"
        (back,) = done.campaigns
        assert (back.rolls_back, back.version, back.rings) == (campaign.id, "1.3", 1)
        await answer(await told(3 - len(cannot)))
        over = await in_state(client, back.id, "done")
        assert {each.device for each in over.devices} == took - cannot
        assert (await client.device(over.devices[0].device)).units[0].firmware == "1.3"
        again = await client.roll_back(campaign.id)
        assert again.campaigns == (), "who went back stays back"


async def test_a_campaign_outlives_its_core_and_a_late_word_counts(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        first, second = await lamps(core, client, "lamp-1", "lamp-2")
        await client.trust_signer("acme", PUBLIC)
        new = await added(client, "2")
        async with first, second:
            terms = shapes.CampaignNew(image=new, where="class=streetlight", canary=0.5, fail_share=1)
            campaign = (await client.begin_campaign(terms)).id
            await until(lambda: first.heard or second.heard)
    async with core_running(dsn, state_path, free_ports) as (core, client):
        first, second = Lamp(core, "lamp-1", first._secret), Lamp(core, "lamp-2", second._secret)
        async with first, second:
            lost = "UPDATE iot.command SET settle_at = now(), expires_at = now() RETURNING id"
            number = await core.pool.fetchval(lost)

            async def lost_one() -> list[shapes.FirmwareUpdate]:
                return [each for each in (await client.campaign(campaign)).devices if each.state == "failed"]

            (failed,) = await until(lost_one, within_s=30)
            assert failed.said
            canary, other = (first, second) if failed.device == "lamp-1" else (second, first)
            await canary.publish("commands/result", {"id": number, "state": "succeeded"})
            await until(lambda: other.heard, what="the other one's turn comes")
            await other.answers("succeeded")
            done = await in_state(client, campaign, "done")
            await until(lambda: _counts(client, campaign, {"succeeded": 2}))
            assert done.rings == 2
            assert {(await client.device(key)).units[0].firmware for key in ("lamp-1", "lamp-2")} == {"2"}


async def _counts(client: Client, campaign: int, states: dict[str, int]) -> bool:
    return (await client.campaign(campaign)).states == states


async def test_only_what_a_trusted_signer_signed_for_this_model_and_version_is_kept(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (_, client):
        image, stranger = b"image", Ed25519PrivateKey.generate()
        good = signed("1.4", image)
        with pytest.raises(RequestError, match="not_signed"):
            await client.add_firmware(MODEL, "1.4", image, good)
        for key in (b"", b"x" * 31):
            with pytest.raises(RequestError, match="bad_key"):
                await client.trust_signer("acme", key)
        await client.trust_signer("acme", PUBLIC)
        with pytest.raises(ConflictError):
            await client.trust_signer("acme", stranger.public_key().public_bytes_raw())
        for model, version, content, signature in (
            (MODEL, "1.5", image, good), ("tasmota-energy", "1.4", image, good), (MODEL, "1.4", b"other", good),
            (MODEL, "1.4", image, signed("1.4", image, key=stranger)), (MODEL, "1.4", image, b""),
        ):  # fmt: skip
            with pytest.raises(RequestError, match="not_signed"):
                await client.add_firmware(model, version, content, signature)
        added = await client.add_firmware(MODEL, "1.4", image, good)
        assert (added.signer, added.size, added.sha256) == ("acme", 5, sha256(image).hexdigest())
        with pytest.raises(ConflictError, match="version_taken"):
            await client.add_firmware(MODEL, "1.4", image, good)
        with pytest.raises(RequestError, match="nobody"):
            await client.plan_campaign(added.id, "class=streetlight")
        with pytest.raises(NotFoundError):
            await client.plan_campaign(99, "class=streetlight")
        await client.revoke_signer("acme")
        with pytest.raises(RequestError, match="not_signed"):
            await client.add_firmware(MODEL, "1.6", image, signed("1.6", image))
        with pytest.raises(ConflictError, match="signer_revoked"):
            await client.plan_campaign(added.id, "class=streetlight")


async def test_an_image_is_given_in_parts_to_the_device_whose_turn_it_is(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), aiohttp.ClientSession() as http:
        first, second = await lamps(core, client, "lamp-1", "lamp-2")
        await client.trust_signer("acme", PUBLIC)
        image = bytes(range(256)) * 8
        number = (await client.add_firmware(MODEL, "2", image, signed("2", image))).id
        url, tag = f"{core.url}/firmware/{number}", f'"{sha256(image).hexdigest()}"'

        async def fetch(lamp: Lamp, secret: str | None = None, **headers: str) -> tuple[int, bytes, str | None]:
            who = f"{lamp.key}:{lamp._secret if secret is None else secret}".encode()
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            named["Authorization"] = f"Basic {b64encode(who).decode()}"
            async with http.get(url, headers=named) as response:
                return response.status, await response.read(), response.headers.get("Content-Range")

        assert (await fetch(first))[0] == 404, "it is nobody's turn"
        await client.begin_campaign(shapes.CampaignNew(image=number, where="key=lamp-1", canary=1))
        await until(lambda: core.pool.fetchval("SELECT count(*) FROM iot.firmware_update WHERE state = 'running'"))
        assert (await fetch(second))[0] == 404
        assert (await fetch(first, "wrong"))[0] == 401
        async with http.get(url) as response:
            assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Basic realm="firmware"')
        assert await fetch(first) == (200, image, None)
        assert await fetch(first, Range="bytes=0-9") == (206, image[:10], "bytes 0-9/2048")
        assert await fetch(first, Range="bytes=2040-") == (206, image[2040:], "bytes 2040-2047/2048")
        assert await fetch(first, Range="bytes=2040-9999", If_Range=tag) == (206, image[2040:], "bytes 2040-2047/2048")
        assert await fetch(first, Range="bytes=5-9", If_Range='"other"') == (200, image, None)
        assert await fetch(first, Range="bytes=a-b") == (200, image, None)
        assert (await fetch(first, Range="bytes=2048-"))[0] == 416
        for _ in range(12):
            status = (await fetch(first, "guess"))[0]
        assert status == 429, "nobody guesses a secret here"


def test_rings_grow_from_the_canaries() -> None:
    assert rings(1, 0.05) == [1]
    assert rings(1000, 0.05) == [50, 200, 750]
    assert rings(8, 0.1) == [1, 4, 3]
    assert rings(10, 1) == [10]
    assert rings(0, 0.1) == []
