"""A core's API on a loopback port with a real database and the real ingest path; no broker and no drivers."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path as FilePath
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from iot_core.api import make_app
from iot_core.api.services import Services
from iot_core.api.shapes import PREFIX, DeviceNew
from iot_core.client import Client
from iot_core.ingest.replay import replay_address, replay_step
from iot_core.registry.tokens import create
from iot_core.settings import Push, Settings, Store
from iot_core.store.connection import open_readers
from iot_core.store.vault import Vault
from tests.classes import shipped
from tests.ingest.harness import Path, running


@dataclass(slots=True)
class City:
    """A served API, and the ways to ask it."""

    path: Path
    url: str
    app: web.Application
    http: aiohttp.ClientSession
    vault: Vault
    tokens: dict[str, str] = field(default_factory=dict)

    def client(self, role: str = "admin") -> Client:
        """Give a client with a token of this role."""
        return Client(self.url, self.tokens[role], lang="en")

    async def ask(self, method: str, path: str, *, role: str | None = "admin", **options: Any) -> Reply:
        """Make one request and read its whole answer."""
        headers = dict(options.pop("headers", {}))
        if role is not None:
            headers["Authorization"] = f"Bearer {self.tokens[role]}"
        url = self.url + (path if path.startswith("//") else PREFIX + path).replace("//", "/")
        async with self.http.request(method, url, headers=headers, **options) as response:
            data = await response.read()
        return Reply(response.status, response.headers.copy(), data)

    async def add(self, key: str, class_key: str = "fire_detector", **more: Any) -> str:
        """Add a device over the API, give its secret."""
        async with self.client() as client:
            added = await client.add_device(DeviceNew(key=key, class_key=class_key, **more))
        await self.path.reload()
        return added.secret or ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: Any
    data: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.data)


@asynccontextmanager
async def served(
    dsn: str,
    port: int,
    *,
    healthy: Callable[[], bool] = lambda: True,
    store: Store | None = None,
    vault: Vault | None = None,
) -> AsyncIterator[City]:
    """Serve the API of a core over `dsn`."""
    if vault is None:
        with tempfile.TemporaryDirectory() as folder:
            own = Vault(FilePath(folder) / "master.keys")
            own.make()
            async with served(dsn, port, healthy=healthy, store=store, vault=own) as city:
                yield city
        return
    settings = Settings(push=Push(allow_private=True), store=store or Store())
    async with running(dsn, settings) as path, open_readers(dsn, settings.store) as readers:

        async def replay(address: str) -> int:
            await path.reload()
            return await replay_address(path.pool, path.prepare, path.flush, address)

        services = Services(
            pool=path.pool, readers=readers, profiles=shipped(), settings=settings, counters=path.counters,
            replay_address=replay, load=path.loader,
            replay_held=partial(replay_step, path.pool, path.prepare, path.flush),
            healthy=healthy, vault=vault,
        )  # fmt: skip
        app = make_app(services)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            # Each request stands alone: what a browser keeps between them is given by the test.
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
                city = City(path, f"http://127.0.0.1:{port}", app, http, vault)
                async with path.pool.acquire() as connection:
                    for role in ("viewer", "technician", "operator", "admin"):
                        _, city.tokens[role] = await create(connection, f"the {role}", role, by="test")
                yield city
        finally:
            await runner.cleanup()


async def until(condition: Callable[[], Awaitable[Any]], *, seconds: float = 60.0) -> Any:
    """Wait until a condition gives something true, and give that."""
    async with asyncio.timeout(seconds):
        while not (result := await condition()):
            await asyncio.sleep(0.02)
        return result
