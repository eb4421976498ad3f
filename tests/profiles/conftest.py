"""The shipped profiles, loaded once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from iot_core.profiles import Profile, Profiles, load
from tests.profiles.making import Make, making


@cache
def shipped() -> Profiles:
    return load()


@pytest.fixture(scope="session")
def profiles() -> Profiles:
    return shipped()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `profile` runs once for each shipped model."""
    if "profile" in metafunc.fixturenames:
        everything: list[Profile] = list(shipped().all())
        metafunc.parametrize("profile", everything, ids=[each.model for each in everything])


@pytest.fixture
def make(tmp_path: Path, profiles: Profiles) -> Make:
    return making(tmp_path, profiles)
