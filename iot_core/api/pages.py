"""The page: static files from page/, with headers that let a browser load nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aiohttp import web

__all__ = ["HEADERS", "add_routes", "secure"]

FOLDER: Final = Path(__file__).parent / "page"
_KINDS: Final = frozenset({".html", ".js", ".css", ".svg", ".png", ".ico", ".woff2", ".json", ".webmanifest"})
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


async def index(_: web.Request) -> web.StreamResponse:
    """Serve the page."""
    return _file("index.html")


async def static(request: web.Request) -> web.StreamResponse:
    """Serve one of its files."""
    return _file(request.match_info["name"])


def _file(name: str) -> web.StreamResponse:
    """Give a file of the folder itself; a name with a way in it, or a hidden one, is not there."""
    path = FOLDER / name
    if path.parent != FOLDER or name.startswith(".") or path.suffix not in _KINDS or not path.is_file():
        raise web.HTTPNotFound
    return web.FileResponse(path, headers={"Cache-Control": "no-cache"})


async def secure(request: web.Request, response: web.StreamResponse) -> None:
    """Put the security headers on every answer."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    response.headers.setdefault("Cache-Control", "no-store")


def add_routes(router: web.UrlDispatcher) -> None:
    """Serve `/` and `/static/NAME`."""
    router.add_get("/", index)
    router.add_get("/static/{name}", static)
