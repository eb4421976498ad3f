from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from iot_core.settings import Store
from iot_core.store.connection import open_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg


@pytest.fixture
async def pool(migrated_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(migrated_dsn, Store()) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer for names that are never there: a server of names that loses the question is waited for, for seconds."""
    look_up = socket.getaddrinfo

    def answered(host: Any, *more: Any, **named: Any) -> Any:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", answered)
