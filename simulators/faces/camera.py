"""A camera's health on the wire: RTSP and ONVIF's device service on one port, told apart by a request's first line.

OPTIONS rtsp://...     -> 401 with a Digest challenge, then 200     (RFC 2326; RFC 2617 without qop, as cameras ask it)
POST /onvif/device_service -> time for anybody, identity for a login    (WS-Security UsernameToken Profile 1.0)

There is no picture: whatever else is asked gets 405 and is noted as trouble.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from simulators.device import SimDevice, now_ms
from simulators.faults import Hang, NoOnvif, NoStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulators.ledger import Ledger

__all__ = ["LOGIN_NAME", "CameraFace"]

LOGIN_NAME: Final = "iot"
_LONGEST: Final = 16_384
_PATIENCE_S: Final = 30.0
_LOOK_S: Final = 0.2
_FRESH: Final = timedelta(seconds=60)
"""How far a UsernameToken may be off the camera's own clock."""
_TOKEN: Final = re.compile(
    r'Username>(?P<name>[^<]*)<.*?#PasswordDigest"[^>]*>(?P<proof>[^<]*)<.*?Nonce[^>]*>(?P<nonce>[^<]*)<'
    r".*?Created>(?P<created>[^<]*)<",
    re.DOTALL,
)
_FIELD: Final = re.compile(r'(\w+)="([^"]*)"')
_ENVELOPE: Final = '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>{}</s:Body></s:Envelope>'
_DEVICE: Final = 'xmlns:d="http://www.onvif.org/ver10/device/wsdl"'


@dataclass(frozen=True, slots=True)
class Request:
    """One request of RTSP or HTTP, whose heads look alike."""

    method: str
    target: str
    version: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class CameraFace:
    """Plays cameras, and notes each look that was answered."""

    ledger: Ledger

    async def run(self, device: SimDevice, host: str, port: int, stop: asyncio.Event) -> None:
        """Answer until `stop`; while the device is away nothing listens on its port."""
        while not stop.is_set():
            if device.fault.away(device, now_ms()):
                await _either(stop)
                continue
            try:
                server = await asyncio.start_server(Talk(device, self.ledger).serve, host, port)
            except OSError as exc:  # while it was away somebody else took the port
                self.ledger.problems[f"camera: {exc.strerror}"] += 1
                await _either(stop)
                continue
            async with server:
                while not stop.is_set() and not device.fault.away(device, now_ms()):
                    await _either(stop)


async def _either(stop: asyncio.Event) -> None:
    """Wait a moment, or for the end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_S):
            await stop.wait()


@dataclass(frozen=True, slots=True)
class Talk:
    """What a camera says to whoever connects."""

    device: SimDevice
    ledger: Ledger

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests, one after the other."""
        nonce = secrets.token_hex(16)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if isinstance(self.device.fault, Hang):
                    while await reader.read(_LONGEST):
                        pass
                    return
                while (request := await _request(reader)) is not None:
                    writer.write(self._answer(request, nonce))
                    await writer.drain()
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _answer(self, request: Request, nonce: str) -> bytes:
        if request.version.startswith("RTSP/"):
            return self._rtsp(request, nonce)
        if (request.method, request.target) != ("POST", "/onvif/device_service"):
            return _http("404 Not Found", "")
        return self._onvif(request.body.decode(errors="replace"))

    def _rtsp(self, request: Request, nonce: str) -> bytes:
        sequence = request.headers.get("cseq", "0")
        if request.method != "OPTIONS":
            self.ledger.problems[f"camera: asked for {request.method[:20]}"] += 1
            return _rtsp("405 Method Not Allowed", sequence, "Allow: OPTIONS")
        if isinstance(self.device.fault, NoStream):
            return _rtsp("503 Service Unavailable", sequence)
        if not self._proven(request, nonce):
            realm = f'realm="{self.device.key}"'
            return _rtsp(
                "401 Unauthorized", sequence,
                f'WWW-Authenticate: Digest {realm}, nonce="{nonce}"', f"WWW-Authenticate: Basic {realm}",
            )  # fmt: skip
        said = {"reachable": True, "rtsp": True, "rtsp_status": 200}
        self.ledger.acknowledge(self.ledger.send("camera", self.device.key, [(None, said)]))
        return _rtsp("200 OK", sequence, "Public: OPTIONS")

    def _proven(self, request: Request, nonce: str) -> bool:
        """Check a login, of Digest or of Basic."""
        if not self.device.secret:
            return True
        kind, _, said = request.headers.get("authorization", "").partition(" ")
        if kind == "Basic":
            basic = f"{LOGIN_NAME}:{self.device.fault.password(self.device)}".encode()
            return secrets.compare_digest(said.strip().encode(), base64.b64encode(basic))
        fields = dict(_FIELD.findall(said))
        login = f"{LOGIN_NAME}:{self.device.key}:{self.device.fault.password(self.device)}"
        asked = f"{request.method}:{fields.get('uri', '')}"
        proof = _md5(f"{_md5(login)}:{nonce}:{_md5(asked)}")
        return (fields.get("username"), fields.get("nonce")) == (LOGIN_NAME, nonce) and secrets.compare_digest(
            fields.get("response", "").encode(), proof.encode()
        )

    def _onvif(self, body: str) -> bytes:
        if isinstance(self.device.fault, NoOnvif):
            return _fault("500 Internal Server Error", "s:Receiver", "ter:Action")
        now = datetime.now(UTC) + timedelta(seconds=float(self.device.measure(now_ms()).get("clock_offset", 0.0)))
        if "GetSystemDateAndTime" in body:
            return _http("200 OK", _ENVELOPE.format(_time(now)))
        if "GetDeviceInformation" not in body:
            return _fault("400 Bad Request", "s:Sender", "ter:ActionNotSupported")
        if not self._token(body, now):
            return _fault("400 Bad Request", "s:Sender", "ter:NotAuthorized")
        return _http("200 OK", _ENVELOPE.format(_information(self.device)))

    def _token(self, body: str, now: datetime) -> bool:
        """Check a UsernameToken against the camera's own clock."""
        found = _TOKEN.search(body)
        if found is None:
            return not self.device.secret
        try:
            nonce, created = base64.b64decode(found["nonce"]), datetime.fromisoformat(found["created"])
            stale = abs(now - created) > _FRESH
        except (ValueError, TypeError):
            return False
        whole = nonce + found["created"].encode() + self.device.fault.password(self.device).encode()
        proof = base64.b64encode(hashlib.sha1(whole).digest())  # noqa: S324 - the standard's
        return found["name"] == LOGIN_NAME and not stale and secrets.compare_digest(found["proof"].encode(), proof)


