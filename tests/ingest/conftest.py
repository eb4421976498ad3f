"""What the ingest path promises, it promises on every database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import ON_EVERY, database_of, with_shipped_classes

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=ON_EVERY)
def dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a fresh database with the shipped classes: in CI of every kind, else of the newest PostgreSQL."""
    with database_of(request, with_shipped_classes) as made:
        yield made
