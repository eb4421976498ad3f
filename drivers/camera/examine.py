"""One look at one camera: every wait has a deadline, every answer a bound, and nothing raises.

A login that is refused is shown once a look, and in the looks that hold it back not at all: cameras lock an account
after a few wrong ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp

from drivers.camera import onvif, rtsp
from drivers.camera.address import Address

__all__ = ["examine", "refusals"]

STEP_S: Final = 5.0
_AWAY: Final = (OSError, TimeoutError, aiohttp.ClientError, ValueError)
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_REFUSED: Final = "NotAuthorized"
_ASKED: Final = ("rtsp", "onvif")


async def examine(
    address: Address, login: tuple[str, str] | None, held_back: frozenset[str] = frozenset()
) -> Mapping[str, Any]:
    """Say how a camera is: what the profile `onvif-camera` reads.

    `held_back` names what refused the login before: it is shown to nobody then, and they count as refusing it still.
    """
    found: dict[str, Any] = {"reachable": False, "time": None}
    await _rtsp(address, login, held_back, found)
    if address.onvif_port is not None:
        if refusals(found):  # nearly all have one account for both, and this would be its second wrong login
            held_back |= {"onvif"}
        await _onvif(address, login, held_back, found)
    accepted = found.pop("accepted", False)
    if refusals(found) or accepted:
        found["login"] = {"ok": not refusals(found)}
    found["time"] = datetime.now(UTC).isoformat()
    return found


def refusals(found: Mapping[str, Any]) -> frozenset[str]:
    """Name what refused the login in a look."""
    return frozenset(each for each in _ASKED if found.get(each, {}).get("error") == _REFUSED)


async def _rtsp(
    address: Address, login: tuple[str, str] | None, held_back: frozenset[str], found: dict[str, Any]
) -> None:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(STEP_S):
            reader, writer = await asyncio.open_connection(address.host, address.rtsp_port)
    except _AWAY as exc:
        found["rtsp"] = {"ok": False, "error": type(exc).__name__}
        return
    found["reachable"], found["connect_ms"] = True, _ms(began)
    began = time.perf_counter()
    try:
        async with asyncio.timeout(STEP_S):
            shown_login = None if held_back else login
            status, shown = await rtsp.options(reader, writer, address.rtsp_url, shown_login)
    except _AWAY as exc:
        found["rtsp"] = {"ok": False, "error": type(exc).__name__}
    else:
        refused = status == _UNAUTHORIZED and (shown or "rtsp" in held_back)
        # A stream that asks who we are, or refuses us, is a stream: a wrong password is said by `login` alone.
        ok = status in {_OK, _UNAUTHORIZED}
        found["rtsp"] = {"ok": ok, "status": status, "ms": _ms(began)} | ({"error": _REFUSED} if refused else {})
        found["accepted"] = shown and status == _OK
    finally:
        writer.close()
        with suppress(*_AWAY):
            async with asyncio.timeout(STEP_S):
                await writer.wait_closed()


async def _onvif(
    address: Address, login: tuple[str, str] | None, held_back: frozenset[str], found: dict[str, Any]
) -> None:
    timeout = aiohttp.ClientTimeout(total=STEP_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            asked = datetime.now(UTC)
            _, answer = await _ask(session, address, onvif.envelope(onvif.TIME))
            found["reachable"] = True
            said = onvif.read_time(answer)
            if said is None and not onvif.read_fault(answer):
                return  # something answers there, and it is no ONVIF
            half = (datetime.now(UTC) - asked) / 2
            offset = None if said is None else round((said - asked - half).total_seconds(), 1)
            found["onvif"] = {"ok": said is not None, "clock_offset_s": offset}
            if "onvif" in held_back:
                found["onvif"] |= {"ok": False, "error": _REFUSED}
            elif login is not None and not held_back:
                status, answer = await _ask(session, address, onvif.envelope(onvif.DEVICE_INFORMATION, login, said))
                identity = onvif.read_identity(answer)
                found["onvif"]["ok"] = identity is not None
                if identity is None:
                    unsaid = _REFUSED if status == _UNAUTHORIZED else "no answer"
                    found["onvif"]["error"] = onvif.read_fault(answer) or unsaid
                else:
                    found["accepted"] = True
                    found["onvif"] |= {
                        "manufacturer": identity.manufacturer, "model": identity.model,
                        "firmware": identity.firmware, "serial": identity.serial,
                    }  # fmt: skip
    except _AWAY as exc:
        if login is not None or "onvif" in found:
            found["onvif"] = {"ok": False, "error": type(exc).__name__}


async def _ask(session: aiohttp.ClientSession, address: Address, body: bytes) -> tuple[int, bytes]:
    """Post a question; a fault comes with status 400 or 500 and is an answer too."""
    headers = {"Content-Type": "application/soap+xml; charset=utf-8"}
    async with session.post(address.onvif_url, data=body, headers=headers, allow_redirects=False) as response:
        return response.status, await response.content.read(onvif.LONGEST)


def _ms(since: float) -> float:
    return round((time.perf_counter() - since) * 1000, 1)