async def _request(reader: asyncio.StreamReader) -> Request | None:
    """Read one request; None at the end. Raises ValueError for what is none."""
    first = (await reader.readline()).decode("latin-1").split()
    if not first:
        return None
    method, target, version = first
    headers: dict[str, str] = {}
    while line := (await reader.readline()).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= _LONGEST or len(headers) > 100:
        raise ValueError(length)
    return Request(method, target, version, headers, await reader.readexactly(length))


def _rtsp(status: str, sequence: str, *headers: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"RTSP/1.0 {status}", f"CSeq: {sequence}", *headers, "")).encode()


def _http(status: str, body: str) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/soap+xml; charset=utf-8\r\nContent-Length: "
    return f"{head}{len(body.encode())}\r\n\r\n{body}".encode()


def _fault(status: str, code: str, subcode: str) -> bytes:
    said = f"<s:Code><s:Value>{code}</s:Value><s:Subcode><s:Value>{subcode}</s:Value></s:Subcode></s:Code>"
    return _http(status, _ENVELOPE.format(f"<s:Fault>{said}</s:Fault>"))


def _time(now: datetime) -> str:
    hour = f"<t:Hour>{now.hour}</t:Hour><t:Minute>{now.minute}</t:Minute><t:Second>{now.second}</t:Second>"
    day = f"<t:Year>{now.year}</t:Year><t:Month>{now.month}</t:Month><t:Day>{now.day}</t:Day>"
    return (
        f'<d:GetSystemDateAndTimeResponse {_DEVICE} xmlns:t="http://www.onvif.org/ver10/schema"><d:SystemDateAndTime>'
        f"<t:UTCDateTime><t:Time>{hour}</t:Time><t:Date>{day}</t:Date></t:UTCDateTime></d:SystemDateAndTime>"
        "</d:GetSystemDateAndTimeResponse>"
    )


def _information(device: SimDevice) -> str:
    said = {
        "Manufacturer": "Simulated", "Model": device.plan.model, "FirmwareVersion": "1.0", "SerialNumber": device.key,
        "HardwareId": "0",
    }  # fmt: skip
    fields = "".join(f"<d:{name}>{escape(value)}</d:{name}>" for name, value in said.items())
    return f"<d:GetDeviceInformationResponse {_DEVICE}>{fields}</d:GetDeviceInformationResponse>"


def _md5(said: str) -> str:
    return hashlib.md5(said.encode(), usedforsecurity=False).hexdigest()
