from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.city import City, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
async def city(shipped_dsn: str, free_port: Callable[[], int]) -> AsyncIterator[City]:
    """Give a served API over a fresh database."""
    async with served(shipped_dsn, free_port()) as made:
        yield made
