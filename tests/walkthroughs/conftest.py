from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import servers
from tests.cli.conftest import Core, running_core
from tests.walkthroughs.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def city() -> Iterator[Core]:
    """Run one core for all walkthroughs: each person has devices and areas of their own."""
    with running_core(servers.free_ports(3)) as running:
        yield running


@pytest.fixture
def terminal(city: Core) -> Terminal:
    """Sit down at a terminal."""
    return Terminal(city)
