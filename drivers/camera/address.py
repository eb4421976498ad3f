"""Where a camera is, read out of its unit's address. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

__all__ = ["Address", "read_address"]

RTSP_PORT: Final = 554
ONVIF_PORT: Final = 80


@dataclass(frozen=True, slots=True)
class Address:
    """The camera's host, its RTSP port and path, and its ONVIF port; None when it was said to have none."""

    host: str
    rtsp_port: int
    path: str
    onvif_port: int | None

    @property
    def rtsp_url(self) -> str:
        """What RTSP asks for."""
        return f"rtsp://{self._host}:{self.rtsp_port}{self.path}"

    @property
    def onvif_url(self) -> str:
        """ONVIF's device service, whose path the standard fixes (Core Specification 5.1.1)."""
        return f"http://{self._host}:{self.onvif_port}/onvif/device_service"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def read_address(text: str) -> Address:
    """Read `camera://10.0.3.9:554/stream1?onvif=8080`. Raises ValueError saying what was expected."""
    parts = urlsplit(text)
    query = parse_qs(parts.query)
    if parts.scheme != "camera" or not parts.hostname or set(query) - {"onvif"}:
        raise ValueError("camera://HOST[:PORT][/PATH][?onvif=PORT]")
    if parts.username or parts.password:
        raise ValueError("an address without a login in it; give that with `iot device login`")
    said = query.get("onvif", [str(ONVIF_PORT)])[0]
    if said != "off" and not (said.isdigit() and 0 < int(said) < 65_536):
        raise ValueError("onvif=PORT, or onvif=off")
    return Address(parts.hostname, parts.port or RTSP_PORT, parts.path or "/", None if said == "off" else int(said))
