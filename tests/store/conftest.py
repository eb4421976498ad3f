"""The store is the same on every database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import ON_EVERY, database_of, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=ON_EVERY)
def dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a fresh database after all migrations: in CI of every kind, else of the newest PostgreSQL."""
    with database_of(request, migrate) as made:
        yield made


@pytest.fixture(params=ON_EVERY)
def empty_dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a fresh, empty database, of the same kinds."""
    with database_of(request) as made:
        yield made
