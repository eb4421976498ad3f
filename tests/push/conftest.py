from __future__ import annotations

from typing import TYPE_CHECKING

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
