"""`iot db`: the database itself, without the API, whether a core runs or not."""

from __future__ import annotations

from iot_core.cli.base import LazyGroup
from iot_core.messages import text

__all__ = ["db"]

SOURCES = {
    "info": "iot_core.cli.db_info:info",
    "move": "iot_core.cli.db_move:move",
    "verify": "iot_core.cli.db_verify:verify",
    "tidy": "iot_core.cli.db_tidy:tidy",
    "backup": "iot_core.cli.db_backup:backup",
    "restore": "iot_core.cli.db_restore:restore",
}

db = LazyGroup("db", sources=SOURCES, help=text("db.help"), examples=["iot db info", "iot db verify --output json"])
