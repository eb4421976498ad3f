"""Devices that come to a registered city: 10,000 in a file, 1,000 that claim themselves."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from iot_core.api import shapes
from iot_core.errors import StartError
from iot_core.settings import child_environment
from iot_core.state import StateDir
from simulators.bench import Say
from simulators.bench.beside import beside
from simulators.bench.claimants import Run
from simulators.bench.registered import WARD
from simulators.bench.stage import Stage

__all__ = ["import_file", "let_in", "let_in_over_mqtt"]

_AT_ONCE: Final = 200
"""Devices that ask in one moment over HTTP; one waits half a minute before it asks again, so a thousand come spread."""
_PATIENCE_S: Final = 120.0
_HEADINGS: Final = "key;name;profile;area;latitude;longitude;serial"


async def import_file(stage: Stage, rows: int, say: Say) -> dict[str, Any]:
    """Import a file by the command that a technician types, and the same file again."""
    file = stage.folder / "meters.csv"
    file.write_text("\r\n".join([_HEADINGS, *map(_row, range(rows)), ""]), encoding="utf-8-sig")
    say("bench_registry.step_import", 0.0)
    first_s, first = await _imported(stage, file)
    say("bench_registry.step_import", 0.5)
    again_s, again = await _imported(stage, file)
    changes = again["added"] + again["changed"] + again["secrets"] + len(again["operations"])
    changes += rows - again["unchanged"]
    return {"first_s": first_s, "added": first["added"], "again_s": again_s, "again_changes": changes}


def _row(number: int) -> str:
    position = f"20,{95_000 + number % 999};107,0{9_000 + number % 999}"
    return f"new-{number:05};Đồng hồ mới {number};native-water-meter;{WARD} {number % 100};{position};N{number:07}"


async def _imported(stage: Stage, file: Path) -> tuple[float, dict[str, Any]]:
    environment = child_environment(IOT_URL=stage.client.url, IOT_TOKEN=StateDir(stage.folder / "core").read_token())
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "iot_core.cli", "device", "import", str(file), "--yes", "--output", "json",
        env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    if process.returncode:
        raise StartError("bench.core_ended", log=(out + err).decode(errors="replace")[-2000:])
    return round(time.perf_counter() - began, 2), msgspec.json.decode(out)


async def let_in(stage: Stage, number: int, say: Say) -> dict[str, Any]:
    """Let devices claim themselves, accept all at once, and let each ask for its secret until it has one."""
    until = datetime.now(UTC) + timedelta(days=1)
    made = await stage.client.new_batch(shapes.BatchNew(count=number, until=until, profile="native-water-meter"))
    claims = [
        {"batch": made.batch.key, "key": made.secret, "serial": f"CLAIM-{n:05}", "reply": secrets.token_urlsafe(24)}
        for n in range(number)
    ]
    async with aiohttp.ClientSession(stage.client.url, connector=aiohttp.TCPConnector(limit=_AT_ONCE)) as session:
        say("bench_registry.step_claims", 0.0)
        began = time.perf_counter()
        waiting = await _claimed(session, claims)
        claimed_s = time.perf_counter() - began
        say("bench_registry.step_claims", 0.3)
        began = time.perf_counter()
        accepted = await stage.client.accept_all(shapes.InboxAcceptAll(driver="claim"))
        accept_s = time.perf_counter() - began
        say("bench_registry.step_claims", 0.6)
        given = await _claimed(session, claims)
        all_s = time.perf_counter() - began
    if waiting["waiting"] != number or len(accepted.items) != number or given["accepted"] != number:
        raise StartError("bench.core_ended", log=f"{waiting} {len(accepted.items)} {given}")
    return _took(claimed_s, accept_s, all_s, number)


async def let_in_over_mqtt(stage: Stage, number: int, say: Say) -> dict[str, Any]:
    """Let devices claim themselves over MQTT, all at once, and accept all: each hears its secret where it waits."""
    until = datetime.now(UTC) + timedelta(days=1)
    made = await stage.client.new_batch(shapes.BatchNew(count=number, until=until, profile="native-water-meter"))
    host, _, port = (made.mqtt or "").partition(":")
    serials = tuple(f"MQTT-{n:05}" for n in range(number))
    said: dict[str, dict[str, float]] = {"began": {}, "waiting": {}, "accepted": {}, "refused": {}}
    run = Run(host, int(port), made.batch.key, made.secret, serials)
    async with beside("simulators.bench.claimants", run) as lines:
        say("bench_registry.step_claims_mqtt", 0.0)
        await _heard(lines, said, "waiting", number)
        claimed_s = max(said["waiting"].values()) - min(said["began"].values())
        say("bench_registry.step_claims_mqtt", 0.5)
        began = time.monotonic()
        await stage.client.accept_all(shapes.InboxAcceptAll(driver="claim"))
        accept_s = time.monotonic() - began
        await _heard(lines, said, "accepted", number)
    return _took(claimed_s, accept_s, max(said["accepted"].values()) - began, number)


async def _heard(lines: asyncio.StreamReader, said: dict[str, dict[str, float]], what: str, number: int) -> None:
    """Read until every device has said this."""
    async with asyncio.timeout(_PATIENCE_S):
        while len(said[what]) < number:
            line = (await lines.readline()).decode().split()
            if not line or line[1] == "refused":
                raise StartError("bench.publisher_failed", exit_code=1)
            said[line[1]].setdefault(line[0], float(line[2]))


def _took(claim_s: float, accept_s: float, all_s: float, number: int) -> dict[str, Any]:
    return {"claim_s": round(claim_s, 2), "accept_s": round(accept_s, 2), "all_s": round(all_s, 2), "secrets": number}


async def _claimed(session: aiohttp.ClientSession, claims: Sequence[dict[str, str]]) -> dict[str, int]:
    gate, found = asyncio.Semaphore(_AT_ONCE), {"waiting": 0, "accepted": 0, "refused": 0}

    async def one(claim: dict[str, str]) -> None:
        async with gate, session.post("/v1/claim", json=claim) as response:
            found[(await response.json())["state"]] += 1

    await asyncio.gather(*(one(claim) for claim in claims))
    return found
