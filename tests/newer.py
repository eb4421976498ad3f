"""Programs of Debian 13 out of the tree that scripts/timescaledb makes, run by its own loader and libraries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.servers import Missing

TREE: Final = Path(os.environ.get("IOT_TIMESCALEDB_TREE", "/var/lib/iot-timescaledb"))
_LIBRARIES: Final = TREE / "usr/lib/x86_64-linux-gnu"
_LOADER: Final = TREE / "lib64/ld-linux-x86-64.so.2"


def program(path: str) -> list[str]:
    """Give the first words of a command line, for `usr/sbin/mosquitto`. Raises Missing where there is no such tree."""
    found = TREE / path
    if not found.exists() or not _LOADER.exists():
        raise Missing(f"{found} is not there: sudo scripts/timescaledb install")
    return [str(_LOADER), "--library-path", str(_LIBRARIES), str(found)]
