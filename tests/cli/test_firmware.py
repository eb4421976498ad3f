"""`iot firmware` as people type it: whose signature counts, images, a campaign that is looked at before it is begun."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iot_core.api import shapes
from iot_core.client import Client
from tests.cli.conftest import IOT

if TYPE_CHECKING:
    from tests.cli.conftest import Core

MODEL = "native-panic-button"
KEYS = [f"fw-{number:02}" for number in range(11)]


@pytest.fixture
def buttons(core: Core) -> Iterator[None]:
    """Let there be eleven panic buttons, and none afterwards."""

    async def add() -> None:
        async with Client(core.url, core.token.strip()) as client:
            await client.add_devices([shapes.DeviceNew(key=key, profile=MODEL) for key in KEYS])

    async def retire() -> None:
        async with Client(core.url, core.token.strip()) as client:
            for key in KEYS:
                await client.remove_device(key)

    asyncio.run(add())
    yield
    asyncio.run(retire())


@pytest.mark.usefixtures("buttons")
def test_signers_images_and_a_campaign_from_the_command_line(core: Core, tmp_path: Path) -> None:
    pem, file = tmp_path / "release.pem", tmp_path / "button.bin"
    file.write_bytes(b"button")
    made = core("firmware", "key", str(pem))
    assert (made.code, pem.stat().st_mode & 0o777) == (0, 0o600)
    public = made.out.split()[-1]
    assert "PRIVATE" not in made.out + made.err
    again = core("firmware", "key", str(pem))
    assert (again.code, "never overwritten" in again.err) == (1, True)

    add = ("firmware", "add", str(file), "--model", MODEL, "--version", "7")
    assert "Give either --key or --signature" in core(*add).err
    assert "no Ed25519 private key" in core(*add, "--key", str(file)).err
    unsigned = core(*add, "--key", str(pem))
    assert (unsigned.code, "No trusted signer" in unsigned.err) == (1, True)
    assert "64 hexadecimal digits" in core("firmware", "trust", "buttons", "nonsense").err
    assert core("firmware", "trust", "buttons", public).code == 0
    assert public in core("firmware", "signers", "--output", "csv").out
    number = str(core.json(*add, "--key", str(pem))["id"])
    assert "phiên bản" in core("firmware", "list", "--lang", "vi").out.lower()

    unknown = core("firmware", "add", str(file), "--model", "nope", "--version", "7", "--key", str(pem))
    assert (unknown.code, "no profile nope" in unknown.err) == (1, True)

    begin = ("firmware", "campaign", number, "--where", f"profile={MODEL}", "--canary", "0.1")
    looked = core(*begin, "--dry-run")
    assert (looked.code, "11 devices in rings of 1 + 4 + 6" in looked.out) == (0, True)
    assert core.json("firmware", "status") == []
    asked = core(*begin)
    assert (asked.code, "--yes" in asked.err) == (1, True)
    campaign = str(core.json(*begin, "--yes")["id"])
    assert "is in campaign" in core(*begin, "--dry-run").err
    shown = core("firmware", "status", campaign)
    assert (shown.code, "1/3" in shown.out, "fw-03" in shown.out) == (0, True, True)
    told = core("command", "list").out
    assert ("version=7" in told, "signature" in told) == (True, False)
    assert core.json("firmware", "pause", campaign)["state"] == "paused"
    followed = core("firmware", "status", campaign, "--follow", "--lang", "vi")
    assert "tạm dừng" in followed.out
    twice = core("firmware", "pause", campaign)
    assert (twice.code, "is paused" in twice.err) == (1, True)
    assert core.json("firmware", "status", campaign)["states"] == {"waiting": 11}, "what had not left is taken back"
    assert core.json("firmware", "rollback", campaign) == {"campaigns": [], "cannot": []}
    assert core.json("firmware", "status")[0]["state"] == "stopped"
    assert "There is no campaign 999" in core("firmware", "stop", "999").err
    assert core("firmware", "revoke", "buttons").code == 0
    assert "trusted no more" in core(*begin, "--dry-run").err

    env = core.environment(
        {"_IOT_COMPLETE": "bash_complete", "COMP_WORDS": "iot firmware campaign ", "COMP_CWORD": "3"}
    )
    done = subprocess.run([*IOT], env=env, capture_output=True, timeout=60, check=True)
    assert number in [line.partition(",")[2] for line in done.stdout.decode().splitlines()]
