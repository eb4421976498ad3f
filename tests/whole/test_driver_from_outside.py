"""The driver on the page docs/drivers.md, installed beside a core as somebody else would install it."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from iot_core.api import shapes
from tests.core import core_running, until
from tests.servers import ROOT

pytestmark = pytest.mark.timeout(90)
GUIDE = (ROOT / "docs" / "drivers.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module and its metadata on the path: what pip leaves behind."""
    site = tmp_path / "site"
    metadata = site / "acme_camera-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "acme_camera.py").write_text(block("python"), encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-camera\nVersion: 1.0\n")
    points = re.search(r'\[project.entry-points."(.*?)"\]\n(.*)', block("toml"))
    assert points is not None
    (metadata / "entry_points.txt").write_text(f"[{points[1]}]\n{points[2].replace(chr(34), '')}\n")
    profiles = tmp_path / "profiles"
    (profiles / "camera_health").mkdir(parents=True)
    (profiles / "camera_health" / "acme_camera.yaml").write_text(block("yaml"), encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    return profiles


async def test_the_driver_of_the_guide_works_beside_a_core(
    dsn: str, state_path: Path, free_ports: Callable[[int], int], installed: Path
) -> None:
    port = free_ports(1)
    async with core_running(dsn, state_path, free_ports, profiles=str(installed)) as (core, client):
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
        async with server:
            added = shapes.DeviceNew(key="cam-01", profile="acme-camera", address=f"127.0.0.1:{port}")
            assert (await client.add_device(added)).address == f"acme://127.0.0.1:{port}"

            async def stored() -> list[bool]:
                rows = await core.pool.fetch("SELECT reachable FROM telemetry.camera_health")
                return [row["reachable"] for row in rows]

            await until(stored)
            assert await stored() == [True]
            now = await client.read_now("cam-01")
            assert {item.metric: item.value for item in now.items}["reachable"] is True
