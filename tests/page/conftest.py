from __future__ import annotations

import pytest
from playwright.async_api import expect

expect.set_options(timeout=30_000)  # 5 s is not enough for a browser that shares two cores


@pytest.fixture
def dsn(shipped_dsn: str) -> str:
    """Give a database that a core finds as at its second start; tests/cli and tests/drivers make the first one."""
    return shipped_dsn
