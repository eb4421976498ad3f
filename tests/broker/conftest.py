from __future__ import annotations

import pytest


@pytest.fixture
def dsn(shipped_dsn: str) -> str:
    """Give a database that a core finds as at its second start; tests/cli and tests/drivers make the first one."""
    return shipped_dsn
